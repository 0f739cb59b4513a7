"""Checks of values against type annotations: whole numbers, keyword options of a class, fields of JSON objects."""

import inspect
import operator
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from segzoo.errors import OptionError, unknown

_JSON_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


def check_options(name: str, network: type, options: Mapping[str, Any]) -> None:
    """Rejects options that `network.__init__` does not name, and values that do not match its annotations.

    Args:
        name: what messages call the class.
        network: a decoder or a network from a paper. If it has `upsample_modes`, the option "upsample" is one of them.

    Raises:
        UnknownNameError, OptionError
    """
    known = [p.name for p in inspect.signature(network).parameters.values() if p.kind is p.KEYWORD_ONLY]
    types = get_type_hints(network.__init__)  # type: ignore[misc]
    for option, value in options.items():
        # A plugin's options may have no annotation.
        if option in known and option in types and option != "upsample" and not matches(value, types[option]):
            described = describe(types[option]).replace("null", "None")
            raise OptionError(f"{option}= of {name!r} must be {described}, not {value!r}.")
        if option not in known:
            raise unknown("option", option, known, f"{name!r} takes {', '.join(known) or 'no options'}.")
    modes = getattr(network, "upsample_modes", ())
    if "upsample" in options and options["upsample"] not in modes:
        raise unknown("upsampling mode", str(options["upsample"]), modes, f"{name!r} takes {', '.join(modes)}.")


def whole_number(name: str, value: Any, minimum: int | None = None) -> int:
    """`value` as a plain int, which JSON can hold; numpy's integers are accepted.

    Raises:
        OptionError: it is not an integer (True is not one either), or is below `minimum`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise OptionError(f"{name} must be a whole number, not {value!r}.") from None
    if isinstance(value, bool):
        raise OptionError(f"{name} must be a whole number, not {value!r}.")
    if minimum is not None and number < minimum:
        raise OptionError(f"{name} must be {minimum} or more, not {value!r}.")
    return number


def matches(value: object, annotation: Any) -> bool:
    """Whether a value fits an annotation built of str, bool, int, float, None, Literal, tuple, dict and unions.

    Lists pass as tuples, mappings as dicts, and integers as floats. Unlike in isinstance, True is not an integer.
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(matches(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        if parts[-1] is Ellipsis:
            parts = parts[:1] * len(value)
        return len(value) == len(parts) and all(map(matches, value, parts))
    if origin is dict:
        return isinstance(value, Mapping)
    return type(value) in ((int, float) if annotation is float else (annotation,))


def describe(annotation: Any) -> str:
    """An annotation in the words of JSON: "a whole number or null"."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(map(describe, parts))
    if origin is Literal:
        return f"{', '.join(map(repr, parts[:-1]))} or {parts[-1]!r}"
    if origin is tuple:
        length = "" if parts[-1] is Ellipsis else f"{len(parts)} "
        return f"a list of {length}{describe(parts[0]).removeprefix('a ')}s"
    return "an object" if origin is dict else _JSON_NAMES[annotation]
