"""Options that a class takes by keyword, checked against its signature before it is made: a typo must fail."""

import inspect
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from segzoo.errors import OptionError, unknown


def check_options(name: str, kind: type, options: Mapping[str, Any]) -> None:
    """Refuses an option that the class's __init__ does not name, and a value of another type than it says there.

    Args:
        name: what the class is called in messages.
        kind: a decoder or a paper's network. Where it has `upsamples`, the option "upsample" is one of these.

    Raises:
        UnknownNameError, OptionError
    """
    known = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
    types = get_type_hints(kind.__init__)  # type: ignore[misc]
    for option, value in options.items():
        if option in known and option != "upsample" and not _fits(value, types[option]):
            raise OptionError(f"{option}= of {name!r} is {types[option]}, not {value!r}.")
        if option not in known:
            raise unknown("option", option, known, f"{name!r} takes {', '.join(known) or 'no options'}.")
    ways = getattr(kind, "upsamples", ())
    if "upsample" in options and options["upsample"] not in ways:
        raise unknown("upsample", str(options["upsample"]), ways, f"{name!r} takes {', '.join(ways)}.")


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type that an option has: bool, int, str, a tuple (a list will do), None."""
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return any(_fits(value, one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if not isinstance(value, list | tuple):
            return False
        if parts[-1] is Ellipsis:
            parts = parts[:1] * len(value)
        return len(value) == len(parts) and all(map(_fits, value, parts))
    return type(value) is hint  # exactly: True is an int to isinstance
