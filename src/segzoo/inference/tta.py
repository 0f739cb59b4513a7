"""Test-time augmentation: the mean of the class probabilities over mirrored and scaled views of an image."""

from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from segzoo.errors import OptionError

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Augment = Literal["flip"] | Iterable[float | Literal["flip"]]
_Dtype = TypeVar("_Dtype", np.uint8, np.float32)
View = tuple[float, bool]
"""A scale, and whether the image is mirrored horizontally."""


def views(tta: Augment | None) -> list[View]:
    """The views that `tta` asks for. None: the image only. "flip": the image and its mirror image. Numbers: scales.

    A sequence of "flip" and scales, such as ("flip", 0.75, 1.0), adds the mirror image at each scale.

    Raises:
        OptionError: `tta` is none of these, or a scale is outside 0.1-10.
    """
    if tta is None:
        return [(1.0, False)]
    given = ["flip"] if isinstance(tta, str) and tta == "flip" else tta
    usage = "tta must be 'flip', or scales such as (0.75, 1.0, 1.25), or both: ('flip', 0.75, 1.0, 1.25)"
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise OptionError(f"{usage}; got {tta!r}.")
    scales, mirrored = [], False
    for item in given:
        if isinstance(item, str):
            if item != "flip":
                raise OptionError(f"{usage}; got {item!r}.")
            mirrored = True
        elif isinstance(item, bool) or not isinstance(item, int | float | np.number) or not 0.1 <= item <= 10:
            raise OptionError(f"{usage}; a scale is a number from 0.1 to 10, got {item!r}.")
        else:
            scales.append(float(item))
    return [(scale, flip) for scale in scales or [1.0] for flip in ((False, True) if mirrored else (False,))]


def mean_of_views(predict: Callable[[Pixels], Floats], chosen: list[View]) -> Callable[[Pixels], Floats]:
    """A function that calls `predict` on each view and returns the mean probabilities at the image's original size.

    Images and probabilities are resized with Pillow's bilinear filter, which covers every source pixel when it scales
    down. The filter is linear, so the probabilities of a pixel still sum to 1.

    Args:
        predict: uint8 (H, W, C) to float32 (K, H, W).
        chosen: as returned by `views`.
    """
    if chosen == [(1.0, False)]:
        return predict

    def predict_views(image: Pixels) -> Floats:
        height, width = image.shape[:2]
        total: Floats = np.zeros((1, height, width), np.float32)
        for scale, mirrored in chosen:
            size = (max(round(height * scale), 1), max(round(width * scale), 1))
            view = image if size == (height, width) else _resize_pixels(image, size)
            probabilities = predict(np.ascontiguousarray(view[:, ::-1]) if mirrored else view)
            probabilities = probabilities[:, :, ::-1] if mirrored else probabilities
            if probabilities.shape[1:] != (height, width):
                probabilities = np.stack([_resize(plane, (height, width)) for plane in probabilities])
            total = total + probabilities / np.float32(len(chosen))
        return total

    return predict_views


def _resize_pixels(image: Pixels, size: tuple[int, int]) -> Pixels:
    # Channel by channel, since Pillow has no mode for images of 2, 5 or 12 channels.
    return np.stack([_resize(image[..., channel], size) for channel in range(image.shape[2])], axis=2)


def _resize(plane: npt.NDArray[_Dtype], size: tuple[int, int]) -> npt.NDArray[_Dtype]:
    height, width = size
    image = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), plane.dtype)
