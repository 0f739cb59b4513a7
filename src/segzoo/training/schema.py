"""Tables of TOML and JSON as frozen records: each value checked against its field, and overridden by a dotted key."""

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
    """The key and the value of KEY=VALUE; values are written as in TOML, and a bare word is a text.

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
    """Sets the value of a dotted key; a number in it is a place in a list, from 0 up: augmentation.0.p."""
    place: Any = record
    names: list[Any] = key.split(".")
    for name, after in itertools.zip_longest(names, names[1:]):
        index = int(name) if isinstance(place, list) and name.isdecimal() else name
        inside = index < len(place) if isinstance(index, int) else isinstance(place, dict)
        if not inside:
            raise OptionError(f"{key} cannot be set: the recipe has no place {name!r} there.")
        if after is None:
            place[index] = value
        else:
            place = place[index] if isinstance(index, int) else place.setdefault(index, {})


def record_of(kind: type[Any], record: Any, where: str = "") -> Any:
    """The record of a kind, frozen dataclasses in it included, that a table holds; what is not said has its default.

    Args:
        where: the table's own dotted key, for errors.

    Raises:
        UnknownNameError: a key that there is not; near ones are suggested.
        OptionError: a value that a key cannot have, or one that is missing.
    """
    if not isinstance(record, Mapping):
        raise OptionError(f"{where} of a recipe is a table of options, not {record!r}.")
    hints = get_type_hints(kind)
    values = {}
    for key, value in record.items():
        name = f"{where}.{key}" if where else key
        if key not in hints:
            among = f"[{where}] takes" if where else "A recipe has"
            raise unknown(
                "key of a recipe",
                name,
                [f"{where}.{one}" if where else one for one in hints],
                f"{among} {', '.join(hints)}.",
            )
        values[key] = _value(hints[key], value, name)
    needed = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
    missing = [name for name in needed if name not in values]
    if missing:
        where = f"[{where}] of a recipe" if where else "A recipe"
        raise OptionError(f"{where} needs {' and '.join(missing)}.")
    return kind(**values)


def _value(hint: Any, value: Any, name: str) -> Any:
    """A value as its field has it, or an OptionError."""
    if isinstance(hint, UnionType):
        if value is None and NoneType in get_args(hint):
            return None
        (hint,) = (one for one in get_args(hint) if one is not NoneType)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return record_of(hint, value, name)
    if get_origin(hint) is tuple:
        # One pattern, or one step, may stand without brackets.
        several = value if isinstance(value, list | tuple) else [value]
        return tuple(_value(get_args(hint)[0], one, name) for one in several)
    if get_origin(hint) is dict:
        if isinstance(value, Mapping):
            return dict(value)
    elif hint is float:
        if type(value) in (int, float) and math.isfinite(value) and value >= 0:
            return float(value)
    elif type(value) is hint and (hint is not int or value >= 0):  # exactly: True is an int to isinstance
        return value
    raise OptionError(f"{name} of a recipe is {_WORDS[get_origin(hint) or hint]}, not {value!r}.")


_WORDS = {
    int: "a whole number from 0 up",
    float: "a number from 0 up",
    str: "a text",
    bool: "true or false",
    dict: "a table of options",
}
