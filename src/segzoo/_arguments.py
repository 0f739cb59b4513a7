"""`explained`: a wrong argument of a public function gives an error that names it, wherever it was noticed."""

import functools
import inspect
import numbers
import os
import types
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from segzoo.errors import OptionError, SegzooError, quoted

_Parameters = ParamSpec("_Parameters")
_Returned = TypeVar("_Returned")

_MAX_PATH, _MAX_NAME = 4096, 255
"""Longest path and longest part of one that Linux accepts, in bytes."""


def explained(function: Callable[_Parameters, _Returned]) -> Callable[_Parameters, _Returned]:
    """Decorates a public function.

    The function checks what it can say something about. If another error escapes from it, and an argument does not fit
    its annotation or is a path that no file can have, that argument is to blame: the error becomes an OptionError.
    Nothing else is caught, so that faults of our own keep their traceback.
    """

    @functools.wraps(function)
    def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Returned:
        try:
            return function(*args, **kwargs)
        except SegzooError:
            raise
        except Exception as error:
            faults = _faults(function, args, kwargs)
            if not faults:
                raise
            raise OptionError(f"{function.__name__.strip('_')}: {'; '.join(faults)}.") from error

    return call


def _faults(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
        hints = get_type_hints(function)
    except (TypeError, NameError):  # a missing argument, or an annotation that is imported for type checkers only
        return []
    parameters = inspect.signature(function).parameters
    faults = []
    for name, value in bound.arguments.items():
        if name not in hints or parameters[name].kind in (
            inspect.Parameter.VAR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        ):
            continue
        if not _fits(value, hints[name]):
            faults.append(f"{name} must be {_describe(hints[name])}, not {_shown(value)}")
        elif isinstance(value, str | os.PathLike) and _takes_paths(hints[name]) and (fault := _path_fault(value)):
            faults.append(f"{name} {fault}")
    return faults


def _plain(hint: Any) -> Any:
    """What an alias made by a `type` statement stands for: from NumPy 2.5 on, `NDArray` is one."""
    while (alias := getattr(get_origin(hint) or hint, "__value__", None)) is not None:
        hint = alias
    return hint


def _fits(value: Any, hint: Any) -> bool:
    hint = _plain(hint)
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return any(value is part or (type(value) is type(part) and value == part) for part in parts)
    if hint in (bool, int, float):
        accepted = {bool: bool, int: numbers.Integral, float: numbers.Real}[hint]  # numpy's are of these kinds too
        return isinstance(value, accepted) and (hint is bool or not isinstance(value, bool))
    if hint is None or hint is types.NoneType:
        return value is None
    if origin is tuple and parts and parts[-1] is not Ellipsis:
        return isinstance(value, tuple | list) and len(value) == len(parts) and all(map(_fits, value, parts))
    expected = None if hint is Any else origin or hint
    if not isinstance(expected, type) or expected is object or getattr(expected, "_is_protocol", False):
        return True  # Any, type variables, and what only calling can tell
    if isinstance(value, str | bytes) and expected not in (str, bytes):
        return False  # a string is a sequence of strings too, but never what is meant
    return isinstance(value, expected)


def _takes_paths(hint: Any) -> bool:
    hint = _plain(hint)
    return hint is os.PathLike or get_origin(hint) is os.PathLike or any(map(_takes_paths, get_args(hint)))


def _path_fault(path: "str | os.PathLike[str]") -> str | None:
    text = os.fspath(path)
    if not text:
        return "is empty; pass a path"
    if "\0" in text:
        return "has a NUL character, which no path can have"
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        return "has a lone surrogate, which no path can have"
    if len(encoded) > _MAX_PATH or max(map(len, encoded.split(os.fsencode(os.sep)))) > _MAX_NAME:
        return f"is too long for a path ({len(text):,} characters)"
    return None


def _describe(hint: Any) -> str:
    hint = _plain(hint)
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_describe, parts)))
    if origin is Literal:
        return " or ".join(map(repr, parts))
    words = {str: "a string", int: "a whole number", float: "a number", bool: "True or False", types.NoneType: "None"}
    name = getattr(origin or hint, "__name__", str(hint))
    return words.get(hint, {"PathLike": "a path", "Callable": "a function"}.get(name, f"a {name}"))


def _shown(value: Any) -> str:
    return quoted(value) if isinstance(value, str | bytes | int | float | None) else f"a {type(value).__name__}"
