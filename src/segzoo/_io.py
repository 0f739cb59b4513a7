"""Files that appear whole or not at all.

Floor 0: masks, overlays, checkpoints and exported graphs are all written so.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segzoo.errors import OptionError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Gives an empty file beside `path` to write to; at the end it takes that name, after an error it is gone.

    It has the ending of `path`, since some writers go by that. A file that was at `path` stays until the rename.

    Raises:
        OSError: the folder does not exist or cannot be written to; at once, and not after the work.
    """
    # In the same folder, since a rename is atomic only within one file system.
    draft = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    draft.touch(exist_ok=False)
    permissions = draft.stat().st_mode & 0o777
    try:
        yield draft
        os.chmod(draft, permissions)  # safetensors makes its files for their owner alone
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def with_ending(path: Path, ending: str) -> Path:
    """The path with an ending such as ".onnx", which is added where there is none.

    Raises:
        OptionError: it has another, so that something else was meant.
    """
    if path.suffix == ending:
        return path
    if path.suffix:
        raise OptionError(
            f"{path} ends in {path.suffix}, and the file to write is {ending}. Name it {path.with_suffix(ending)}, or "
            f"{path.name}{ending}."
        )
    return path.with_name(f"{path.name}{ending}")
