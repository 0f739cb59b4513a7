"""Loads a model file for prediction: .onnx with onnxruntime, which needs no torch; .safetensors with torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from segzoo.classes import ClassSet
from segzoo.data.images import ImageLike, read_image
from segzoo.errors import DeviceError, SegzooError
from segzoo.spec import ModelSpec
from segzoo.weights.resolve import Located

if TYPE_CHECKING:
    from segzoo.inference import Result
    from segzoo.inference.session import Size
    from segzoo.inference.tta import Augment

Source = TypeVar("Source", bound=ImageLike)


@dataclass(frozen=True)
class How:
    """Prediction options that only .onnx files support; other files ignore them. None is the session's default."""

    batch_size: int | None = None
    tile: "Size | None" = None
    overlap: "Size | None" = None
    tta: "Augment | None" = None

    def given(self) -> list[str]:
        """The options that are set, as typed on the command line."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value is not None]


class Predictor(Protocol):
    """A loaded model, whichever file it came from."""

    classes: ClassSet
    channels: int
    device: str
    device_reason: str
    spec: ModelSpec
    """The spec stored in the file."""

    def predict(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """The mask (H, W) of an image (H, W, C)."""

    def results(self, images: Iterable[Source]) -> "Iterator[Result[Source]]":
        """One result per image, in order; an image that fails gives a result with an error."""


def open_model(model: Located, device: str, how: How) -> Predictor:
    """Loads the model onto a device.

    Args:
        model: the file, as `files.find` returns it.
        device: "auto", "cpu", "cuda", "cuda:N", and for .onnx files "tensorrt" or "tensorrt:N".

    Raises:
        CheckpointError: segzoo did not write the file.
        DeviceError: the requested device is unavailable.
        SegzooError: the file takes tensors instead of images, or does not support the options in `how`.
    """
    if model.path.suffix.lower() == ".onnx":
        return OnnxPredictor(model.path, device, how)
    return TorchPredictor(model, device)


class OnnxPredictor:
    """An exported file, run by onnxruntime; images are read while others run."""

    def __init__(self, path: Path, device: str, how: How) -> None:
        from segzoo.inference import Session

        self._session = session = Session(path, device)
        if session.export.input != "image":
            raise SegzooError(
                f"{path} was exported with --input tensor and takes no images. Export it again with --input image."
            )
        blends = [option for option in how.given() if option in ("--tile", "--tta")]
        if blends and "logits" not in session.outputs:
            raise SegzooError(
                f"{path} has no logits output, which {' and '.join(blends)} need{'s' if len(blends) == 1 else ''}. "
                "Export it again with --logits."
            )
        self.classes, self.channels = session.classes, session.channels
        self.spec = session.spec
        self.device, self.device_reason = session.device, session.device_reason
        # On the CPU, larger batches are no faster, and a process that runs out of host memory is killed.
        self._batch = how.batch_size or (1 if self.device == "cpu" else None)
        self._how = how
        self.results(())  # raises at once if the options do not suit this file

    def predict(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """The mask (H, W) of an image (H, W, C)."""
        return self._session.predict(image)

    def results(self, images: Iterable[Source]) -> "Iterator[Result[Source]]":
        """One result per image, in order; an image that fails gives a result with an error."""
        how = self._how
        return self._session.stream(images, batch=self._batch, tile=how.tile, overlap=how.overlap, tta=how.tta)


class TorchPredictor:
    """A checkpoint, run by torch."""

    def __init__(self, model: Located, device: str) -> None:
        from segzoo.inference.backends.onnxruntime.device import explain, parse

        device_type, index = parse(device)
        if device_type == "tensorrt":
            raise DeviceError(
                f"device={device!r} runs .onnx files only. Write one with `segzoo export {model.name}`, "
                "or use --device cuda."
            )
        from segzoo.models.load import load_located

        reason = None if device_type == "cpu" else _device_issue(index)
        if device_type == "cuda" and reason is not None:
            raise DeviceError(f"device={device!r} is unavailable, because {reason}. Use --device cpu, or auto.")
        on_gpu = device_type != "cpu" and reason is None
        self.device = f"cuda:{index}" if on_gpu else "cpu"
        self.device_reason = explain(self.device, device, reason)
        self._model = load_located(model).to(self.device)
        self.classes = self._model.classes
        self.channels = self._model.spec.in_channels
        self.spec = self._model.spec

    def results(self, images: Iterable[Source]) -> "Iterator[Result[Source]]":
        """One result per image, in order; an image that fails gives a result with an error."""
        from segzoo.inference import Result

        for image in images:
            try:
                yield Result(image, self.predict(read_image(image, self.channels)), None)
            except SegzooError as error:
                yield Result(image, None, error)
            except OSError as error:
                yield Result(image, None, SegzooError(str(error)))

    def predict(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """The mask (H, W) of an image (H, W, C)."""
        try:
            return self._model.predict(image)
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise SegzooError(f"torch failed on {image.shape[1]} x {image.shape[0]} pixels: {reason}") from error


def _device_issue(index: int) -> str | None:
    """The reason why torch cannot use GPU `index`, as a clause after "because"; None if it can."""
    import torch

    from segzoo.inference.backends.onnxruntime.device import driver_issue

    if torch.version.cuda is None:
        return "the installed torch is built without CUDA"
    if torch.cuda.is_available() and index < torch.cuda.device_count():
        return None
    issue = driver_issue(index)
    return "torch finds no usable GPU" if issue is None else issue.reason
