"""Engines that run a model on a batch of images, and `open_backend`, which chooses one."""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from segzoo._optional import needs
from segzoo.errors import OptionError
from segzoo.inference.backends.base import Backend, EngineOptions
from segzoo.inference.backends.device_names import parse
from segzoo.weights.catalog import entries
from segzoo.weights.resolve import Located, locate

Open = Callable[[Located, str, EngineOptions], Backend]
"""Opens a file on a device."""


@dataclass(frozen=True)
class Engine:
    """How `open_backend` gets from a file to a backend.

    Attributes:
        name: such as "onnxruntime".
        suffixes: of the files that it opens, in lower case with the dot.
        target: "module:function", imported on use; the function is an `Open`.
    """

    name: str
    suffixes: tuple[str, ...]
    target: str

    def load(self, model: str) -> Open:
        """The function, for a model of this name.

        Raises:
            MissingPackageError: what it imports is not installed.
        """
        module, _, function = self.target.partition(":")
        with needs(f"Running {model}"):
            found: Open = getattr(importlib.import_module(module), function)
        return found


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine("onnxruntime", (".onnx",), "segzoo.inference.backends.onnxruntime.backend:open_located"),
        # Any other file holds weights; `segzoo.load` knows which it reads.
        Engine("torch", (), "segzoo.models.load:open_located"),
    )
}
"""The engines; more can be added by name. The first that opens a file's suffix is used, otherwise torch."""


def open_backend(model: Any, device: str, options: EngineOptions) -> Backend:
    """The backend of a model.

    Args:
        model: as for `Predictor`.

    Raises:
        SegzooError: as `Predictor`.
    """
    parse(device)  # before an engine is imported, or a model downloaded
    if isinstance(model, str | os.PathLike | Located):
        if isinstance(model, str) and model in entries() and entries()[model].exported is None:
            ENGINES["torch"].load(model)  # before a download that could not be used
        located = model if isinstance(model, Located) else locate(model, exported=True)
        suffix = located.path.suffix.lower()
        engine = next((engine for engine in ENGINES.values() if suffix in engine.suffixes), ENGINES["torch"])
        return engine.load(located.name)(located, device, options)
    if isinstance(model, Backend):
        options.refuse("a backend")
        _require_device(model, device)
        return model
    if hasattr(model, "classify") and hasattr(model, "spec"):  # a SegmentationModel, which only torch can define
        from segzoo.inference.backends.torch import TorchBackend

        options.refuse("a model in memory")
        backend = TorchBackend(model)
        _require_device(backend, device)
        return backend
    raise OptionError(
        f"Predictor takes the path of a model, a catalog key, a URL or a segzoo model, not {type(model).__name__}."
    )


def _require_device(backend: Backend, device: str) -> None:
    if device not in ("auto", backend.device) and f"{device}:0" != backend.device:
        raise OptionError(
            f"The model is on {backend.device}, not on {device!r}. Move it first, with model.to({device!r}), or leave "
            "out device."
        )
