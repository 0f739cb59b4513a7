"""Builds frozen dataclasses from TOML or JSON tables, with type checks, and overrides values by dotted keys."""

import dataclasses
import itertools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from segzoo.errors import OptionError, unknown


def parse_override(text: str) -> tuple[str, Any]:
    """The key and the value of KEY=VALUE. Values are TOML; a bare word is a string.

    Raises:
        OptionError: there is no "=".
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise OptionError(f"An override is KEY=VALUE, such as run.epochs=3, not {text!r}.")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
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


def build_config(config_class: type[Any], table: Any, prefix: str = "") -> Any:
    """An instance of a frozen dataclass, with nested ones, from a table; missing keys have their defaults.

    Args:
        prefix: the dotted key of the table itself, for error messages.

    Raises:
        UnknownNameError: an unknown key; the message suggests similar ones.
        OptionError: an invalid value, or a required key is missing.
    """
    if not isinstance(table, Mapping):
        raise OptionError(f"{prefix} of a recipe must be a table of options, not {table!r}.")
    hints = get_type_hints(config_class)
    values = {}
    for key, value in table.items():
        name = f"{prefix}.{key}" if prefix else key
        if key not in hints:
            owner = f"[{prefix}] takes" if prefix else "A recipe has"
            known = [f"{prefix}.{hint}" if prefix else hint for hint in hints]
            raise unknown("key of a recipe", name, known, f"{owner} {', '.join(hints)}.")
        values[key] = _check_value(hints[key], value, name)
    required = [
        field.name for field in fields(config_class) if field.default is MISSING and field.default_factory is MISSING
    ]
    missing = [name for name in required if name not in values]
    if missing:
        owner = f"[{prefix}] of a recipe" if prefix else "A recipe"
        raise OptionError(f"{owner} needs {' and '.join(missing)}.")
    return config_class(**values)


def _check_value(hint: Any, value: Any, name: str) -> Any:
    """The value with the type of its field, or an OptionError."""
    if isinstance(hint, UnionType):
        if value is None and NoneType in get_args(hint):
            return None
        (hint,) = (option for option in get_args(hint) if option is not NoneType)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build_config(hint, value, name)
    if get_origin(hint) is tuple:
        # A single pattern or step may be written without brackets.
        elements = value if isinstance(value, list | tuple) else [value]
        return tuple(_check_value(get_args(hint)[0], element, name) for element in elements)
    if get_origin(hint) is dict:
        if isinstance(value, Mapping):
            return dict(value)
    elif hint is float:
        if type(value) in (int, float) and math.isfinite(value) and value >= 0:
            return float(value)
    elif type(value) is hint and (hint is not int or value >= 0):  # exact types, because isinstance(True, int) holds
        return value
    raise OptionError(f"{name} of a recipe must be {_TYPE_NAMES[get_origin(hint) or hint]}, not {value!r}.")


_TYPE_NAMES = {
    int: "an integer of 0 or more",
    float: "a number of 0 or more",
    str: "a string",
    bool: "true or false",
    dict: "a table of options",
}
