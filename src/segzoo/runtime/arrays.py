"""What a session takes and gives as arrays, and what it says of other ones."""

from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.errors import ImageError, SegzooError


def label_type(classes: int) -> "np.dtype[Any]":
    """The dtype of class ids: what an exported file gives."""
    return np.dtype(np.uint8 if classes <= 256 else np.int32)


def check_batch(batch: Any, io: str, channels: int) -> None:
    """Raises ImageError unless `batch` is what a file exported with this `io` takes."""
    dtype = np.dtype(np.uint8 if io == "image" else np.float32)
    shape = ("N", "H", "W", channels) if io == "image" else ("N", channels, "H", "W")
    wanted = f"a numpy array, {dtype} ({', '.join(map(str, shape))})"
    if not isinstance(batch, np.ndarray):
        raise ImageError(f"A batch must be {wanted}; got {type(batch).__name__}.")
    fits = batch.dtype == dtype and batch.ndim == 4 and batch.size > 0
    if not fits or any(isinstance(n, int) and n != size for n, size in zip(shape, batch.shape, strict=True)):
        raise ImageError(f"A batch must be {wanted}; got {batch.dtype} {batch.shape}.")


def check_out(out: npt.NDArray[Any], size: tuple[int, int], classes: int) -> None:
    """Raises SegzooError unless `out` takes the labels of an image of this size."""
    kind = label_type(classes)
    if getattr(out, "shape", None) != size or getattr(out, "dtype", None) != kind:
        got = f"{getattr(out, 'dtype', type(out).__name__)} {getattr(out, 'shape', '')}".rstrip()
        raise SegzooError(f"out must be an array, {kind} {size}; got {got}.")


def is_sliceable(image: Any, channels: int) -> bool:
    """Whether tiles can be cut from it as it is: uint8 (H, W, channels), and not empty."""
    shape = getattr(image, "shape", None)
    if not isinstance(shape, tuple) or len(shape) != 3 or shape[2] != channels or 0 in shape:
        return False
    return bool(getattr(image, "dtype", None) == np.uint8)
