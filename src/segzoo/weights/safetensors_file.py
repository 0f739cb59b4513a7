"""Opening .safetensors files."""

from pathlib import Path
from typing import Any

from safetensors import safe_open

MAX_HEADER = 2**24
"""Bytes of the JSON header. The 3,000 tensors of timm's largest networks take 0.4 million, and 65,536 classes with long
names and colors 8 million. The library itself parses up to 100 million, which takes a gigabyte of memory."""


def open_tensors(path: Path, framework: str) -> Any:
    """The open file, a context manager, with its tensors as those of "pt" or "numpy".

    Raises:
        ValueError: the header is too large.
        OSError, safetensors.SafetensorError: the file cannot be read, or is damaged.
    """
    check_header(path)
    return safe_open(path, framework=framework)


def check_header(path: Path) -> None:
    """Reads the header's length, which is the first eight bytes, before anything reads the header.

    Raises:
        ValueError: it is larger than `MAX_HEADER`.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise ValueError(f"its header claims {length:,} bytes, and at most {MAX_HEADER:,} are read")
