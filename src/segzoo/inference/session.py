"""`Session`: runs an exported .onnx file on images."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from PIL import Image

from segzoo.data.images import ImageLike, list_images, read_image
from segzoo.errors import DeviceError, ImageError, OptionError, SegzooError
from segzoo.inference import arrays, tiling
from segzoo.inference.backends.onnxruntime.create_session import Options, create_session, placement
from segzoo.inference.backends.onnxruntime.io_binding import IOBindingRunner
from segzoo.inference.result import Mask, mask_dtype
from segzoo.inference.stream import Result, run_list, stream
from segzoo.inference.tta import Augment, mean_of_views, views

_Image = TypeVar("_Image", bound=ImageLike)  # Lists are invariant: list[str] is not a list[ImageLike].
Size = int | tuple[int, int]
"""In pixels: one number for both height and width, or (height, width)."""

# Larger batches are hardly faster, and at 1024 x 2048 their activations fill a 16 GB GPU.
BATCH = 8


class Session:
    """A trained model in one .onnx file, run by onnxruntime without torch. Thread-safe.

    Attributes:
        classes: names and colors of the classes.
        spec: the model: decoder, encoder, classes, mean, std, ...
        export: the graph: input, precision, verification, ...
        channels: number of image channels: 3 for RGB.
        outputs: names of the graph's outputs: "mask", and "confidence" and "logits" if it was exported with them.
        size: the (height, width) the file was exported for; None if it takes any size.
        batch: the batch size the file was exported for; None if it takes any.
        device: the device it runs on: "cpu", "cuda:0", ...
        provider: onnxruntime's execution provider for the device, such as "CUDAExecutionProvider".
        device_reason: one sentence on why `device` was chosen.
    """

    def __init__(
        self,
        path: "str | os.PathLike[str]",
        device: str = "auto",
        *,
        threads: int | None = None,
        tf32: bool = False,
        cuda_graph: bool = False,
    ) -> None:
        """Loads the file. On a GPU it also runs the model on one small image, to check that it works there.

        If the requested device is unavailable, Session raises; it never falls back silently.

        Args:
            path: an .onnx file written by segzoo.export.
            device: "cpu"; "cuda" or "cuda:N" for that GPU only; "tensorrt" or "tensorrt:N" for TensorRT on that GPU,
                with CUDA for operators that TensorRT does not support; "auto" for CUDA on the first GPU if it is
                available, otherwise the CPU, with the reason in `device_reason`.
            threads: CPU threads per run; None lets onnxruntime choose, which uses every core.
            tf32: on CUDA, rounds inputs of convolutions to 10 bits of mantissa. This is faster, but export verified
                the file without it.
            cuda_graph: on CUDA, replays the run as one CUDA graph. The file must have a fixed size, and only one thread
                runs at a time.

        Raises:
            CheckpointError: the file is missing, truncated, not ONNX, or not written by segzoo.export.
            DeviceError: the requested GPU is unavailable; the message says what is missing and what to install.
            UnknownNameError: `device` is none of the above.
            OptionError: `threads` is below 1, or `cuda_graph` does not work with this file or device.
        """
        if threads is not None and threads < 1:
            raise OptionError(f"threads must be 1 or more, got {threads}; leave it out to use every core.")
        self._path = Path(path)
        created = create_session(self._path, device, Options(threads, tf32, cuda_graph))
        self.device, self.provider, self.device_reason = created.device, created.provider, created.device_reason
        self.spec, self.export = created.spec, created.export
        self.classes = self.spec.classes
        self._session, self._io_binding = created.session, created.io_binding
        self.channels: int = self.spec.in_channels
        self.outputs: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())
        self._input = self._session.get_inputs()[0]
        # A fixed axis is an integer in the shape, a dynamic one is a name or None.
        batch, *axes = self._input.shape
        self.batch: int | None = batch if isinstance(batch, int) else None
        height, width = axes[:2] if self.export.input == "image" else axes[1:]
        self.size: tuple[int, int] | None = (height, width) if isinstance(height, int) else None

    @property
    def placement(self) -> dict[str, list[str]]:
        """Operators by execution provider, as onnxruntime reports them: {"CPUExecutionProvider": ["Conv", ...]}."""
        return placement(self._session)

    def __repr__(self) -> str:
        return f"Session({str(self._path)!r}, {len(self.classes)} classes, on {self.device})"

    @overload
    def predict(
        self,
        image: ImageLike,
        *,
        tile: Size | None = None,
        overlap: Size | None = None,
        tta: Augment | None = None,
        out: npt.NDArray[Any] | None = None,
    ) -> Mask: ...
    @overload
    def predict(
        self,
        image: list[_Image] | tuple[_Image, ...],
        *,
        tile: Size | None = None,
        overlap: Size | None = None,
        tta: Augment | None = None,
    ) -> list[Mask]: ...
    def predict(
        self,
        image: ImageLike | list[_Image] | tuple[_Image, ...],
        *,
        tile: Size | None = None,
        overlap: Size | None = None,
        tta: Augment | None = None,
        out: npt.NDArray[Any] | None = None,
    ) -> Mask | list[Mask]:
        """Predicts the mask of one image or of a list of images of any sizes.

        Args:
            image: a path, a PIL image or a uint8 array (H, W, channels), or a list or tuple of these. Images of equal
                size run together, up to 8 at once. With `tile` it may be any object with a shape and a dtype that is
                sliced like an array (numpy.memmap, zarr, h5py); it is read slice by slice.
            tile: tile size. Larger images are run in tiles, whose class probabilities are blended at the seams. Memory
                then depends on the tile, not on the image. Multiples of spec.size_divisibility need no padding.
            overlap: the minimum overlap of neighboring tiles, at most half the tile; a quarter of the tile by default.
                If the receptive field is smaller than a quarter of the overlap, tiled and whole-image masks are
                identical.
            tta: test-time augmentation: the mean of the class probabilities over views of each image (or tile). "flip"
                adds the mirror image, numbers such as (0.75, 1.0, 1.25) are scales, ("flip", 0.75, 1.0) is both.
            out: an array (H, W), such as a numpy.memmap, that receives the mask of one image and is returned.

        Returns:
            the mask: class ids (H, W), uint8, or int32 for more than 256 classes, at the image's original size. For a
            list of images, a list of masks in the same order.

        Raises:
            ImageError: an image cannot be read, or does not have `channels` channels.
            SegzooError: the file was exported with input="tensor", or without logits, which `tile` and `tta` need;
                `tile`, `overlap`, `tta` or `out` is invalid; or onnxruntime failed, for example out of memory.
            DeviceError: onnxruntime failed on a GPU.
        """
        self._check_input("image", "predict and run")
        self._check_overlap(tile, overlap)
        if isinstance(image, list | tuple):
            if out is not None:
                raise OptionError("out takes the mask of one image; for a list, call predict for each.")
            if tile is None and tta is None:
                return run_list(image, self._read, self._run_pixels, self.batch or BATCH)
            return [self.predict(item, tile=tile, overlap=overlap, tta=tta) for item in image]
        blended = None if tile is None and tta is None else self._blended(tile, overlap, tta)
        pixels = self._read(image) if blended is None else self._open(image)
        if out is not None:
            arrays.check_out(out, pixels.shape[:2], len(self.classes))
        if blended is not None:
            return blended(pixels, out)
        mask = self._run_pixels([pixels])[0]
        if out is not None:
            out[:] = mask
        return mask if out is None else out

    @overload
    def stream(
        self,
        images: "str | os.PathLike[str]",
        *,
        batch: int | None = None,
        tile: Size | None = None,
        overlap: Size | None = None,
        tta: Augment | None = None,
    ) -> Iterator[Result[Path]]: ...
    @overload
    def stream(
        self,
        images: Iterable[_Image],
        *,
        batch: int | None = None,
        tile: Size | None = None,
        overlap: Size | None = None,
        tta: Augment | None = None,
    ) -> Iterator[Result[_Image]]: ...
    def stream(
        self,
        images: "str | os.PathLike[str] | Iterable[ImageLike]",
        *,
        batch: int | None = None,
        tile: Size | None = None,
        overlap: Size | None = None,
        tta: Augment | None = None,
    ) -> Iterator[Result[Any]]:
        """Predicts the masks of any number of images, in order: a folder, a list, a generator, the frames of a video.

        Reading, running and your own code overlap: while you use one result, the next images run and those after them
        are read. If an image cannot be read or run, its Result has an `error`, and the stream continues. At most three
        batches are read ahead. Closing or deleting the iterator stops its threads.

        Args:
            images: a folder (its images, subfolders included, sorted), a file, or an iterable of what `predict` takes,
                which is advanced in your thread. Do not modify an array before its result arrives.
            batch: number of images of equal size that run together; 8 by default, or the file's batch size if it is
                fixed. 1 returns the first result soonest.
            tile, overlap, tta: as for `predict`; with `tile` or `tta`, images run one by one.

        Raises:
            ImageError: immediately, if there is no such folder or no image in it.
            SegzooError: immediately, as `predict`, if the options do not work with this file.
        """
        self._check_input("image", "stream")
        if batch is not None and batch < 1:
            raise OptionError(f"batch must be 1 or more, got {batch}.")
        if isinstance(images, str | os.PathLike):
            images = list_images(images)
        if isinstance(images, np.ndarray | Image.Image) or not isinstance(images, Iterable):
            raise ImageError(f"stream takes a folder or an iterable of images, got one {type(images).__name__}.")
        self._check_overlap(tile, overlap)
        if tile is None and tta is None:
            return stream(images, self._read, self._run_pixels, self.batch or batch or BATCH)
        blended = self._blended(tile, overlap, tta)
        return stream(images, self._open, lambda group: [blended(pixels, None) for pixels in group], 1)

    def run(self, batch: npt.NDArray[np.uint8]) -> Mask:
        """Predicts the masks of a batch of images of equal size, in one run.

        Args:
            batch: uint8 (N, H, W, channels), 0-255.

        Returns:
            class ids (N, H, W), uint8, or int32 for more than 256 classes.

        Raises:
            ImageError: wrong shape or dtype.
            SegzooError: the file was exported with input="tensor", or onnxruntime failed, for example out of memory.
            DeviceError: onnxruntime failed on a GPU.
        """
        self._check_input("image", "predict and run")
        self._check_array(batch)
        return self._call(batch, ["mask"])[0]

    def run_outputs(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Runs a batch and returns the named outputs.

        Args:
            batch: as for `run`; as for `run_tensor` if the file was exported with input="tensor".
            outputs: some of `self.outputs`: "mask" (N, H, W); "confidence", float32 (N, H, W), the probability of the
                predicted class, 0-1; "logits", float32 (N, classes, H, W).

        Raises:
            ImageError: wrong shape or dtype.
            SegzooError: the file has no such output, or onnxruntime failed, for example out of memory.
            DeviceError: onnxruntime failed on a GPU.
        """
        for name in outputs:
            self._require(name, f"The output {name!r}")
        self._check_array(batch)
        return dict(zip(outputs, self._call(batch, list(outputs)), strict=True))

    def run_on_device(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> dict[str, ort.OrtValue]:
        """Like `run_outputs`, but leaves the outputs in device memory, for torch.from_dlpack and similar functions.

        Returns:
            an OrtValue per name. It owns its memory and supports DLPack; on the CPU it is in host memory.
        """
        for name in outputs:
            self._require(name, f"The output {name!r}")
        self._check_array(batch)
        runner = self._io_binding or IOBindingRunner(self._session, ("cpu", 0), len(self.classes))
        with self._wrapped_errors(batch):
            return dict(zip(outputs, runner.run_on_device(batch, outputs), strict=True))

    def run_tensor(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Computes the logits of normalized images, for a file exported with input="tensor".

        Args:
            batch: float32 (N, channels, H, W): (pixels on a scale of 0 to 1 - spec.mean) / spec.std.

        Returns:
            float32 logits (N, classes, H, W).

        Raises:
            ImageError: wrong shape or dtype.
            SegzooError: the file was exported with input="image", or onnxruntime failed, for example out of memory.
            DeviceError: onnxruntime failed on a GPU.
        """
        self._check_input("tensor", "run_tensor")
        self._check_array(batch)
        return self._call(batch, ["logits"])[0]

    def _blended(
        self, tile: Size | None, overlap: Size | None, augment: Augment | None
    ) -> Callable[[Any, npt.NDArray[Any] | None], Mask]:
        """A function that predicts an opened image from blended probabilities. Checks the options immediately."""
        self._require("logits", "tile=" if tile is not None else "tta=")
        chosen = views(augment)
        probabilities = mean_of_views(self._probabilities, chosen)
        tile_size = None if tile is None else tiling.as_size(tile, "tile", 1)
        if tile_size is not None:
            tiling.grid((1, 1), tile_size, overlap, 1, False)
        if self.size is not None and any(scale != 1 for scale, _ in chosen):
            raise OptionError(f"{self._path.name} was exported for images of {self.size}; tta can only be 'flip'.")
        if self.size is not None and tile_size not in (None, self.size):
            raise OptionError(f"{self._path.name} was exported for images of {self.size}; pass tile={self.size}.")

        def predict(pixels: Any, out: npt.NDArray[Any] | None) -> Mask:
            size = pixels.shape[:2]
            if tile_size is None and self.size not in (None, size):
                raise ImageError(
                    f"{self._path.name} was exported for images of {self.size}; got {size}. "
                    f"Pass tile={self.size}, or resize the image."
                )
            step, fixed = self.spec.size_divisibility, self.size is not None
            rows, columns = tiling.grid(size, tile_size or size, overlap, step, fixed)
            mask = np.empty(size, mask_dtype(len(self.classes))) if out is None else out
            tiling.blend(pixels, mask, probabilities, len(self.classes), rows, columns)
            return mask

        return predict

    def _read(self, image: ImageLike) -> npt.NDArray[np.uint8]:
        return read_image(image, self.channels)

    def _open(self, image: Any) -> Any:
        """The pixels of an image, or the image itself if tiles can be sliced from it."""
        return image if arrays.is_sliceable(image, self.channels) else self._read(image)

    def _probabilities(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Class probabilities, float32 (K, H, W), of one image, which is no larger than a fixed size."""
        height, width = pixels.shape[:2]
        if self.size is not None:
            pixels = arrays.pad(pixels, self.size, self.spec.mean)
        batch = np.repeat(pixels[None], self.batch or 1, axis=0)
        return arrays.softmax(self._call(batch, ["logits"])[0][0, :, :height, :width])

    def _run_pixels(self, group: list[npt.NDArray[np.uint8]]) -> list[Mask]:
        """The masks of images of equal shape, at most one batch."""
        # A fixed batch size must be filled: the last image is repeated, and the additional masks are dropped.
        full = group + [group[-1]] * ((self.batch or 0) - len(group))
        return list(self.run(full[0][None] if len(full) == 1 else np.stack(full))[: len(group)])

    def _check_overlap(self, tile: Size | None, overlap: Size | None) -> None:
        if tile is None and overlap is not None:
            raise OptionError("overlap= needs tile=: pass tile=(height, width) too.")

    def _check_input(self, expected: str, methods: str) -> None:
        if self.export.input == expected:
            return
        takes = {
            "image": "takes uint8 images and returns class ids: use predict or run",
            "tensor": "takes normalized float tensors and returns logits: use run_tensor",
        }[self.export.input]
        raise OptionError(
            f"{methods} cannot be used with {self._path.name}, which {takes}, or export the model with "
            f"input={expected!r}."
        )

    def _check_array(self, batch: Any) -> None:
        arrays.check_batch(batch, self.export.input, self.channels)
        arrays.check_size(batch, tuple(self._input.shape), self._path.name)

    def _require(self, output: str, purpose: str) -> None:
        if output in self.outputs:
            return
        if self.export.input == "tensor":
            raise OptionError(f"{purpose} is unavailable: {self._path.name} was exported with input='tensor'.")
        remedy = f"Export the model with {output}=True." if output in ("confidence", "logits") else ""
        raise OptionError(
            f"{purpose} is unavailable: {self._path.name} has no output {output!r}, only {', '.join(self.outputs)}. "
            f"{remedy}".rstrip()
        )

    def _call(self, batch: npt.NDArray[Any], outputs: list[str]) -> list[npt.NDArray[Any]]:
        with self._wrapped_errors(batch):
            if self._io_binding is not None:
                return self._io_binding.run(batch, outputs)
            values: list[npt.NDArray[Any]] = self._session.run(outputs, {self._input.name: batch})
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
