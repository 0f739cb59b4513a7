"""`OnnxBackend`: an .onnx file that `segzoo.export` wrote, run by onnxruntime."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from segzoo._arguments import explained
from segzoo.errors import CheckpointError, DeviceError, OptionError, SegzooError, some
from segzoo.inference import arrays
from segzoo.inference.backends.base import EngineOptions, Images, Output
from segzoo.inference.backends.onnxruntime import ort
from segzoo.inference.backends.onnxruntime.create_session import create_session, placement
from segzoo.inference.backends.onnxruntime.graph_output import with_output
from segzoo.inference.backends.onnxruntime.io_binding import IOBindingRunner
from segzoo.weights.resolve import Located


class OnnxBackend:
    """A trained model in one .onnx file. `Predictor` takes photographs; this takes batches of pixels.

    Attributes:
        spec: the model: decoder, encoder, classes, mean, std, ...
        export: the graph: input, precision, verification, ...
        graph_outputs: names of the graph's outputs: "mask", and "confidence" and "logits" if it was exported with them.
        static_shape: (batch, height, width) that the file was exported for; None where it takes any.
        device: the device it runs on: "cpu", "cuda:0", ...
        provider: onnxruntime's execution provider for the device, such as "CUDAExecutionProvider".
        device_reason: one sentence on why `device` was chosen.
    """

    @explained
    def __init__(
        self, path: "str | os.PathLike[str]", device: str = "auto", options: EngineOptions | None = None
    ) -> None:
        """Loads the file. On a GPU it also runs the model on one small image, to check that it works there.

        Args:
            path: an .onnx file written by segzoo.export.
            device: as for `Predictor`.

        Raises:
            CheckpointError: the file is missing, truncated, not ONNX, or not written by segzoo.export.
            DeviceError: the requested GPU is unavailable; the message says what is missing and what to install.
            UnknownNameError: `device` is not a device.
            OptionError: CUDA graphs do not work with this file or device.
        """
        self._path = Path(path)
        self._created = created = create_session(self._path, device, options or EngineOptions())
        self.device, self.provider, self.device_reason = created.device, created.provider, created.device_reason
        self.spec, self.export = created.spec, created.export
        self._session, self._io_binding = created.session, created.io_binding
        self.graph_outputs: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())
        self._input = self._session.get_inputs()[0]
        # A fixed axis is an integer in the shape, a dynamic one is a name or None.
        batch, *axes = (n if isinstance(n, int) else None for n in self._input.shape)
        height, width = axes[:2] if self.export.input == "image" else axes[1:]
        self.static_shape: tuple[int | None, int | None, int | None] = (batch, height, width)
        self._padded: ort.InferenceSession | None = None
        self._lock = threading.Lock()

    @property
    def outputs(self) -> frozenset[Output]:
        """What `run` can return; only "logits" if the file was exported with input="tensor"."""
        names = {*self.graph_outputs, "logits"} if self.export.padded_logits else {*self.graph_outputs}
        return cast(frozenset[Output], frozenset(names))

    @property
    def placement(self) -> dict[str, list[str]]:
        """Operators by execution provider, as onnxruntime reports them: {"CPUExecutionProvider": ["Conv", ...]}."""
        return placement(self._session)

    def __repr__(self) -> str:
        return f"OnnxBackend({str(self._path)!r}, {len(self.spec.classes)} classes, on {self.device})"

    def run(self, images: Images, outputs: Sequence[Output] = ("mask",)) -> dict[Output, npt.NDArray[Any]]:
        """As `Backend.run`.

        If the graph has no output "logits", the first request for them loads the file a second time, with the logits
        as one more output.

        Raises:
            ImageError: images of another shape or dtype.
            OptionError: the file was exported with input="tensor", or has no such output.
            SegzooError: onnxruntime failed, for example out of memory.
            DeviceError: onnxruntime failed on a GPU.
        """
        self._require_input("image", "run")
        for name in outputs:
            self._require_output(name)
        arrays.check_images(images, self.spec)
        arrays.check_size(images, self._input.shape, self._path.name)
        if set(outputs) <= {*self.graph_outputs}:
            return self._checked(images, dict(zip(outputs, self._call(images, outputs), strict=True)))
        padded = str(self.export.padded_logits)
        names = [padded if name == "logits" else name for name in outputs]
        with self._wrapped_errors(images):
            values = self._session_with_logits(padded).run(names, {self._input.name: images})
        height, width = images.shape[1:3]
        cropped = {
            name: np.asarray(value[..., :height, :width] if name == "logits" and np.ndim(value) > 1 else value)
            for name, value in zip(outputs, values, strict=True)
        }
        return self._checked(images, cropped)

    def _checked(self, images: Images, values: dict[Output, npt.NDArray[Any]]) -> dict[Output, npt.NDArray[Any]]:
        """The outputs, if they have the size of the images; a graph from elsewhere may say one thing and do another."""
        for name, value in values.items():
            planes = (self.spec.num_classes,) if name == "logits" else ()
            if value.shape != (len(images), *planes, *images.shape[1:3]):
                raise CheckpointError(
                    f"The output {name!r} of {self._path.name} is {value.shape} for images of {images.shape}. "
                    "segzoo.export did not write this graph: export the model again."
                )
        return values

    def run_tensor(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Computes the logits of normalized images, for a file exported with input="tensor".

        Args:
            batch: float32 (N, channels, H, W): (pixels on a scale of 0 to 1 - spec.mean) / spec.std.

        Returns:
            float32 logits (N, classes, H, W).

        Raises:
            ImageError: wrong shape or dtype.
            OptionError: the file was exported with input="image".
            SegzooError: onnxruntime failed, for example out of memory.
            DeviceError: onnxruntime failed on a GPU.
        """
        self._require_input("tensor", "run_tensor")
        arrays.check_tensor(batch, self.spec.in_channels)
        arrays.check_size(batch, self._input.shape, self._path.name)
        return self._call(batch, ["logits"])[0]

    def run_on_device(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> dict[str, ort.OrtValue]:
        """Runs a batch and leaves the outputs in device memory, for torch.from_dlpack and similar functions.

        Args:
            batch: as for `run`; as for `run_tensor` if the file was exported with input="tensor".
            outputs: some of `graph_outputs`.

        Returns:
            an OrtValue per name. It owns its memory and supports DLPack; on the CPU it is in host memory.

        Raises:
            ImageError, SegzooError: as `run`.
        """
        for name in outputs:
            self._require_output(name, self.graph_outputs)
        if self.export.input == "image":
            arrays.check_images(batch, self.spec)
        else:
            arrays.check_tensor(batch, self.spec.in_channels)
        arrays.check_size(batch, self._input.shape, self._path.name)
        runner = self._io_binding or IOBindingRunner(self._session, ("cpu", 0), self.spec.num_classes)
        with self._wrapped_errors(batch):
            return dict(zip(outputs, runner.run_on_device(batch, outputs), strict=True))

    def _session_with_logits(self, padded: str) -> ort.InferenceSession:
        with self._lock:
            if self._padded is None:
                self._padded = self._created.reopen(with_output(self._path.read_bytes(), padded))
            return self._padded

    def _require_input(self, expected: str, method: str) -> None:
        if self.export.input == expected:
            return
        takes = {
            "image": "takes uint8 images and returns masks: use run or Predictor",
            "tensor": "takes normalized float tensors and returns logits: use run_tensor",
        }[self.export.input]
        raise OptionError(
            f"{method} cannot be used with {self._path.name}, which {takes}, or export the model with "
            f"input={expected!r}."
        )

    def _require_output(self, output: str, available: Sequence[str] | None = None) -> None:
        names = sorted(self.outputs) if available is None else available
        if output in names:
            return
        remedy = f"Export the model with {output}=True." if output in ("confidence", "logits") else ""
        raise OptionError(f"{self._path.name} has no output {output!r}, only {some(names, 20)}. {remedy}".rstrip())

    def _call(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> list[npt.NDArray[Any]]:
        with self._wrapped_errors(batch):
            if self._io_binding is not None:
                return self._io_binding.run(batch, outputs)
            values: list[npt.NDArray[Any]] = self._session.run(list(outputs), {self._input.name: batch})
            return values

    @contextmanager
    def _wrapped_errors(self, batch: npt.NDArray[Any]) -> Iterator[None]:
        try:
            yield
        # onnxruntime's exceptions share no base but Exception.
        except Exception as error:
            error_type = SegzooError if self.device == "cpu" else DeviceError
            raise error_type(
                f"onnxruntime failed on a batch of {batch.shape} on {self.device}: {error} "
                "If it is out of memory, pass fewer or smaller images, or use tile=."
            ) from error


def open_located(located: Located, device: str, options: EngineOptions) -> OnnxBackend:
    """The backend of an .onnx file."""
    return OnnxBackend(located.path, device, options)
