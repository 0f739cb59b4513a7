"""Records and options that pydantic checks, with errors in segzoo's words.

A value never becomes another type: True is no integer, "3" is no number. Only a list becomes a tuple, and a mapping
becomes a record. Every fault is reported, with its dotted name: "run.epochs must be above 0, not -1".
"""

import dataclasses
import datetime
import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

import pydantic
import pydantic.dataclasses
from pydantic.fields import FieldInfo

from segzoo.errors import OptionError, SegzooError, UnknownNameError, quoted, unknown

_Record = TypeVar("_Record")

Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Positive = Annotated[int, pydantic.Field(gt=0)]

_WORDS = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    datetime.date: "a date",
    NoneType: "null",
}


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def checked(cls: type[_Record]) -> type[_Record]:
    """Makes a class a frozen dataclass whose values are checked against its annotations.

    `Annotated[int, Field(ge=1, description="...")]` adds a range, and words for messages. A `Literal` with a title is a
    name: any other is an unknown one. A field that is a record too accepts a mapping.

    The constructor raises:
        UnknownNameError: arguments that the class does not have; similar names are suggested.
        OptionError: values that are not allowed, or are missing. All faults are named.
    """
    hints = get_type_hints(cls, include_extras=True)
    cls.__annotations__ = {name: _strict(hint) for name, hint in hints.items() if name in cls.__annotations__}
    made = pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))(cls)
    unchecked, signature = made.__init__, inspect.signature(made)

    @functools.wraps(unchecked)
    def __init__(self: Any, *args: Any, **values: Any) -> None:
        given = values | dict(zip(signature.parameters, args, strict=False))
        try:
            unchecked(self, *args, **values)
        except pydantic.ValidationError as error:
            raise _error(list(_faults(made, error, given))) from None

    made.__init__ = __init__  # type: ignore[method-assign]
    return made  # type: ignore[return-value]


def from_record(cls: type[_Record], record: Any, optional: Sequence[str] = ()) -> _Record:
    """An instance of a checked class from a file's record. Unknown keys are ignored.

    Args:
        optional: the only fields that may be missing, although others have defaults.

    Raises:
        OptionError: fields are missing or invalid, all of which are named.
    """
    if not isinstance(record, Mapping):
        raise OptionError(f"A spec is an object with fields, not {quoted(record)}.")
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values = {name: record[name] for name in names if name in record}
    missing = [f"{name} is missing" for name in names if name not in record and name not in optional]
    if not missing:
        return cls(**values)
    try:
        pydantic.TypeAdapter(cls).validate_python(values)
    except pydantic.ValidationError as error:
        # What has no place is a check of several fields, with defaults for those that are missing.
        missing += [fault.text for fault in _faults(cls, error, values) if fault.place and not fault.is_missing]
    raise _error([_Fault(text) for text in missing])


def check_options(owner: str, target: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Checks keyword options against the annotations of what takes them, and returns the converted values.

    Args:
        owner: what messages call the target: "'unet'", "the step 'flip'".
        target: has the options that `option_parameters` returns. An option without an annotation can be anything. If
            it has `upsample_modes`, the option "upsample" is one of them.

    Raises:
        UnknownNameError: an option that the target does not take; similar names are suggested.
        OptionError: values that are not allowed, or are missing. All faults are named.
    """
    known = _options(target)
    values, faults = {}, []
    for name, value in options.items():
        if name not in known:
            raise unknown("option", name, known, f"{_capital(owner)} takes {', '.join(known) or 'no options'}.")
        adapter, annotation, _ = known[name]
        if name == "upsample" and hasattr(target, "upsample_modes"):
            if value not in target.upsample_modes:
                modes = ", ".join(target.upsample_modes)
                raise unknown("upsampling mode", str(value), target.upsample_modes, f"{owner} takes {modes}.")
            values[name] = value
            continue
        try:
            values[name] = adapter.validate_python(value)
        except pydantic.ValidationError as error:
            fault = _value_fault(f"{name}= of {owner}", annotation, error.errors()[0], value)
            faults.append(dataclasses.replace(fault, text=fault.text.replace(" or null,", " or None,")))
    missing = [name for name, (_, _, is_required) in known.items() if is_required and name not in options]
    if missing:
        faults.append(_Fault(f"{owner} needs {' and '.join(missing)}"))
    if faults:
        raise _error(faults)
    return values


def option_parameters(target: Callable[..., Any]) -> list[inspect.Parameter]:
    """The options of a function or a class: its keyword-only parameters, or all fields of a dataclass."""
    every = dataclasses.is_dataclass(target)
    parameters = inspect.signature(target).parameters.values()
    return [parameter for parameter in parameters if every or parameter.kind is parameter.KEYWORD_ONLY]


def whole_number(name: str, value: Any, minimum: int | None = None) -> int:
    """`value` as a plain int, which JSON can hold; numpy's integers are accepted.

    Raises:
        OptionError: it is not an integer (True is not one either), or is below `minimum`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise OptionError(f"{name} must be a whole number, not {quoted(value)}.") from None
    if isinstance(value, bool):
        raise OptionError(f"{name} must be a whole number, not {quoted(value)}.")
    if minimum is not None and number < minimum:
        raise OptionError(f"{name} must be {minimum} or more, not {quoted(value)}.")
    return number


def _strict(annotation: Any) -> Any:
    """The annotation of a value that pydantic does not convert to another type."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(_strict(parts[0]), *parts[1:])]
    if origin in (Union, UnionType):
        return functools.reduce(operator.or_, map(_strict, parts))
    if origin is tuple and parts[-1] is Ellipsis:  # the first fault is enough: a file can have millions
        return Annotated[tuple[_strict(parts[0]), ...], pydantic.Field(fail_fast=True)]  # type: ignore[misc]
    if origin in (tuple, dict):
        return origin[tuple(map(_strict, parts))]
    if annotation is float:
        return Annotated[float, pydantic.Strict(), pydantic.AllowInfNan(False)]
    return Annotated[annotation, pydantic.Strict()] if annotation in (str, int, bool, datetime.date) else annotation


@functools.cache
def _options(target: Callable[..., Any]) -> dict[str, tuple[pydantic.TypeAdapter[Any], Any, bool]]:
    """For each option: what checks it, its annotation, and whether it is required."""
    is_class = isinstance(target, type) and not dataclasses.is_dataclass(target)
    hinted: Any = target.__init__ if is_class else target
    hints = get_type_hints(hinted, include_extras=True)
    known = {}
    for parameter in option_parameters(target):
        annotation = hints.get(parameter.name, Any)
        try:
            config = pydantic.ConfigDict(arbitrary_types_allowed=True)
            adapter = pydantic.TypeAdapter[Any](_strict(annotation), config=config)
        except pydantic.errors.PydanticUserError:  # an annotation of a plugin that only its author understands
            adapter = pydantic.TypeAdapter[Any](Any)
        known[parameter.name] = adapter, annotation, parameter.default is parameter.empty
    return known


@dataclasses.dataclass(frozen=True)
class _Fault:
    text: str
    place: str = ""
    is_unknown_name: bool = False
    is_missing: bool = False


def _error(faults: Sequence[_Fault]) -> OptionError | UnknownNameError:
    message = f"{_capital('; '.join(fault.text for fault in faults))}."
    return UnknownNameError(message) if all(fault.is_unknown_name for fault in faults) else OptionError(message)


def _unknown_fault(place: str, what: str, name: str, known: Iterable[str], see: str) -> _Fault:
    return _Fault(str(unknown(what, name, known, see)).removesuffix("."), place, is_unknown_name=True)


def _faults(cls: type, error: pydantic.ValidationError, given: Mapping[str, Any]) -> Iterator[_Fault]:
    """The faults in the fields of a record, the first of each."""
    seen = set()
    for detail in error.errors(include_url=False):
        place, owner, annotation, value = _field(cls, detail["loc"], given)
        name = ".".join(place)
        if name in seen:
            continue
        seen.add(name)
        if detail["type"] == "unexpected_keyword_argument":
            fields = ", ".join(field.name for field in dataclasses.fields(owner))
            see = f"{'.'.join(place[:-1]) or 'It'} takes {fields}."
            yield _unknown_fault(name, "key", name, _dotted_names(cls), see)
        elif detail["type"] == "missing" and len(place) == len(detail["loc"]):  # and no element of a list
            meaning = f" ({words})" if (words := _info(annotation, "description")) else ""
            yield _Fault(f"{name} is missing{meaning}", name, is_missing=True)
        else:
            yield _value_fault(name, annotation, detail, value)


def _field(cls: type, location: Sequence[str | int], value: Any) -> tuple[list[str], type, Any, Any]:
    """The field at a location in nested records: its dotted name, its record, its annotation and its value."""
    place: list[str] = []
    owner: type = cls
    annotation: Any = cls
    for item in location:
        record = next(_records(annotation), None)
        if record is None:
            break
        owner = record
        name = [field.name for field in dataclasses.fields(record)][item] if isinstance(item, int) else item
        annotation = get_type_hints(record, include_extras=True).get(name)
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        place.append(name)
    return place, owner, annotation, value


def _dotted_names(cls: type) -> Iterator[str]:
    for field in dataclasses.fields(cls):
        yield field.name
        for record in _records(get_type_hints(cls)[field.name]):
            yield from (f"{field.name}.{name}" for name in _dotted_names(record))


def _records(annotation: Any) -> Iterator[type]:
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            yield part


def _value_fault(place: str, annotation: Any, detail: Any, value: Any) -> _Fault:
    """What is wrong with a value, from the first of pydantic's errors."""
    context = detail.get("ctx", {})
    if detail["type"] == "value_error":  # raised by a validator of ours, with a sentence
        sentence = str(context["error"]).removesuffix(".")
        return _Fault(sentence if isinstance(context["error"], SegzooError) else f"{place} {sentence}", place)
    if detail["type"] == "literal_error" and isinstance(value, str) and (title := _info(annotation, "title")):
        choices = get_args(get_args(annotation)[0])
        return _unknown_fault(place, title, value, choices, f"{place} is {', '.join(choices)}.")
    expected = _describe(annotation)
    if detail["type"] in _RANGES and not _info(annotation, "description"):
        expected = _range(annotation) or _RANGES[detail["type"]].format(*context.values())
    elif detail["type"] == "finite_number":
        expected = expected.replace("number", "finite number")
    return _Fault(f"{place} must be {expected}, not {quoted(value)}", place)


_RANGES = {
    "greater_than": "above {:g}",
    "greater_than_equal": "{:g} or more",
    "less_than": "below {:g}",
    "less_than_equal": "at most {:g}",
}


def _range(annotation: Any) -> str | None:
    """ "0-1", if a single `Field` of the annotation, or of that of the elements, has both limits."""
    for field in _field_infos(annotation):
        limits = {name: getattr(item, name) for item in field.metadata for name in ("ge", "le") if hasattr(item, name)}
        if len(limits) == 2:
            return f"{limits['ge']:g}-{limits['le']:g}"
    return next(filter(None, map(_range, get_args(annotation))), None)


def _info(annotation: Any, name: Literal["title", "description"]) -> str | None:
    return next(filter(None, (getattr(field, name) for field in _field_infos(annotation))), None)


def _field_infos(annotation: Any) -> list[FieldInfo]:
    items = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return [item for item in items if isinstance(item, FieldInfo)]


def _describe(annotation: Any) -> str:
    """An annotation in the words of JSON: "a whole number or null"."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if words := _info(annotation, "description"):
        return words
    if origin is Annotated:
        return _describe(parts[0])
    if origin in (Union, UnionType):
        return " or ".join(map(_describe, parts))
    if origin is Literal:
        return " or ".join([", ".join(map(repr, parts[:-1])), repr(parts[-1])]) if len(parts) > 1 else repr(parts[0])
    if origin is tuple:
        length = "" if parts[-1] is Ellipsis else f"{len(parts)} "
        return f"a list of {length}{_describe(parts[0]).removeprefix('a ')}s"
    if isinstance(annotation, type) and pydantic.dataclasses.is_pydantic_dataclass(annotation):
        return "a table of options"
    if origin is dict or dataclasses.is_dataclass(annotation):
        return "an object"
    return _WORDS.get(annotation, f"a {getattr(annotation, '__name__', annotation)}")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text.startswith("the ") else text
