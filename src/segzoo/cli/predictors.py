"""A model in a file, ready to predict: .onnx by onnxruntime and without torch, .safetensors by torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from segzoo.classes import LabelSet
from segzoo.data.images import ImageLike, read_image
from segzoo.errors import DeviceError, SegzooError
from segzoo.weights.resolve import Located

if TYPE_CHECKING:
    from segzoo.inference import Result
    from segzoo.inference.session import Size
    from segzoo.inference.tta import Augment

Source = TypeVar("Source", bound=ImageLike)


@dataclass(frozen=True)
class How:
    """What only an .onnx file can be asked for, any other ignores it; None leaves each to the session."""

    batch: int | None = None
    tile: "Size | None" = None
    overlap: "Size | None" = None
    tta: "Augment | None" = None

    def given(self) -> list[str]:
        """The options that were given, as they are typed."""
        return [f"--{name}" for name, value in vars(self).items() if value is not None]


class Predictor(Protocol):
    """What both kinds of file become."""

    labels: LabelSet
    channels: int
    device: str
    why: str
    record: dict[str, Any]
    """What the file says of itself: decoder, encoder, options, and under "info" what the author added."""

    def predict(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """The class ids (H, W) of an image (H, W, channels)."""

    def results(self, images: Iterable[Source]) -> "Iterator[Result[Source]]":
        """The class ids of each image, in order; an image that fails is a result with an error."""


def open_model(model: Located, device: str, how: How) -> Predictor:
    """Loads the model onto a device.

    Args:
        model: what `files.find` found.
        device: "auto", "cpu", "cuda", "cuda:N", and for .onnx files "tensorrt" or "tensorrt:N".

    Raises:
        CheckpointError: not a file that segzoo wrote.
        DeviceError: a device that was asked for and cannot be had.
        SegzooError: the file takes no photographs, or cannot do what `how` asks for.
    """
    if model.path.suffix.lower() == ".onnx":
        return OnnxPredictor(model.path, device, how)
    return TorchPredictor(model, device)


class OnnxPredictor:
    """An exported file, run by onnxruntime: images are read while others are run."""

    def __init__(self, path: Path, device: str, how: How) -> None:
        from segzoo.inference import Session

        self._session = session = Session(path, device)
        if session.record["io"] != "image":
            raise SegzooError(
                f"{path} was exported with io='tensor' and takes no images. Export it again with --io image."
            )
        blends = [option for option in how.given() if option in ("--tile", "--tta")]
        if blends and "logits" not in session.outputs:
            raise SegzooError(
                f"{' and '.join(blends)} cannot be had from {path}, which holds no logits. Export it again with "
                "--logits."
            )
        self.labels, self.channels = session.labels, session.channels
        self.record = session.record
        self.device, self.why = session.device, session.why
        # On the CPU more at once gains nothing, and the system kills a program that runs out of memory there.
        self._batch = how.batch or (1 if self.device == "cpu" else None)
        self._how = how
        self.results(())  # options that cannot be used with this file are known at once

    def predict(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """The class ids (H, W) of an image (H, W, channels)."""
        return self._session.predict(image)

    def results(self, images: Iterable[Source]) -> "Iterator[Result[Source]]":
        """The class ids of each image, in order; an image that fails is a result with an error."""
        how = self._how
        return self._session.stream(images, batch=self._batch, tile=how.tile, overlap=how.overlap, tta=how.tta)


class TorchPredictor:
    """A checkpoint, run by torch."""

    def __init__(self, model: Located, device: str) -> None:
        from segzoo.inference.backends.onnxruntime.device import parse

        kind, index = parse(device)
        if kind == "tensorrt":
            raise DeviceError(
                f"device={device!r} runs .onnx files only. `segzoo export {model.name}` writes one; "
                "or use --device cuda."
            )
        from segzoo.models.create import record
        from segzoo.models.load import load_located

        reason = None if kind == "cpu" else _obstacle(index)
        if kind == "cuda" and reason is not None:
            raise DeviceError(f"device={device!r} cannot be had, because {reason}. Use --device cpu, or auto.")
        on_gpu = kind != "cpu" and reason is None
        self.device = f"cuda:{index}" if on_gpu else "cpu"
        if kind != "auto":
            self.why = f"It runs on {self.device}, because device={device!r} was asked for."
        elif on_gpu:
            self.why = f"It runs on {self.device}, because device='auto' takes the first GPU that works."
        else:
            self.why = f"It runs on the CPU, because {reason}."
        self._model = load_located(model).to(self.device)
        self.labels = self._model.labels
        self.channels = self._model.config.in_channels
        self.record = record(self._model)

    def results(self, images: Iterable[Source]) -> "Iterator[Result[Source]]":
        """The class ids of each image, in order; an image that fails is a result with an error."""
        from segzoo.inference import Result

        for image in images:
            try:
                yield Result(image, self.predict(read_image(image, self.channels)), None)
            except SegzooError as error:
                yield Result(image, None, error)
            except OSError as error:
                yield Result(image, None, SegzooError(str(error)))

    def predict(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """The class ids (H, W) of an image (H, W, channels)."""
        try:
            return self._model.predict(image)
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise SegzooError(f"torch failed on {image.shape[1]} x {image.shape[0]} pixels: {reason}") from error


def _obstacle(index: int) -> str | None:
    """Why torch cannot use GPU number `index`: a clause that follows "because"."""
    import torch

    from segzoo.inference.backends.onnxruntime.device import driver_obstacle

    if torch.version.cuda is None:
        return "the installed torch is built without CUDA"
    if torch.cuda.is_available() and index < torch.cuda.device_count():
        return None
    obstacle = driver_obstacle(index)
    return "torch finds no usable GPU" if obstacle is None else obstacle.reason
