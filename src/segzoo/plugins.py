"""Adds decoders, encoders, data sets, losses, augmentation steps and metrics of one's own.

    @segzoo.register_decoder("mine", default_encoder="resnet50")
    class Mine(segzoo.Decoder): ...

Whatever is registered is known everywhere: to `create`, `load`, `export`, recipes and commands. The module must have
been imported: `import mymodule` in Python, `segzoo --import mymodule` on the command line, or `plugins = ["mymodule"]`
in a recipe. An installed package names its module as an entry point of the group "segzoo.plugins", and it is imported
when it is needed.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from segzoo import _registry
from segzoo._registry import Entry, Registry
from segzoo._text import copy_json
from segzoo.errors import OptionError, SegzooError, quoted

if TYPE_CHECKING:
    from segzoo.data.dataset import SegmentationData
    from segzoo.metrics import ConfusionMatrix

_Object = TypeVar("_Object", bound=Callable[..., Any])


def register_decoder(name: str, *, default_encoder: str | None = None) -> Callable[[_Object], _Object]:
    """Registers a decoder: a subclass of `segzoo.Decoder` that takes `(features, num_classes, *, options...)`.

    Args:
        name: for `segzoo.create` and commands: letters, digits, "_", "." and "-".
        default_encoder: used if none is given; None takes the class variable of that name.

    Raises:
        OptionError: an invalid or existing name; or the class is no decoder, or an option has no default that JSON can
            hold.
    """
    _require_name("register_decoder", name)

    def register(decoder: _Object) -> _Object:
        _require_subclass(decoder, "segzoo.models.decoders.base", "Decoder", "segzoo.Decoder")
        _check_arguments(decoder, ("features", "num_classes"), options=True)
        encoder = default_encoder or getattr(decoder, "default_encoder", None)
        stated = vars(decoder).get("default_encoder", encoder)
        if not isinstance(encoder, str):
            raise OptionError(
                f"The decoder {name!r} needs a default encoder: register_decoder(..., default_encoder=...)."
            )
        if stated != encoder:  # also of a class that is registered twice
            raise OptionError(
                f"{decoder.__qualname__} has the default encoder {stated!r} already, so {name!r} cannot have "
                f"{encoder!r}. Register a subclass."
            )
        _register(_registry.DECODERS, name, decoder, encoder)
        decoder.default_encoder = encoder  # type: ignore[attr-defined]
        if not hasattr(decoder, "paper"):
            decoder.paper = f"{decoder.__module__}.{decoder.__qualname__}"  # type: ignore[attr-defined]
        return decoder

    return register


def register_encoder(name: str) -> Callable[[_Object], _Object]:
    """Registers an encoder: a subclass of `segzoo.Encoder` that takes `(in_channels, output_stride)`.

    Raises:
        OptionError: an invalid name, or that of a network of segzoo or timm; or the class is no encoder.
    """
    _require_name("register_encoder", name)

    def register(encoder: _Object) -> _Object:
        import timm  # a subclass of Encoder has imported it

        _require_subclass(encoder, "segzoo.models.encoders.base", "Encoder", "segzoo.Encoder")
        _check_arguments(encoder, ("in_channels", "output_stride"))
        if name in _registry.SHORT_NAMES or timm.is_model(name.partition(".")[0]):
            raise OptionError(f"The encoder {name!r} exists already, in timm. Choose another name.")
        return _register(_registry.ENCODERS, name, encoder)

    return register


def register_dataset(
    name: str, *, splits: Iterable[str] = (), layout: str = "its own layout", source: str = "your own"
) -> "Callable[[Callable[[Path, str], SegmentationData]], Callable[[Path, str], SegmentationData]]":
    """Registers a data set: a function of the root folder and the split that returns a `SegmentationData`.

    Args:
        splits: the available splits, the one to train on first; empty if the folders define them.
        layout: the files expected below the root, for error messages.
        source: where to download it.

    Raises:
        OptionError: an invalid or existing name, or not a function of two arguments.
    """
    _require_name("register_dataset", name)

    def register(read: "Callable[[Path, str], SegmentationData]") -> "Callable[[Path, str], SegmentationData]":
        from segzoo.data.datasets.base import Reader

        _check_arguments(read, ("root", "split"), names_matter=False)
        if isinstance(splits, str) or not isinstance(splits, Iterable):
            raise OptionError(f'splits= of {name!r} must be a sequence such as ("train", "val"), not {splits!r}.')
        _add(_registry.DATASETS, name, read, Reader(read, tuple(splits), layout, source))
        return read

    return register


def register_loss(name: str) -> Callable[[_Object], _Object]:
    """Registers a loss: a subclass of `segzoo.training.losses.Loss` that takes `(ignore_index, *, options...)`.

    Raises:
        OptionError: an invalid or existing name, or the class is no loss.
    """
    _require_name("register_loss", name)

    def register(loss: _Object) -> _Object:
        _require_subclass(loss, "segzoo.training.losses", "Loss", "segzoo.training.losses.Loss")
        _check_arguments(loss, ("ignore_index",), options=True)
        return _register(_registry.LOSSES, name, loss)

    return register


def register_transform(name: str) -> Callable[[_Object], _Object]:
    """Registers an augmentation step: a frozen dataclass like those of `segzoo.data.transforms`.

    Its fields are the options, among them `p`; `Annotated[float, pydantic.Field(ge=0, le=1)]` sets a range.
    `__call__(image, mask, ignore_index)` returns the changed image and mask.

    Raises:
        OptionError: an invalid or existing name, or the class is no step.
    """
    _require_name("register_transform", name)

    def register(step: _Object) -> _Object:
        fields = getattr(step, "__dataclass_fields__", {})
        if "p" not in fields:
            raise OptionError(f"The step {name!r} must be a dataclass with a field p, its probability.")
        call = inspect.getattr_static(step, "__call__", None)
        _check_arguments(call, ("self", "image", "mask", "ignore_index"), names_matter=False)
        return _register(_registry.TRANSFORMS, name, step)

    return register


def register_metric(
    name: str,
) -> "Callable[[Callable[[ConfusionMatrix], float]], Callable[[ConfusionMatrix], float]]":
    """Registers a metric, which evaluations report: a function of a `ConfusionMatrix` that returns a number, 0-1.

    Raises:
        OptionError: an invalid or existing name, or not a function of one argument.
    """
    _require_name("register_metric", name)

    def register(metric: "Callable[[ConfusionMatrix], float]") -> "Callable[[ConfusionMatrix], float]":
        _check_arguments(metric, ("matrix",), names_matter=False)
        if name in _registry.REPORT_KEYS:
            raise OptionError(f"The metric {name!r} exists already, in segzoo's reports. Choose another name.")
        return _register(_registry.METRICS, name, metric)

    return register


def import_plugin(module: str) -> None:
    """Imports a module that registers something, from the current folder or an installed package.

    Raises:
        SegzooError: there is no such module, or its import fails.
    """
    if not re.fullmatch(_registry.MODULE, module):
        raise SegzooError(
            f"{module!r} is not the name of a module. Pass a name such as 'mymodule', without folder and .py."
        )
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python -m` does
    try:
        importlib.import_module(module)
    except SegzooError:
        raise
    except ModuleNotFoundError as error:
        is_missing = error.name is not None and f"{module}.".startswith(f"{error.name}.")
        remedy = (
            "Pass the name of a module, without .py, that is in the current folder or installed."
            if is_missing
            else "Install what it imports."
        )
        raise SegzooError(f"The module {module!r} cannot be imported: {error}. {remedy}") from error
    except (Exception, SystemExit) as error:  # whatever the module raises; a script may exit
        raise SegzooError(f"The import of {module!r} failed: {type(error).__name__}: {error}.") from error


def _require_name(decorator: str, name: Any) -> None:
    """Without parentheses, the decorated object itself would be the name, and nothing would be registered."""
    if not isinstance(name, str):
        raise OptionError(f'{decorator} takes a name: @segzoo.{decorator}("mine"), not {quoted(name)}.')


def _register(registry: Registry, name: str, registered: _Object, default_encoder: str | None = None) -> _Object:
    _add(registry, name, registered, registered, default_encoder)
    return registered


def _add(registry: Registry, name: str, source: Any, registered: Any, default_encoder: str | None = None) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise OptionError(f"The name of a {registry.what} has letters, digits, '_', '.' and '-' only, not {name!r}.")
    target = f"{source.__module__}:{source.__qualname__}"
    registry.register(Entry(name, target, default_encoder, plugin=source.__module__), registered)


def _require_subclass(given: Any, module: str, name: str, shown: str) -> None:
    bases = getattr(given, "__mro__", ())
    if not any(base.__module__ == module and base.__qualname__ == name for base in bases[1:]):
        raise OptionError(f"{getattr(given, '__qualname__', given)!r} must be a subclass of {shown}.")


def _check_arguments(
    given: Any, positional: tuple[str, ...], *, names_matter: bool = True, options: bool = False
) -> None:
    shown = getattr(given, "__qualname__", repr(given))
    expected = ", ".join(positional)
    try:
        parameters = list(inspect.signature(given).parameters.values())
    except (TypeError, ValueError):  # not callable, or a builtin
        raise OptionError(f"{shown} must be a function or a class that takes ({expected}).") from None
    further = parameters[len(positional) :]
    names = tuple(parameter.name for parameter in parameters[: len(positional)])
    faulty = len(names) < len(positional) or (names_matter and names != positional)
    if faulty or any(option.default is option.empty for option in further):
        raise OptionError(f"{shown} must take ({expected}), and every further argument needs a default.")
    for option in further if options else ():
        if option.kind is not option.KEYWORD_ONLY:
            raise OptionError(f"The option {option.name!r} of {shown} must be keyword-only: ({expected}, *, ...).")
        try:
            copy_json({option.name: option.default})
        except ValueError:
            raise OptionError(
                f"The default of {option.name!r} of {shown} must be a JSON value, because files store options, not "
                f"{option.default!r}."
            ) from None
