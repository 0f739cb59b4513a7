"""Overrides of a recipe's values by dotted keys: run.epochs=3."""

import itertools
from typing import Any

from segzoo._text import load_toml
from segzoo.errors import OptionError


def parse_override(text: str) -> tuple[str, Any]:
    """The key and the value of KEY=VALUE. Values are TOML; a bare word is a string.

    Raises:
        OptionError: there is no "=".
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise OptionError(f"An override is KEY=VALUE, such as run.epochs=3, not {text!r}.")
    try:
        return key, load_toml(f"value = {value}")["value"]
    except ValueError:
        return key, value


def override(record: dict[str, Any], key: str, value: Any) -> None:
    """Sets the value of a dotted key; a number in it is a list index from 0: augmentation.0.p.

    Raises:
        OptionError: the recipe has no such list element, or the key continues below a plain value.
    """
    node: Any = record
    names: list[Any] = key.split(".")
    for name, following in itertools.zip_longest(names, names[1:]):
        index = int(name) if isinstance(node, list) and name.isdecimal() else name
        exists = index < len(node) if isinstance(index, int) else isinstance(node, dict)
        if not exists:
            raise OptionError(f"{key} cannot be set: the recipe has no {name!r} there.")
        if following is None:
            node[index] = value
        else:
            node = node[index] if isinstance(index, int) else node.setdefault(index, {})
