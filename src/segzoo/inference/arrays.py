"""Arrays that a backend takes and returns: checks, padding, probabilities, masks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.errors import ImageError, OptionError, shown
from segzoo.inference.result import Floats, Mask, mask_dtype
from segzoo.spec import ModelSpec, Task

_RANGES = {"uint8": "0-255", "uint16": "0-65535", "float32": "0-1"}


def check_images(images: Any, spec: ModelSpec) -> None:
    """Raises ImageError unless `images` is what `Backend.run` takes."""
    expected = f"a numpy array, {spec.input_dtype} (N, H, W, {spec.in_channels}), {_RANGES[spec.input_dtype]}"
    if not isinstance(images, np.ndarray):
        raise ImageError(f"A batch must be {expected}; got {type(images).__name__}.")
    if images.dtype != spec.input_dtype or images.ndim != 4 or not images.size or images.shape[3] != spec.in_channels:
        raise ImageError(f"A batch must be {expected}; got {images.dtype} {images.shape}.")


def check_tensor(batch: Any, channels: int) -> None:
    """Raises ImageError unless `batch` is float32 (N, channels, H, W)."""
    expected = f"a numpy array, float32 (N, {channels}, H, W)"
    if not isinstance(batch, np.ndarray):
        raise ImageError(f"A batch must be {expected}; got {type(batch).__name__}.")
    if batch.dtype != np.float32 or batch.ndim != 4 or not batch.size or batch.shape[1] != channels:
        raise ImageError(f"A batch must be {expected}; got {batch.dtype} {batch.shape}.")


def check_size(batch: npt.NDArray[Any], shape: Sequence[Any], name: str) -> None:
    """Raises ImageError if the file `name` has a fixed size (an integer in `shape`) and `batch` has another."""
    if any(isinstance(n, int) and n != size for n, size in zip(shape, batch.shape, strict=True)):
        raise ImageError(
            f"{name} was exported for batches of {shown(tuple(shape))}; got {batch.shape}. "
            "Resize the images, pass tile= to predict, or export the model without static_shape."
        )


def check_out(out: Any, size: tuple[int, int], spec: ModelSpec) -> None:
    """Raises OptionError unless `out` can hold the mask of an image of this size."""
    if spec.task == "multilabel":
        raise OptionError("out= takes masks of one plane, and a multilabel mask has one per class. Leave it out.")
    dtype = mask_dtype(len(spec.classes))
    if getattr(out, "shape", None) != size or getattr(out, "dtype", None) != dtype:
        got = f"{getattr(out, 'dtype', type(out).__name__)} {getattr(out, 'shape', '')}".rstrip()
        raise OptionError(f"out must be an array, {dtype} {size}; got {got}.")


def is_sliceable(image: Any, spec: ModelSpec) -> bool:
    """Whether tiles can be sliced from `image` directly: (H, W, channels) of the model's dtype, not empty."""
    shape = getattr(image, "shape", None)
    if not isinstance(shape, tuple) or len(shape) != 3 or shape[2] != spec.in_channels or 0 in shape:
        return False
    # numpy takes None for float64, and other objects for anything.
    dtype = getattr(image, "dtype", None)
    return dtype is not None and bool(dtype == np.dtype(spec.input_dtype))


def pad(image: npt.NDArray[Any], size: tuple[int, int], mean: Sequence[float]) -> npt.NDArray[Any]:
    """Pads `image`, (h, w, C), to `size` at the bottom and right with the mean color, as the graph does."""
    if image.shape[:2] == size:
        return image
    highest = 1 if image.dtype.kind == "f" else np.iinfo(image.dtype).max
    color = highest * np.asarray(mean)
    padded = np.empty((*size, image.shape[2]), image.dtype)
    padded[:] = color if image.dtype.kind == "f" else np.round(color)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def to_probabilities(logits: Floats, task: Task) -> Floats:
    """Turns logits (..., K, H, W) into probabilities, in place: 21 classes at 1024 x 1024 are 88 MB.

    Softmax over the classes of a multiclass model; otherwise the logistic function of each logit.
    """
    if task == "multiclass":
        np.subtract(logits, logits.max(-3, keepdims=True), out=logits)
        np.exp(logits, out=logits)
        np.divide(logits, logits.sum(-3, keepdims=True), out=logits)
        return logits
    # 1 / (1 + exp(-x)) overflows for large negative x; tanh does not.
    np.multiply(logits, np.float32(0.5), out=logits)
    np.tanh(logits, out=logits)
    np.multiply(logits, np.float32(0.5), out=logits)
    np.add(logits, np.float32(0.5), out=logits)
    return logits


def to_mask(probabilities: Floats, spec: ModelSpec) -> Mask:
    """The mask of probabilities (K, H, W): as `Segmentation.mask`. A tie at 0.5 is foreground."""
    if spec.task == "multiclass":
        mask: Mask = probabilities.argmax(0).astype(mask_dtype(len(spec.classes)))
        return mask
    planes = (probabilities >= 0.5).astype(np.uint8)
    return planes[0] if spec.task == "binary" else planes


def to_confidence(probabilities: Floats, task: Task) -> Floats:
    """The probability of what the mask says, of the mask's shape."""
    if task == "multiclass":
        return np.asarray(probabilities.max(0))
    agreed = np.maximum(probabilities, 1 - probabilities)
    return agreed[0] if task == "binary" else agreed
