"""Checks of the arrays a session takes and returns, padding, and softmax."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.errors import ImageError, OptionError
from segzoo.inference.result import mask_dtype


def check_batch(batch: Any, input: str, channels: int) -> None:
    """Raises ImageError unless a file exported with this `input` accepts `batch`."""
    dtype = np.dtype(np.uint8 if input == "image" else np.float32)
    shape = ("N", "H", "W", channels) if input == "image" else ("N", channels, "H", "W")
    expected = f"a numpy array, {dtype} ({', '.join(map(str, shape))})"
    if not isinstance(batch, np.ndarray):
        raise ImageError(f"A batch must be {expected}; got {type(batch).__name__}.")
    fits = batch.dtype == dtype and batch.ndim == 4 and batch.size > 0
    if not fits or any(isinstance(n, int) and n != size for n, size in zip(shape, batch.shape, strict=True)):
        raise ImageError(f"A batch must be {expected}; got {batch.dtype} {batch.shape}.")


def check_out(out: npt.NDArray[Any], size: tuple[int, int], classes: int) -> None:
    """Raises OptionError unless `out` can hold the mask of an image of this size."""
    dtype = mask_dtype(classes)
    if getattr(out, "shape", None) != size or getattr(out, "dtype", None) != dtype:
        got = f"{getattr(out, 'dtype', type(out).__name__)} {getattr(out, 'shape', '')}".rstrip()
        raise OptionError(f"out must be an array, {dtype} {size}; got {got}.")


def is_sliceable(image: Any, channels: int) -> bool:
    """Whether tiles can be sliced from `image` directly: uint8 (H, W, channels), not empty."""
    shape = getattr(image, "shape", None)
    if not isinstance(shape, tuple) or len(shape) != 3 or shape[2] != channels or 0 in shape:
        return False
    return bool(getattr(image, "dtype", None) == np.uint8)


def check_size(batch: npt.NDArray[Any], shape: tuple[Any, ...], name: str) -> None:
    """Raises ImageError if the file `name` has a fixed size (an integer in `shape`) and `batch` has another."""
    if any(isinstance(n, int) and n != size for n, size in zip(shape, batch.shape, strict=True)):
        raise ImageError(
            f"{name} was exported for batches of {shape}; got {batch.shape}. "
            "Resize the images, pass tile= to predict, or export the model without static_shape."
        )


def pad(image: npt.NDArray[np.uint8], size: tuple[int, int], mean: Sequence[float]) -> npt.NDArray[np.uint8]:
    """Pads `image`, uint8 (h, w, C), to `size` at the bottom and right with the mean color, as the graph does."""
    if image.shape[:2] == size:
        return image
    padded = np.empty((*size, image.shape[2]), np.uint8)
    padded[:] = np.round(255 * np.asarray(mean)).astype(np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Turns logits (K, H, W) into class probabilities, in place: 21 classes at 1024 x 1024 are 88 MB."""
    np.subtract(logits, logits.max(0), out=logits)
    np.exp(logits, out=logits)
    np.divide(logits, logits.sum(0), out=logits)
    return logits
