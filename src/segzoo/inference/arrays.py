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


def check_size(batch: npt.NDArray[Any], wanted: tuple[Any, ...], name: str) -> None:
    """Raises ImageError where the file, of this name, fixes a size (an integer in `wanted`) and `batch` has another."""
    if any(isinstance(n, int) and n != size for n, size in zip(wanted, batch.shape, strict=True)):
        raise ImageError(
            f"{name} was exported for batches of {wanted}; got {batch.shape}. "
            "Resize the images, pass tile= to predict, or export the model without a fixed size."
        )


def pad(picture: npt.NDArray[np.uint8], size: tuple[int, int], mean: list[float]) -> npt.NDArray[np.uint8]:
    """`picture`, uint8 (h, w, C), at the top left of one of `size`; the rest has the mean colour, as in the graph."""
    if picture.shape[:2] == size:
        return picture
    padded = np.empty((*size, picture.shape[2]), np.uint8)
    padded[:] = np.round(255 * np.asarray(mean)).astype(np.uint8)
    padded[: picture.shape[0], : picture.shape[1]] = picture
    return padded


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Logits (K, H, W) to probabilities of the classes, in their place: 21 classes at 1024 x 1024 are 88 MB."""
    np.subtract(logits, logits.max(0), out=logits)
    np.exp(logits, out=logits)
    np.divide(logits, logits.sum(0), out=logits)
    return logits
