"""A model in a file, ready to predict: .onnx by onnxruntime and without torch, .safetensors by torch."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from segzoo.cli import files
from segzoo.errors import DeviceError, SegzooError
from segzoo.labels import LabelSet


class Predictor(Protocol):
    """What both kinds of file become."""

    labels: LabelSet
    channels: int
    device: str
    why: str

    def predict(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """uint8 (H, W, channels), 0-255 -> class ids (H, W)."""


def open_model(path: Path, device: str) -> Predictor:
    """Loads the model onto a device.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        CheckpointError: no file, or none that segzoo wrote.
        DeviceError: a device that was asked for and cannot be had.
        SegzooError: the file takes no photographs.
    """
    files.require(path)
    if path.suffix.lower() == ".safetensors":
        return TorchPredictor(path, device)
    from segzoo.runtime import Session

    session = Session(path, device)
    if session.record["io"] != "image":
        raise SegzooError(f"{path} was exported with io='tensor' and takes no images. Export it again with --io image.")
    return session


class TorchPredictor:
    """A checkpoint, run by torch."""

    def __init__(self, path: Path, device: str) -> None:
        from segzoo.factory import load
        from segzoo.runtime.device import parse

        kind, index = parse(device)
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
        self._model = load(path).to(self.device)
        self.labels = self._model.labels
        self.channels = self._model.config.in_channels

    def predict(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """uint8 (H, W, channels), 0-255 -> class ids (H, W)."""
        try:
            return self._model.predict(image)
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise SegzooError(f"torch failed on {image.shape[1]} x {image.shape[0]} pixels: {reason}") from error


def _obstacle(index: int) -> str | None:
    """Why torch cannot use GPU number `index`: a clause that follows "because"."""
    import torch

    from segzoo.runtime.device import driver_obstacle

    if torch.version.cuda is None:
        return "the installed torch is built without CUDA"
    if torch.cuda.is_available() and index < torch.cuda.device_count():
        return None
    obstacle = driver_obstacle(index)
    return "torch finds no usable GPU" if obstacle is None else obstacle.reason
