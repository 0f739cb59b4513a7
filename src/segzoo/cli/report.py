"""The folder of a report. It holds the files of one run; files that segzoo did not write stay untouched."""

import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from segzoo.cli.validators import check_folder
from segzoo.errors import OptionError

EVALUATION = "evaluation.json"
CONFUSION = "confusion.png"
WORST = "worst"


def check_report(folder: Path, names: Sequence[str], force: bool) -> None:
    """Checks that a report may be written to a folder, which need not exist.

    Args:
        names: the files of the report; if `EVALUATION` is one, so are the pictures of the worst images.
        force: whether an earlier report may be replaced.

    Raises:
        OptionError: the folder is a file; it holds such files and `force` is False; or it holds pictures that its
            evaluation does not name, so that they may be the user's.
    """
    check_folder(folder)
    pictures = _numbered_pictures(folder) if EVALUATION in names else []
    existing = [path for path in (*(folder / name for name in names), *pictures) if os.path.lexists(path)]
    if existing and not force:
        raise OptionError(
            f"{existing[0]} exists. Pass --force to replace the report, or choose another folder with -o."
        )
    unnamed = sorted({*pictures} - {*_earlier_pictures(folder)})
    if unnamed:
        raise OptionError(
            f"{folder / EVALUATION} does not name {unnamed[0]}, so --force will not delete it, and two reports would "
            "be mixed. Move it away, or choose another folder with -o."
        )


@contextmanager
def atomic_report(folder: Path, names: Sequence[str], force: bool) -> Iterator[Path]:
    """Yields a draft folder; at the end, its files replace those of an earlier report.

    Raises:
        OptionError: see `check_report`, which is called again before anything is replaced.
    """
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # In the same folder, because a rename is atomic only within one file system.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".report.") as name:
            draft = Path(name)
            yield draft
            check_report(folder, names, force)
            for path in _earlier_pictures(folder) if EVALUATION in names else ():
                path.unlink()
            for path in sorted(path for path in draft.rglob("*") if path.is_file()):
                target = folder / path.relative_to(draft)
                target.parent.mkdir(exist_ok=True)
                os.replace(path, target)
    finally:
        if created and not any(folder.iterdir()):
            folder.rmdir()


def picture_path(rank: int, name: str) -> str:
    """The path, within a report, of one of the worst images.

    Args:
        rank: from 1 up, the worst first.
        name: the image's name in its data set.
    """
    return f"{WORST}/{rank:02}-{name.replace('/', '-')}.jpg"


def _numbered_pictures(folder: Path) -> list[Path]:
    """The files in worst/ that look like pictures of a report."""
    return [path for path in sorted((folder / WORST).glob("*.jpg")) if re.match(r"\d{2,}-", path.name)]


def _earlier_pictures(folder: Path) -> list[Path]:
    """The pictures that belong to the evaluation in a folder."""
    try:
        record = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
        names = {image["name"].replace("/", "-") for image in record["images"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []  # no readable evaluation, so it names no pictures
    return [path for path in _numbered_pictures(folder) if path.stem.partition("-")[2] in names]
