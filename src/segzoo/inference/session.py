"""An exported .onnx file, ready to turn images into label maps."""

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
from segzoo.errors import DeviceError, ImageError, SegzooError
from segzoo.inference import arrays, tiling
from segzoo.inference.backends.onnxruntime.create_session import Options, open_file, placement
from segzoo.inference.backends.onnxruntime.io_binding import Bound
from segzoo.inference.stream import Labels, Result, run_list, stream
from segzoo.inference.tta import Augment, mean_of_views, views

_Image = TypeVar("_Image", bound=ImageLike)  # list[str] is a list of images, and no list[ImageLike].
Size = int | tuple[int, int]
"""Pixels: one number for both sides, or (height, width)."""

# More images at once hardly gain speed, and at 1024 x 2048 their activations fill a GPU of 16 GB.
BATCH = 8


class Session:
    """A trained model in one .onnx file, run by onnxruntime; torch is never imported. Threads may share one.

    Attributes:
        labels: the names and colours of the classes.
        record: everything the file says about itself: decoder, encoder, mean, std, the segzoo version, ...
        channels: how many channels an image has: 3 for RGB.
        outputs: what the file can give: "labels", and "scores" and "logits" where it was exported with them.
        size: the (height, width) that the file was exported for; None when it takes any.
        batch: the number of images it was exported for; None when it takes any.
        device: where it runs: "cpu", or "cuda:0" and so on.
        provider: onnxruntime's name for that, such as "CUDAExecutionProvider".
        why: one sentence on how `device` was chosen.
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
        """Loads the file and, on a GPU, proves with one small picture that it runs there.

        Args:
            path: an .onnx file written by segzoo.export.
            device: "cpu"; "cuda" or "cuda:N" for that GPU and nothing else; "tensorrt" or "tensorrt:N" for the same by
                TensorRT, with CUDA for what that cannot run; "auto" for CUDA on the first GPU if it can be had, and the
                CPU otherwise, with the reason in `why`.
            threads: CPU threads for one run; None leaves it to onnxruntime, which takes every core.
            tf32: on CUDA, lets convolutions round to 10 bits of mantissa, which is faster and no longer what export
                proved.
            cuda_graph: on CUDA, replays the run as one graph; for files of one fixed size. One thread runs at a time.

        Raises:
            CheckpointError: the file is missing, truncated, not ONNX, or not written by segzoo.export.
            DeviceError: a GPU was asked for and cannot be had; it says what is missing and what to install.
            UnknownNameError: `device` is none of those above.
            SegzooError: `threads` is below 1, or `cuda_graph` cannot be had with this file or device.
        """
        if threads is not None and threads < 1:
            raise SegzooError(f"threads must be 1 or more, got {threads}; leave it out to use every core.")
        self._path = Path(path)
        opened = open_file(self._path, device, Options(threads, tf32, cuda_graph))
        self.device, self.provider, self.why = opened.device, opened.provider, opened.why
        self.record, self.labels = opened.record, opened.labels
        self._session, self._bound = opened.session, opened.bound
        self.channels: int = self.record["in_channels"]
        self.outputs: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())
        self._input = self._session.get_inputs()[0]
        # A size that the file fixes is an integer there, and a name or None where it is free.
        batch, *axes = self._input.shape
        self.batch: int | None = batch if isinstance(batch, int) else None
        height, width = axes[:2] if self.record["io"] == "image" else axes[1:]
        self.size: tuple[int, int] | None = (height, width) if isinstance(height, int) else None

    @property
    def placement(self) -> dict[str, list[str]]:
        """onnxruntime's own account of which provider runs what, such as {"CPUExecutionProvider": ["Conv", ...]}."""
        return placement(self._session)

    def __repr__(self) -> str:
        return f"Session({str(self._path)!r}, {len(self.labels)} classes, on {self.device})"

    @overload
    def predict(
        self,
        image: ImageLike,
        *,
        tile: Size | None = None,
        overlap: Size | None = None,
        tta: Augment | None = None,
        out: npt.NDArray[Any] | None = None,
    ) -> Labels: ...
    @overload
    def predict(
        self,
        image: list[_Image] | tuple[_Image, ...],
        *,
        tile: Size | None = None,
        overlap: Size | None = None,
        tta: Augment | None = None,
    ) -> list[Labels]: ...
    def predict(
        self,
        image: ImageLike | list[_Image] | tuple[_Image, ...],
        *,
        tile: Size | None = None,
        overlap: Size | None = None,
        tta: Augment | None = None,
        out: npt.NDArray[Any] | None = None,
    ) -> Labels | list[Labels]:
        """The class id of every pixel, for one image or a list of images of any sizes.

        Args:
            image: a path, a PIL image or a uint8 array (H, W, channels), or a list or tuple of those. Images of one
                size are run together, up to 8 at once. With `tile` it may be anything that has a shape and a dtype and
                is sliced like an array (numpy.memmap, zarr, h5py); it is read slice by slice.
            tile: runs larger images in tiles of this size and blends their class probabilities at the seams. Memory
                then depends on the tile and not on the image. A multiple of record["multiple"] wastes nothing.
            overlap: what neighbouring tiles share, at least; a quarter of the tile unless given, at most half. A
                network that sees no further than a quarter of it gives what it gives on the whole image.
            tta: takes the mean of the class probabilities over several views of each image (or tile): "flip" for it and
                its mirror image, numbers such as (0.75, 1.0, 1.25) for scales of it, ("flip", 0.75, 1.0) for both.
            out: an array (H, W) to write the class ids of one image into, such as a numpy.memmap. It is what is
                returned.

        Returns:
            the class ids (H, W), uint8, or int32 where there are more than 256 classes, at the image's own size; a list
            of them, in the order given, for a list.

        Raises:
            ImageError: an image cannot be read as pixels of `channels` channels.
            SegzooError: the file was exported with io="tensor", or without logits, which `tile` and `tta` need; `tile`,
                `overlap`, `tta` or `out` cannot be used; or onnxruntime failed, out of memory for one.
            DeviceError: it failed so on a GPU.
        """
        self._check_io("image", "predict and run")
        self._check_overlap(tile, overlap)
        if isinstance(image, list | tuple):
            if out is not None:
                raise SegzooError("out takes the labels of one image; for a list, call predict for each.")
            if tile is None and tta is None:
                return run_list(image, self._read, self._run_pixels, self.batch or BATCH)
            return [self.predict(one, tile=tile, overlap=overlap, tta=tta) for one in image]
        blended = None if tile is None and tta is None else self._blended(tile, overlap, tta)
        pixels = self._read(image) if blended is None else self._open(image)
        if out is not None:
            arrays.check_out(out, pixels.shape[:2], len(self.labels))
        if blended is not None:
            return blended(pixels, out)
        labels = self._run_pixels([pixels])[0]
        if out is None:
            return labels
        out[:] = labels
        return out

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
        """The label maps of any number of images, in order: a folder, a list, a generator, the frames of a video.

        While you use one result the next images are run, and those after them are read. An image that cannot be read,
        or run, is a Result with an `error`, and the others go on. Never more than three batches are taken from `images`
        ahead of you. Closing what is returned, or dropping it, ends its threads.

        Args:
            images: a folder (its images and those of the folders below it, sorted), a file, or an iterable of what
                `predict` takes, called in your own thread. An array must not change until its result is there.
            batch: how many images of one size are run together; 8 unless given, and as many as the file is fixed to.
                1 gives the first result soonest.
            tile, overlap, tta: as for `predict`; with any of them images are run one by one.

        Raises:
            ImageError: at once, when there is no such folder, or no image in it.
            SegzooError: at once, as `predict` does, on options that cannot be used with this file.
        """
        self._check_io("image", "stream")
        if batch is not None and batch < 1:
            raise SegzooError(f"batch must be 1 or more, got {batch}.")
        if isinstance(images, str | os.PathLike):
            images = list_images(images)
        if isinstance(images, np.ndarray | Image.Image) or not isinstance(images, Iterable):
            raise ImageError(f"stream takes a folder or an iterable of images, got one {type(images).__name__}.")
        if tile is None and tta is None:
            self._check_overlap(tile, overlap)
            most = self.batch or batch or BATCH
            return stream(images, self._read, self._run_pixels, most)
        blended = self._blended(tile, overlap, tta)
        return stream(images, self._open, lambda pixels: [blended(one, None) for one in pixels], 1)

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
        self._check_array(batch)
        return self._call(batch, ["labels"])[0]

    def run_outputs(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Any of `self.outputs` for a batch, each by its name.

        Args:
            batch: as for `run`, or, where the file was exported with io="tensor", as for `run_tensor`.
            outputs: of "labels" (N, H, W), "scores" float32 (N, H, W), the label's probability, 0-1, and "logits"
                float32 (N, classes, H, W).

        Raises:
            ImageError: another shape or dtype.
            SegzooError: the file has no such output; or onnxruntime failed, out of memory for one.
            DeviceError: it failed so on a GPU.
        """
        for name in outputs:
            self._require(name, f"The output {name!r}")
        self._check_array(batch)
        return dict(zip(outputs, self._call(batch, list(outputs)), strict=True))

    def run_on_device(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> dict[str, ort.OrtValue]:
        """As `run_outputs`, with the outputs left in the memory of the device, for torch.from_dlpack and the like.

        Returns:
            onnxruntime's OrtValue for each name. It holds memory of its own, speaks DLPack, and is on the host where
            `device` is "cpu".
        """
        for name in outputs:
            self._require(name, f"The output {name!r}")
        self._check_array(batch)
        bound = self._bound or Bound(self._session, ("cpu", 0), len(self.labels))
        with self._explained(batch):
            return dict(zip(outputs, bound.run_on_device(batch, outputs), strict=True))

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
        self._check_array(batch)
        return self._call(batch, ["logits"])[0]

    def _blended(
        self, tile: Size | None, overlap: Size | None, augment: Augment | None
    ) -> Callable[[Any, npt.NDArray[Any] | None], Labels]:
        """What turns one image, as `_open` gives it, into labels by blending; the options are checked at once."""
        self._check_overlap(tile, overlap)
        self._require("logits", "tile" if tile is not None else "tta")
        chosen = views(augment)
        scorer = mean_of_views(self._score, chosen)
        whole = None if tile is None else tiling.sides(tile, "tile", 1)
        if whole is not None:
            tiling.lay((1, 1), whole, overlap, 1, False)
        if self.size is not None and any(scale != 1 for scale, _ in chosen):
            raise SegzooError(
                f"{self._path.name} was exported for images of {self.size}; tta can only be 'flip' there."
            )
        if self.size is not None and whole not in (None, self.size):
            raise SegzooError(f"{self._path.name} was exported for images of {self.size}; pass tile={self.size}.")

        def predict(pixels: Any, out: npt.NDArray[Any] | None) -> Labels:
            size = pixels.shape[:2]
            if whole is None and self.size not in (None, size):
                raise ImageError(
                    f"{self._path.name} was exported for images of {self.size}; got {size}. "
                    f"Pass tile={self.size}, or resize the image."
                )
            step, fixed = self.record.get("multiple", 1), self.size is not None
            rows, columns = tiling.lay(size, whole or size, overlap, step, fixed)
            target = np.empty(size, arrays.label_type(len(self.labels))) if out is None else out
            tiling.blend(pixels, target, scorer, len(self.labels), rows, columns)
            return target

        return predict

    def _read(self, image: ImageLike) -> npt.NDArray[np.uint8]:
        return read_image(image, self.channels)

    def _open(self, image: Any) -> Any:
        """The pixels of an image, or the image itself where tiles can be cut from it as it is."""
        return image if arrays.is_sliceable(image, self.channels) else self._read(image)

    def _score(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The probability of each class, float32 (K, H, W), for one picture that fits or is below a fixed size."""
        height, width = picture.shape[:2]
        if self.size is not None:
            picture = arrays.pad(picture, self.size, self.record["mean"])
        batch = np.repeat(picture[None], self.batch or 1, axis=0)
        return arrays.softmax(self._call(batch, ["logits"])[0][0, :, :height, :width])

    def _run_pixels(self, group: list[npt.NDArray[np.uint8]]) -> list[Labels]:
        """The labels of images of one shape, no more than the file takes at once."""
        # A file of a fixed batch takes no fewer: the last image fills it up, and what comes of that is dropped.
        full = group + [group[-1]] * ((self.batch or 0) - len(group))
        return list(self.run(full[0][None] if len(full) == 1 else np.stack(full))[: len(group)])

    def _check_overlap(self, tile: Size | None, overlap: Size | None) -> None:
        if tile is None and overlap is not None:
            raise SegzooError("overlap is of tiles: pass tile=(height, width) too.")

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

    def _check_array(self, batch: Any) -> None:
        arrays.check_batch(batch, self.record["io"], self.channels)
        arrays.check_size(batch, tuple(self._input.shape), self._path.name)

    def _require(self, output: str, what: str) -> None:
        if output in self.outputs:
            return
        if self.record["io"] == "tensor":
            raise SegzooError(f"{what} cannot be had: {self._path.name} was exported with io='tensor'.")
        how = f"Export the model with {output}=True." if output in ("scores", "logits") else ""
        raise SegzooError(
            f"{what} cannot be had from {self._path.name}, which has no output {output!r}, only "
            f"{', '.join(self.outputs)}. {how}".rstrip()
        )

    def _call(self, batch: npt.NDArray[Any], outputs: list[str]) -> list[npt.NDArray[Any]]:
        with self._explained(batch):
            if self._bound is not None:
                return self._bound.run(batch, outputs)
            found: list[npt.NDArray[Any]] = self._session.run(outputs, {self._input.name: batch})
            return found

    @contextmanager
    def _explained(self, batch: npt.NDArray[Any]) -> Iterator[None]:
        try:
            yield
        # onnxruntime's exceptions share no base but Exception.
        except Exception as error:
            kind = SegzooError if self.device == "cpu" else DeviceError
            raise kind(
                f"onnxruntime failed on a batch of {batch.shape} on {self.device}: {error} "
                "If it is out of memory, pass fewer or smaller images, or tile them."
            ) from error
