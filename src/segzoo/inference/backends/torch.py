"""The torch backend: a model in memory, whatever mode it is in, from any number of threads."""

import threading
import types
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from segzoo.errors import DeviceError, OptionError, SegzooError
from segzoo.inference import arrays
from segzoo.inference.backends.base import Images, Output
from segzoo.spec import ModelSpec


@runtime_checkable
class TorchModel(Protocol):
    """What this backend needs of a model; `SegmentationModel` has it."""

    spec: ModelSpec

    def classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, H, W, C) of the spec's dtype -> masks, and logits (N, num_classes, H, W)."""

    def warn_of_new_head(self) -> None:
        """Warns (UserWarning), once, if the head is untrained."""

    def describe_infinities(self) -> str:
        """A sentence about weights that are infinite or not a number; "" for none."""


class TorchBackend:
    """Runs a model where its weights are. It never changes the model: not its mode, and no statistics."""

    def __init__(self, model: Any, device_reason: str | None = None) -> None:
        """
        Args:
            model: an nn.Module that is a `TorchModel`.
            device_reason: why the model is on its device, a sentence.
        """
        self._model = model
        self._device_reason = device_reason
        self._lock = _lock_of(model)

    @property
    def spec(self) -> ModelSpec:
        spec: ModelSpec = self._model.spec
        return spec

    @property
    def outputs(self) -> frozenset[Output]:
        always: frozenset[Output] = frozenset({"mask", "confidence", "logits"})
        has_dropout = any(isinstance(module, _DropoutNd) and module.p > 0 for module in self._model.modules())
        return always | {"sampled_logits"} if has_dropout else always

    @property
    def static_shape(self) -> tuple[None, None, None]:
        return None, None, None

    @property
    def device(self) -> str:
        return str(self._parameter.device)

    @property
    def device_reason(self) -> str:
        return self._device_reason or f"Running on {self.device}, because the model's weights are there."

    def run(self, images: Images, outputs: Sequence[Output] = ("mask",)) -> dict[Output, npt.NDArray[Any]]:
        """As `Backend.run`. "sampled_logits" cannot be combined with other outputs."""
        arrays.check_images(images, self.spec)
        for name in outputs:
            if name not in self.outputs or ("sampled_logits" in outputs and len(outputs) > 1):
                raise OptionError(f"This model cannot return {name!r} with {', '.join(outputs)}.")
        parameter = self._parameter
        if parameter.is_meta:
            raise OptionError("The model is on the meta device, where weights have no values. Load or create it again.")
        self._model.warn_of_new_head()
        with self._lock, self._wrapped_errors(images), torch.inference_mode():
            network = evaluation_view(self._model, dropout="sampled_logits" in outputs)
            # A copy, because torch does not share read-only memory.
            mask, logits = network.classify(torch.tensor(images).to(parameter.device))
            # The sum costs less than a look at every weight.
            if not logits.float().sum().isfinite() and (infinities := self._model.describe_infinities()):
                warnings.warn(infinities, stacklevel=2)
            values: dict[Output, Tensor] = {"mask": mask, "logits": logits.float(), "sampled_logits": logits.float()}
            if "confidence" in outputs:
                values["confidence"] = _confidence(logits.float(), self.spec)
            return {name: values[name].cpu().numpy() for name in outputs}

    @property
    def _parameter(self) -> Tensor:
        parameter: Tensor = next(self._model.parameters())
        return parameter

    @contextmanager
    def _wrapped_errors(self, images: Images) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # out of memory and operators that lack a dtype are RuntimeErrors
            error_type = SegzooError if self.device == "cpu" else DeviceError
            raise error_type(
                f"torch failed on a batch of {images.shape} in {self._parameter.dtype} on {self.device}: "
                f"{str(error).strip().partition(chr(10))[0]} If it is out of memory, pass fewer or smaller images, or "
                "use tile=. If an operator does not support the dtype, use model.float()."
            ) from error


def evaluation_view(model: nn.Module, dropout: bool = False) -> Any:
    """A second tree of modules in eval mode that shares parameters, buffers and hooks with `model`.

    Setting the mode of the model itself, and setting it back, is not safe if another thread uses the model.

    Args:
        dropout: whether dropout layers are in training mode.
    """
    views: dict[int, nn.Module] = {}

    def view(module: nn.Module) -> nn.Module:
        if id(module) in views:  # a module that is registered twice stays one module
            return views[id(module)]
        twin: nn.Module = object.__new__(type(module))
        views[id(module)] = twin
        twin.__dict__.update(module.__dict__)
        children = {name: child if child is None else view(child) for name, child in module._modules.items()}
        twin.__dict__["_modules"] = children
        twin.__dict__["training"] = dropout and isinstance(module, _DropoutNd)
        # Compiled code is bound to the original, as a forward that was replaced on the instance may be.
        twin.__dict__["_compiled_call_impl"] = None
        own = twin.__dict__.get("forward")
        if isinstance(own, types.MethodType) and own.__self__ is module:
            twin.__dict__["forward"] = types.MethodType(own.__func__, twin)
        return twin

    return view(model)


def _confidence(logits: Tensor, spec: ModelSpec) -> Tensor:
    if spec.task == "multiclass":
        return logits.softmax(1).amax(1)
    agreed = logits.abs().sigmoid()  # the probability of what the mask says
    return agreed[:, 0] if spec.task == "binary" else agreed


_LOCKS: "weakref.WeakKeyDictionary[nn.Module, threading.Lock]" = weakref.WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def _lock_of(model: nn.Module) -> threading.Lock:
    """One lock for each model. Some of timm's networks collect their feature maps in an object that hooks share."""
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(model, threading.Lock())
