"""Files: written completely or not at all, and similar names for those that do not exist."""

import itertools
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segzoo.errors import OptionError, similar

_MAX_SIBLINGS = 5_000
"""Names in a folder that are compared with a misspelled one, which takes a tenth of a second."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields an empty draft file in the folder of `path`, and renames it to `path` at the end.

    After an error the draft is deleted. An existing file at `path` stays until the rename. The draft has the suffix of
    `path`, because some writers choose the format by it.

    Raises:
        OSError: the folder does not exist or is not writable; raised on entry, before any work is done.
    """
    # In the same folder, since a rename is atomic only within one file system.
    draft = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    draft.touch(exist_ok=False)
    permissions = draft.stat().st_mode & 0o777
    try:
        yield draft
        os.chmod(draft, permissions)  # safetensors makes its files readable by their owner only
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def require_suffix(path: Path, suffix: str) -> Path:
    """`path` with a suffix such as ".onnx", which is appended if the path has none.

    Raises:
        OptionError: the path has another suffix, so it probably names something else.
    """
    if path.suffix == suffix:
        return path
    if path.suffix:
        raise OptionError(
            f"{path} ends in {path.suffix}, and the file to write is {suffix}. Name it {path.with_suffix(suffix)}, or "
            f"{path.name}{suffix}."
        )
    return path.with_name(f"{path.name}{suffix}")


def similar_paths(path: Path) -> list[str]:
    """Up to three paths whose names are similar to that of a missing one, in the same folder; for `did_you_mean`."""
    try:
        with os.scandir(path.parent) as entries:
            names = sorted(entry.name for entry in itertools.islice(entries, _MAX_SIBLINGS))
    except (OSError, ValueError):  # no such folder, or no path that a folder can have
        return []
    others = [name for name in names if name != path.name]  # a broken link is there, and yet no file
    return [str(path.with_name(name)) for name in similar(path.name, others)]
