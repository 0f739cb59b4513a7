"""JSON from strangers' files, bounded in length and in depth before anything else looks at it."""

import json
from typing import Any

MAX_CHARACTERS = 2**24
"""Of a text: 65,536 classes with names and colors need 4 million."""

MAX_DEPTH = 64
"""Levels of lists and objects, so that whatever copies, compares or prints a value recursively can do so."""


def load_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: the text is not JSON, is too long, or is nested too deeply.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has {len(text):,} characters, and at most {MAX_CHARACTERS:,} are read")
    try:
        value = json.loads(text)
    except RecursionError:
        value = None
        depth = MAX_DEPTH + 1
    else:
        depth = _depth(value)
    if depth > MAX_DEPTH:
        raise ValueError(f"lists and objects are nested deeper than {MAX_DEPTH} levels")
    return value


def copy_json(value: dict[str, Any]) -> Any:
    """A deep copy as a file would give it back, with lists for tuples.

    Raises:
        ValueError: the value holds something that JSON cannot represent, such as a set or NaN, or is nested too deeply.
    """
    try:
        copy = json.loads(json.dumps(value, allow_nan=False))
    except TypeError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        copy = None
    if copy is None or _depth(copy) > MAX_DEPTH:
        raise ValueError(f"lists and objects are nested deeper than {MAX_DEPTH} levels")
    return copy


def _depth(value: Any) -> int:
    """Levels of nesting, counted up to just above the limit, without recursion."""
    level, depth = [value], 0
    while depth <= MAX_DEPTH:
        level = [node for node in level if isinstance(node, dict | list)]
        if not level:
            break
        depth += 1
        level = [item for node in level for item in (node.values() if isinstance(node, dict) else node)]
    return depth
