"""Text, JSON and TOML from strangers' files, bounded in length and in depth before anything else looks at it."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MAX_TEXT = 2**24
"""Bytes of a file, characters of a JSON text: 65,536 classes with names and colors take 4 million, and a list of a
million images 16."""

_MAX_DEPTH = 64
"""Levels of lists and objects (in TOML, tables), so that whatever copies, compares or prints a value recursively can do
so."""

_TOO_DEEP = f"lists and objects are nested deeper than {_MAX_DEPTH} levels"


def read_text(path: Path) -> str:
    """The content of a text file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is larger than 16 MiB, or not UTF-8; the message says so.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_TEXT + 1)
    if len(content) > _MAX_TEXT:
        raise ValueError(f"it has more than {_MAX_TEXT:,} bytes")
    return content.decode()


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: as `read_text` and `load_json`.
    """
    return load_json(read_text(path))


def load_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: the text is not JSON, is too long, or is nested too deeply; or a number has thousands of digits.
    """
    return _load(json.loads, text)


def load_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        ValueError: the text is not TOML, is too long, or is nested too deeply.
    """
    tables: dict[str, Any] = _load(tomllib.loads, text)
    return tables


def _load(parse: Callable[[str], Any], text: str) -> Any:
    if len(text) > _MAX_TEXT:
        raise ValueError(f"it has {len(text):,} characters, and at most {_MAX_TEXT:,} are read")
    try:
        value = parse(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(value)
    return value


def copy_json(value: dict[str, Any]) -> dict[str, Any]:
    """A deep copy as a file would give it back, with lists for tuples.

    Raises:
        ValueError: the value holds something that JSON cannot represent, such as a set or NaN, or is nested too deeply.
    """
    try:
        copy: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
        _check_depth(copy)
    except (TypeError, ValueError, RecursionError) as error:
        reason = _TOO_DEEP if isinstance(error, RecursionError) else error
        raise ValueError(f"must hold JSON values (numbers, strings, lists, mappings): {reason}") from None
    return copy


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [node for node in level if isinstance(node, dict | list)]
        if not level:
            return
        level = [item for node in level for item in (node.values() if isinstance(node, dict) else node)]
    raise ValueError(_TOO_DEEP)
