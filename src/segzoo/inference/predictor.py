"""`Predictor`: predicts masks with any model, from any source, on any backend."""

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from segzoo._arguments import explained
from segzoo.classes import ClassSet
from segzoo.data.images import ImageLike, list_images
from segzoo.errors import ImageError, OptionError, SegzooError
from segzoo.inference import arrays
from segzoo.inference.backends import open_backend
from segzoo.inference.backends.base import Backend, EngineOptions
from segzoo.inference.batching import Batcher
from segzoo.inference.execution import Execution
from segzoo.inference.options import Plan, PredictOptions
from segzoo.inference.result import Segmentation
from segzoo.inference.stream import run_list, stream
from segzoo.schema import whole_number
from segzoo.spec import ModelSpec
from segzoo.weights.resolve import Located, resolve

if TYPE_CHECKING:
    from concurrent.futures import Future

_Image = TypeVar("_Image", bound=ImageLike)  # Lists are invariant: list[str] is not a list[ImageLike].


class Predictor:
    """A model that is ready to predict. Several threads may use it at once.

        predictor = segzoo.Predictor("street.onnx", device="cuda")
        result = predictor.predict("street.jpg")
        for result in predictor.stream("photos/"): ...

    Close it, or use it in a `with` block, to stop the threads of `submit`. A Predictor of a file can be pickled; it
    opens the file again.

    Attributes:
        backend: the engine that runs the model.
        spec: what the model is: decoder, encoder, classes, channels, ...
        classes: names and colors of the classes.
        device: the device it runs on: "cpu", "cuda:0", ...
        device_reason: one sentence on why `device` was chosen.
    """

    @explained
    def __init__(
        self,
        model: "Any | str | os.PathLike[str]",
        device: str = "auto",
        *,
        threads: int | None = None,
        tf32: bool = False,
        cuda_graph: bool = False,
    ) -> None:
        """Opens the model on a device.

        If the device you ask for is unavailable, Predictor raises; it never falls back silently.

        Args:
            model: an .onnx file that `segzoo.export` wrote, which runs in onnxruntime without torch; anything that
                `segzoo.load` takes: a .safetensors file, a catalog key, hf://owner/repo, an https URL; a `Located`
                file; a model in memory; or a `Backend`.
            device: "cpu"; "cuda" or "cuda:N" for that GPU only; "tensorrt" or "tensorrt:N", for .onnx files, with CUDA
                for operators that TensorRT does not support; "auto" for CUDA on the first GPU if it is available,
                otherwise the CPU, with the reason in `device_reason`. A model in memory runs where its weights are.
            threads: CPU threads of onnxruntime per run; None uses every core.
            tf32: on CUDA, onnxruntime rounds inputs of convolutions to 10 bits of mantissa. This is faster, but export
                verified the file without it.
            cuda_graph: on CUDA, onnxruntime replays the run as one CUDA graph. The file must have a fixed size, and
                only one thread runs at a time.

        Raises:
            UnknownNameError: `model` is neither a file nor a catalog key, or `device` is not a device.
            CheckpointError: the file is missing, damaged, or not written by segzoo.
            DownloadError: the model cannot be downloaded.
            DeviceError: the device is unavailable; the message says what is missing and what to install.
            OptionError: an option does not suit the model, or the file takes tensors instead of images.
        """
        options = EngineOptions(threads, tf32, cuda_graph)
        self.backend: Backend = open_backend(model, device, options)
        source = model if not isinstance(model, Located) else model.path if model.entry is None else model.entry.key
        is_path = isinstance(source, str | os.PathLike) and resolve(source) == "path"
        # It is opened again in another process, which may run in another folder.
        self._arguments = (Path(os.path.abspath(source)) if is_path else source, device, options)
        self._name = repr(os.fspath(source)) if isinstance(source, str | os.PathLike) else type(source).__name__
        if "mask" not in self.backend.outputs:
            raise OptionError(
                f"{self._name} was exported with input='tensor' and takes no images. Export the model with "
                "input='image', or run normalized tensors with segzoo.inference.OnnxBackend(path).run_tensor."
            )
        self._execution = Execution(self.backend, self._name)
        self._batcher: Batcher | None = None
        self._lock = threading.Lock()

    @property
    def spec(self) -> ModelSpec:
        return self.backend.spec

    @property
    def classes(self) -> ClassSet:
        return self.backend.spec.classes

    @property
    def device(self) -> str:
        return self.backend.device

    @property
    def device_reason(self) -> str:
        return self.backend.device_reason

    def __repr__(self) -> str:
        return f"Predictor({self._name}, {len(self.classes)} classes, on {self.device})"

    def __reduce__(self) -> Any:
        return _reopen, self._arguments

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for submitted images and stops the threads of `submit`, which can be called again."""
        with self._lock:
            batcher, self._batcher = self._batcher, None
        if batcher is not None:
            batcher.close()

    @overload
    def predict(
        self, image: list[_Image] | tuple[_Image, ...], **options: Unpack[PredictOptions]
    ) -> list[Segmentation]: ...
    @overload
    def predict(
        self, image: ImageLike, *, out: npt.NDArray[Any] | None = None, **options: Unpack[PredictOptions]
    ) -> Segmentation: ...
    @explained
    def predict(
        self, image: Any, *, out: npt.NDArray[Any] | None = None, **options: Unpack[PredictOptions]
    ) -> Segmentation | list[Segmentation]:
        """Predicts the mask of one image or of a list of images of any sizes.

        Args:
            image: a path, a PIL image, an array (H, W, channels) of the model's dtype, the bytes of an image file, a
                binary file object, or a torch tensor like the array; or a list or tuple of these. Images of equal size
                run together. With `tile` it may be any object with a shape and a dtype that is sliced like an array
                (numpy.memmap, zarr, h5py); it is read slice by slice.
            out: an array (H, W), such as a numpy.memmap, that receives the mask of one image.
            options: see `PredictOptions`.

        Returns:
            the result at the image's own size; for a list, a list in the same order.

        Raises:
            ImageError: an image cannot be read, or does not fit the model.
            OptionError: an option is invalid, or the backend cannot do what it asks for.
            SegzooError: the engine failed, for example out of memory.
            DeviceError: the engine failed on a GPU.
        """
        plan = self._plan(options)
        if isinstance(image, list | tuple):
            if out is not None:
                raise OptionError("out takes the mask of one image; for a list, call predict for each.")
            read, run = partial(self._execution.read, plan=plan), partial(self._execution.run, plan=plan)
            return run_list(image, read, run, self._execution.batch_size(plan))
        pixels = self._execution.read(image, plan)
        if out is not None:
            arrays.check_out(out, pixels.shape[:2], self.spec)
        return self._execution.run([(image, pixels)], plan, out)[0]

    @explained
    def stream(
        self,
        images: "str | os.PathLike[str] | Iterable[ImageLike]",
        *,
        batch_size: int | None = None,
        on_error: Callable[[Any, SegzooError], object] | None = None,
        **options: Unpack[PredictOptions],
    ) -> Iterator[Segmentation]:
        """Predicts any number of images, in order: a folder, a list, a generator, the frames of a video.

        Reading, running and your own code overlap: while you use one result, the next images run and those after them
        are read. At most three batches are read ahead. Closing or deleting the iterator stops its threads.

        Args:
            images: a folder (its images, subfolders included, sorted), a file, or an iterable of what `predict` takes,
                which is advanced in your thread. Do not modify an array before its result arrives.
            batch_size: number of images of equal size that run together; by default 8 on a GPU and 1 on the CPU, or
                the file's batch size if it is fixed.
            on_error: called with an image that cannot be read or run, and the error; the image is left out of the
                results. None raises the error.
            options: see `PredictOptions`; with `tile`, `tta` or `samples`, images run one by one.

        Raises:
            ImageError: immediately, if there is no such folder or no image in it.
            OptionError: immediately, if the options are invalid or the backend cannot do what they ask for.
        """
        plan = self._plan(options)
        if batch_size is not None:
            batch_size = whole_number("batch_size", batch_size, 1)
        if isinstance(images, str | os.PathLike):
            images = list_images(images)
        if isinstance(images, np.ndarray | Image.Image | bytes) or not isinstance(images, Iterable):
            raise ImageError(f"stream takes a folder or an iterable of images, got one {type(images).__name__}.")
        batch_size = self._execution.batch_size(plan, batch_size)
        read, run = partial(self._execution.read, plan=plan), partial(self._execution.run, plan=plan)
        return _unwrap(stream(images, read, run, batch_size), on_error)

    def submit(self, image: ImageLike, **options: Unpack[PredictOptions]) -> "Future[Segmentation]":
        """Predicts one image in the background. Images of several callers that wait at the same time run together.

        Nothing waits for a batch to fill: while one batch runs, the next one gathers.

        Args:
            image, options: as for `predict`. Do not modify an array before the result is there.

        Returns:
            a future: `result()` waits for the Segmentation or raises the errors of `predict`; `cancel()` succeeds
            until the image runs.

        Raises:
            OptionError: immediately, if the options are invalid or the backend cannot do what they ask for.
        """
        plan = self._plan(options)
        with self._lock:  # all callers share one, or their images would not run together
            if self._batcher is None:
                self._batcher = Batcher(self._execution)
            return self._batcher.submit(image, plan)

    def _plan(self, options: PredictOptions) -> Plan:
        plan = Plan.of(dict(options))
        self._execution.check(plan)
        return plan


def _reopen(model: Any, device: str, options: EngineOptions) -> Predictor:
    return Predictor(model, device, **vars(options))


def _unwrap(results: Generator[Any], on_error: Callable[[Any, SegzooError], object] | None) -> Iterator[Segmentation]:
    with closing(results):  # its threads must not outlive an error
        for result in results:
            if result.error is None:
                yield result.value
            elif on_error is None:
                raise result.error
            else:
                on_error(result.source, result.error)
