"""The folder of a report: it holds what one run wrote, and what is not segzoo's stays as it is."""

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


def check(folder: Path, names: Sequence[str], force: bool) -> None:
    """Makes sure that a report may go into a folder, which need not exist.

    Args:
        names: the files that are written into it; pictures of the worst images go with `EVALUATION`.
        force: whether an earlier report may be replaced.

    Raises:
        OptionError: it is a file; it holds such files or pictures of the worst images, and `force` is False; it holds
            pictures that no earlier report names, which nobody may delete.
    """
    check_folder(folder)
    pictures = _numbered(folder) if EVALUATION in names else []
    there = [path for path in (*(folder / name for name in names), *pictures) if os.path.lexists(path)]
    if there and not force:
        raise OptionError(f"{there[0]} exists. Pass --force to replace the report, or choose another folder with -o.")
    strange = sorted({*pictures} - {*_earlier(folder)})
    if strange:
        raise OptionError(
            f"{folder / EVALUATION} does not name {strange[0]}, so --force will not delete it, and the report would be "
            "mixed. Move it away, or choose another folder with -o."
        )


@contextmanager
def written(folder: Path, names: Sequence[str], force: bool) -> Iterator[Path]:
    """Gives a folder to write a report to; at the end its files take the places of an earlier report's.

    Raises:
        OptionError: see `check`, which is asked again before anything is replaced.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # In the same folder, since a rename is atomic only within one file system.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".report.") as held:
            draft = Path(held)
            yield draft
            check(folder, names, force)
            for path in _earlier(folder) if EVALUATION in names else ():
                path.unlink()
            for path in sorted(path for path in draft.rglob("*") if path.is_file()):
                target = folder / path.relative_to(draft)
                target.parent.mkdir(exist_ok=True)
                os.replace(path, target)
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()


def picture(place: int, name: str) -> str:
    """The path, within a report, of an image among the worst.

    Args:
        place: from 1 up.
        name: the image's, in its data.
    """
    return f"{WORST}/{place:02}-{name.replace('/', '-')}.jpg"


def _numbered(folder: Path) -> list[Path]:
    """What in worst/ a reader would take for a picture of the report."""
    return [path for path in sorted((folder / WORST).glob("*.jpg")) if re.match(r"\d{2,}-", path.name)]


def _earlier(folder: Path) -> list[Path]:
    """The pictures that the evaluation in a folder has written."""
    try:
        record = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
        names = {image["name"].replace("/", "-") for image in record["images"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # then it names none
    return [path for path in _numbered(folder) if path.stem.partition("-")[2] in names]
