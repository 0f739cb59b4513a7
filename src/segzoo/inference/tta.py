"""The same picture in several views, and the mean of what the network says about them."""

from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from segzoo.errors import SegzooError

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Augment = Literal["flip"] | Iterable[float | Literal["flip"]]
_Kind = TypeVar("_Kind", np.uint8, np.float32)
View = tuple[float, bool]
"""A scale, and whether the picture is mirrored left to right."""


def views(tta: Augment | None) -> list[View]:
    """What `tta` means: None is the picture itself, "flip" it and its mirror image, numbers are scales of it.

    A sequence that holds "flip" beside scales, such as ("flip", 0.75, 1.0), mirrors at each scale.

    Raises:
        SegzooError: it is none of these, or a scale is outside 0.1-10.
    """
    if tta is None:
        return [(1.0, False)]
    given = ["flip"] if isinstance(tta, str) and tta == "flip" else tta
    says = "tta is 'flip', or scales such as (0.75, 1.0, 1.25), or both: ('flip', 0.75, 1.0, 1.25)"
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise SegzooError(f"{says}; got {tta!r}.")
    scales, mirrored = [], False
    for one in given:
        if isinstance(one, str):
            if one != "flip":
                raise SegzooError(f"{says}; got {one!r}.")
            mirrored = True
        elif isinstance(one, bool) or not isinstance(one, int | float | np.number) or not 0.1 <= one <= 10:
            raise SegzooError(f"{says}; a scale is a number from 0.1 to 10, got {one!r}.")
        else:
            scales.append(float(one))
    return [(scale, flip) for scale in scales or [1.0] for flip in ((False, True) if mirrored else (False,))]


def mean_of_views(scorer: Callable[[Pixels], Floats], chosen: list[View]) -> Callable[[Pixels], Floats]:
    """A scorer that shows each view to `scorer` and takes the mean of the probabilities, at the picture's own size.

    Pictures and probabilities are resized with Pillow's bilinear filter, which covers every source pixel where it makes
    something smaller. The filter is linear, so that the probabilities of a pixel still add up to 1.

    Args:
        scorer: uint8 (H, W, C) to float32 (K, H, W).
        chosen: as `views` gives them.
    """
    if chosen == [(1.0, False)]:
        return scorer

    def score(picture: Pixels) -> Floats:
        height, width = picture.shape[:2]
        total: Floats = np.zeros((1, height, width), np.float32)
        for scale, mirrored in chosen:
            size = (max(round(height * scale), 1), max(round(width * scale), 1))
            seen = picture if size == (height, width) else _resize_pixels(picture, size)
            said = scorer(np.ascontiguousarray(seen[:, ::-1]) if mirrored else seen)
            said = said[:, :, ::-1] if mirrored else said
            if said.shape[1:] != (height, width):
                said = np.stack([_resize(plane, (height, width)) for plane in said])
            total = total + said / np.float32(len(chosen))
        return total

    return score


def _resize_pixels(picture: Pixels, size: tuple[int, int]) -> Pixels:
    # Channel by channel: Pillow has no mode for pictures of 2, 5 or 12 channels.
    planes = [_resize(picture[..., channel], size) for channel in range(picture.shape[2])]
    return np.stack(planes, axis=2)


def _resize(plane: npt.NDArray[_Kind], size: tuple[int, int]) -> npt.NDArray[_Kind]:
    height, width = size
    image = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), plane.dtype)
