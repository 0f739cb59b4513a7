"""An exported .onnx file, ready to turn images into label maps."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from PIL import Image

from segzoo import metadata
from segzoo.errors import CheckpointError, DeviceError, ImageError, SegzooError
from segzoo.labels import LabelSet
from segzoo.preprocess import read_image
from segzoo.runtime import device as devices

ImageLike = str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8]
_Image = TypeVar("_Image", bound=ImageLike)  # list[str] is a list of images, and no list[ImageLike].
Labels = npt.NDArray[np.uint8] | npt.NDArray[np.int32]

# More images at once hardly gain speed, and at 1024 x 2048 their activations fill a GPU of 16 GB.
_BATCH = 8

_log = logging.getLogger("segzoo.runtime")


class Session:
    """A trained model in one .onnx file, run by onnxruntime; torch is never imported. Threads may share one.

    Attributes:
        labels: the names and colours of the classes.
        record: everything the file says about itself: decoder, encoder, mean, std, the segzoo version, ...
        channels: how many channels an image has: 3 for RGB.
        device: where it runs: "cpu", or "cuda:0" and so on.
        provider: onnxruntime's name for that, such as "CUDAExecutionProvider".
        why: one sentence on how `device` was chosen.
    """

    def __init__(self, path: "str | os.PathLike[str]", device: str = "auto", threads: int | None = None) -> None:
        """Loads the file and, on CUDA, proves with one small picture that it runs there.

        Args:
            path: an .onnx file written by segzoo.export.
            device: "cpu"; "cuda" or "cuda:N" for that GPU and nothing else; "auto" for the first GPU if it can be had,
                and the CPU otherwise, with the reason in `why`.
            threads: CPU threads for one run; None leaves it to onnxruntime, which takes every core.

        Raises:
            CheckpointError: the file is missing, truncated, not ONNX, or not written by segzoo.export.
            DeviceError: CUDA was asked for and cannot be had; it says what is missing and what to install.
            UnknownNameError: `device` is none of those above.
            SegzooError: `threads` is below 1.
        """
        kind, index = devices.parse(device)
        if threads is not None and threads < 1:
            raise SegzooError(f"threads must be 1 or more, got {threads}; leave it out to use every core.")
        file = _check_file(Path(path))

        found: ort.InferenceSession | devices.Obstacle | None = None
        if kind != "cpu":
            found = _on_cuda(file, index, threads)
            if isinstance(found, devices.Obstacle) and kind == "cuda":
                raise DeviceError(f"device={device!r} cannot be had, because {found.reason}. {found.remedy}")
        if found is None or isinstance(found, devices.Obstacle):
            self.device, self.provider = "cpu", devices.CPU
            self._session = _on_cpu(file, threads)
        else:
            self.device, self.provider = f"cuda:{index}", devices.CUDA
            self._session = found
        if kind != "auto":
            self.why = f"It runs on {self.device}, because device={device!r} was asked for."
        elif isinstance(found, devices.Obstacle):
            self.why = f"It runs on the CPU, because {found.reason}."
        else:
            self.why = f"It runs on {self.device}, because device='auto' takes the first GPU that works."

        self.record, self.labels = _read_record(self._session, file)
        self.channels: int = self.record["in_channels"]
        self._input = self._session.get_inputs()[0]
        self._path = file

    def __repr__(self) -> str:
        return f"Session({str(self._path)!r}, {len(self.labels)} classes, on {self.device})"

    @overload
    def predict(self, image: ImageLike) -> Labels: ...
    @overload
    def predict(self, image: list[_Image] | tuple[_Image, ...]) -> list[Labels]: ...
    def predict(self, image: ImageLike | list[_Image] | tuple[_Image, ...]) -> Labels | list[Labels]:
        """The class id of every pixel, for one image or a list of images of any sizes.

        Args:
            image: a path, a PIL image or a uint8 array (H, W, channels), or a list or tuple of those. Images of one
                size are run together, up to 8 at once.

        Returns:
            the class ids (H, W), uint8, or int32 where there are more than 256 classes, at the image's own size; a list
            of them, in the order given, for a list.

        Raises:
            ImageError: an image cannot be read as pixels of `channels` channels.
            SegzooError: the file was exported with io="tensor"; or onnxruntime failed, out of memory for one.
            DeviceError: it failed so on a GPU.
        """
        self._check_io("image", "predict and run")
        if not isinstance(image, list | tuple):
            only: Labels = self.run(read_image(image, self.channels)[None])[0]
            return only
        most = self._input.shape[0] if isinstance(self._input.shape[0], int) else _BATCH
        results: dict[int, Labels] = {}
        waiting: dict[tuple[int, ...], list[tuple[int, npt.NDArray[np.uint8]]]] = {}
        # Images are read as they are needed: a folder of 10,000 photographs does not fit into memory.
        for place, one in enumerate(image):
            pixels = read_image(one, self.channels)
            group = waiting.setdefault(pixels.shape, [])
            group.append((place, pixels))
            if len(group) == most:
                results.update(self._run_group(waiting.pop(pixels.shape)))
        for group in waiting.values():
            results.update(self._run_group(group))
        return [results[place] for place in range(len(image))]

    def run(self, batch: npt.NDArray[np.uint8]) -> Labels:
        """The class ids of a batch of images of one size, with no reading and no grouping in between.

        Args:
            batch: uint8 (N, H, W, channels), 0-255.

        Returns:
            class ids (N, H, W), uint8, or int32 where there are more than 256 classes.

        Raises:
            ImageError: another shape or dtype.
            SegzooError: the file was exported with io="tensor"; or onnxruntime failed, out of memory for one.
            DeviceError: it failed so on a GPU.
        """
        self._check_io("image", "predict and run")
        self._check_array(batch, np.dtype(np.uint8), ("N", "H", "W", self.channels))
        return self._call(batch)

    def run_tensor(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The logits of normalised images, for a file exported with io="tensor".

        Args:
            batch: float32 (N, channels, H, W), scaled to 0-1, less record["mean"], over record["std"].

        Returns:
            float32 logits (N, classes, H, W).

        Raises:
            ImageError: another shape or dtype.
            SegzooError: the file was exported with io="image"; or onnxruntime failed, out of memory for one.
            DeviceError: it failed so on a GPU.
        """
        self._check_io("tensor", "run_tensor")
        self._check_array(batch, np.dtype(np.float32), ("N", self.channels, "H", "W"))
        return self._call(batch)

    def _run_group(self, group: list[tuple[int, npt.NDArray[np.uint8]]]) -> dict[int, Labels]:
        masks = self.run(np.stack([pixels for _, pixels in group]))
        return {place: mask for (place, _), mask in zip(group, masks, strict=True)}

    def _check_io(self, wanted: str, what: str) -> None:
        if self.record["io"] == wanted:
            return
        takes = {
            "image": "takes uint8 images and gives class ids: use predict or run",
            "tensor": "takes normalised float tensors and gives logits: use run_tensor",
        }[self.record["io"]]
        raise SegzooError(
            f"{what} cannot be used with {self._path.name}, which {takes}, or export the model with io={wanted!r}."
        )

    def _check_array(self, batch: Any, dtype: "np.dtype[Any]", shape: tuple[int | str, ...]) -> None:
        wanted = f"a numpy array, {dtype} ({', '.join(map(str, shape))})"
        if not isinstance(batch, np.ndarray):
            raise ImageError(f"A batch must be {wanted}; got {type(batch).__name__}.")
        fits = batch.dtype == dtype and batch.ndim == 4 and batch.size > 0
        if not fits or any(isinstance(n, int) and n != size for n, size in zip(shape, batch.shape, strict=True)):
            raise ImageError(f"A batch must be {wanted}; got {batch.dtype} {batch.shape}.")
        # A size that the file fixes is an integer there, and a name or None where it is free.
        fixed = tuple(self._input.shape)
        if any(isinstance(n, int) and n != size for n, size in zip(fixed, batch.shape, strict=True)):
            raise ImageError(
                f"{self._path.name} was exported for batches of {fixed}; got {batch.shape}. "
                "Resize the images, or export the model without a fixed size."
            )

    def _call(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        try:
            output: npt.NDArray[Any] = self._session.run(None, {self._input.name: batch})[0]
        # onnxruntime's exceptions share no base but Exception.
        except Exception as error:
            kind = SegzooError if self.device == "cpu" else DeviceError
            raise kind(
                f"onnxruntime failed on a batch of {batch.shape} on {self.device}: {error} "
                "If it is out of memory, pass fewer or smaller images."
            ) from error
        return output


def _check_file(path: Path) -> Path:
    if path.is_dir():
        raise CheckpointError(f"{str(path)!r} is a folder. Pass the .onnx file that segzoo.export wrote.")
    if not path.is_file():
        raise CheckpointError(f"There is no file {str(path)!r}. Check the path; segzoo.export(model, path) writes one.")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{str(path)!r} is empty (0 bytes). Copy or export it again.")
    return path


def _options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    # Errors only: on CUDA each dynamic graph warns that its shape arithmetic stays on the CPU, which is on purpose.
    options.log_severity_level = 3
    return options


def _on_cpu(path: Path, threads: int | None) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(str(path), _options(threads), providers=[devices.CPU])
    except Exception as error:  # onnxruntime's exceptions share no base but Exception.
        advice = {
            ".safetensors": "It looks like weights: segzoo.export(segzoo.load(path), 'model.onnx') makes an ONNX file.",
            ".pt": "It looks like a torch checkpoint: export the model with segzoo.export.",
            ".pth": "It looks like a torch checkpoint: export the model with segzoo.export.",
        }.get(path.suffix.lower(), "If it was downloaded or copied, it may be truncated; do that, or export it, again.")
        raise CheckpointError(f"{str(path)!r} cannot be loaded as ONNX: {error} {advice}") from error


def _on_cuda(path: Path, index: int, threads: int | None) -> "ort.InferenceSession | devices.Obstacle":
    """A session that has run on that GPU, or what stands against it."""
    obstacle = devices.build_obstacle() or devices.driver_obstacle(index)
    if obstacle is not None:
        return obstacle
    found = _try_cuda(path, index, threads)
    if isinstance(found, devices.Obstacle):
        # A GPU that is there and cannot be used is nearly always a mistake; without one it is just the machine.
        _log.warning("CUDA cannot be used, because %s. %s", found.reason, found.remedy)
    return found


def _try_cuda(path: Path, index: int, threads: int | None) -> "ort.InferenceSession | devices.Obstacle":
    said = devices.preload()
    providers = [(devices.CUDA, {"device_id": index}), devices.CPU]
    try:
        with devices.quiet():
            # Without enable_fallback=0 onnxruntime prints its errors and goes on with the CPU, here and in run().
            session = ort.InferenceSession(str(path), _options(threads), providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions share no base but Exception.
        _on_cpu(path, threads)  # When the file is to blame, this raises, and says so.
        reason = f"onnxruntime cannot load the model on the GPU ({error})"
        return devices.library_obstacle(said) or devices.Obstacle(reason, "Check `nvidia-smi` for free memory.")
    if devices.CUDA not in session.get_providers():
        return devices.library_obstacle(said) or devices.Obstacle(
            "onnxruntime fell back to the CPU, although the driver and the CUDA libraries load",
            f"onnxruntime prints its own reason for onnxruntime.InferenceSession({str(path)!r}, "
            f"providers=[{devices.CUDA!r}]). {said}".rstrip(),
        )
    try:
        _probe(session)
    except Exception as error:  # As above. cuDNN is loaded by the first convolution, not with the session.
        return devices.library_obstacle(said) or devices.Obstacle(
            f"a first small run of the model failed on the GPU ({error})",
            "Check `nvidia-smi` for free memory, and that this onnxruntime-gpu supports the GPU.",
        )
    return session


def _probe(session: ort.InferenceSession) -> None:
    """Runs the model on one black picture, 32 x 32 where the file leaves the size free."""
    spec = session.get_inputs()[0]
    images = spec.type == "tensor(uint8)"
    free = (1, 32, 32, 3) if images else (1, 3, 32, 32)
    shape = [size if isinstance(size, int) else default for size, default in zip(spec.shape, free, strict=True)]
    options = ort.RunOptions()
    options.log_severity_level = 4  # What it would print is in the exception, and so in our message.
    session.run(None, {spec.name: np.zeros(shape, np.uint8 if images else np.float32)}, options)


def _read_record(session: ort.InferenceSession, path: Path) -> tuple[dict[str, Any], LabelSet]:
    """What the file says about itself, checked against the graph it holds."""
    again = "Export the model again with segzoo.export."
    try:
        record = metadata.decode(session.get_modelmeta().custom_metadata_map)
    except ValueError as error:
        raise CheckpointError(f"The record in {str(path)!r} is damaged: {error}. {again}") from error
    if not record:
        raise CheckpointError(
            f"{str(path)!r} is an ONNX file without segzoo's record, so its classes and normalisation are unknown. "
            "Export the model with segzoo.export, or run the file with onnxruntime itself."
        )
    missing = [key for key in ("labels", "num_classes", "in_channels", "io") if record.get(key) is None]
    if missing:
        raise CheckpointError(f"The record in {str(path)!r} lacks {', '.join(missing)}. {again}")
    try:
        labels = LabelSet.from_dict(record["labels"])
    except ValueError as error:
        raise CheckpointError(f"The record in {str(path)!r} is damaged: {error} {again}") from error
    problem = _contradiction(session, record, labels)
    if problem:
        raise CheckpointError(f"{str(path)!r} contradicts its own record: {problem}. {again}")
    return record, labels


def _contradiction(session: ort.InferenceSession, record: Mapping[str, Any], labels: LabelSet) -> str | None:
    if record["num_classes"] != len(labels):
        return f"{record['num_classes']} classes and {len(labels)} names for them"
    expected = {"image": ("tensor(uint8)", 3), "tensor": ("tensor(float)", 1)}
    if record["io"] not in expected:
        return f"io is {record['io']!r}, neither 'image' nor 'tensor'"
    inputs = session.get_inputs()
    if len(inputs) != 1:
        return f"it has {len(inputs)} inputs and should have one"
    kind, axis = expected[record["io"]]
    shape = inputs[0].shape
    if inputs[0].type != kind or len(shape) != 4:
        return f"io is {record['io']!r}, and its input is {inputs[0].type} {shape}"
    if shape[axis] != record["in_channels"]:
        return f"in_channels is {record['in_channels']}, and its input is {shape}"
    return None
