"""Files of masks -> class ids: ids as they are, ids through a table, colours.

Everything is checked against the label set as it is read, since an id too many would be learnt in silence, or end in an
error of the device that names no file.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segzoo.classes import LabelSet
from segzoo.errors import DataError

MaskReader = Callable[[Path, LabelSet], NDArray[Any]]
"""A function of a mask's file and its label set that gives ids (H, W), not yet checked."""

_NO_ID = 255
"""Stands for a colour that is none of a label set's, in a table of bytes; label sets read by colour have fewer ids."""


def ids_of(path: Path, labels: LabelSet) -> NDArray[Any]:
    """Ids (H, W) of an image file: pixel values where it is gray or has a palette, classes by colour where it is RGB.

    Of an RGB mask, black is the ignored id, unless it is the colour of a class.

    Raises:
        DataError: the file is missing or damaged, or holds a colour that is none of the label set's.
    """
    pixels = _pixels(path)
    if pixels.ndim == 2:
        return pixels
    table = _colour_table(labels)
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    ids: NDArray[np.uint8] = table[red << 16 | green << 8 | blue]
    strange = ids == _NO_ID
    if strange.any():
        row, column = (int(place) for place in np.argwhere(strange)[0])
        raise DataError(
            f"{path} has the colour {tuple(map(int, pixels[row, column, :3]))} in row {row}, column {column}, which is "
            f"none of the label set's. Correct the mask, or the colours of the labels."
        )
    if labels.ignored is None or 0 <= labels.ignored < _NO_ID:
        return ids
    return np.where(ids == _NO_ID - 1, labels.ignored, ids.astype(np.int32))


class IdsThrough:
    """A `MaskReader` for files whose ids are not the label set's: each id goes through a table.

    Args:
        table: from the file's ids to the label set's.
    """

    def __init__(self, table: dict[int, int]) -> None:
        self.table = dict(table)

    def __call__(self, path: Path, labels: LabelSet) -> NDArray[Any]:
        """Ids (H, W).

        Raises:
            DataError: the file is missing or damaged, or holds an id that is not in the table.
        """
        pixels = _pixels(path)
        if pixels.ndim != 2:
            raise DataError(f"{path} is an RGB image; this mask holds one id a pixel. Check that it is the right file.")
        found = np.unique(pixels)
        strange = [int(one) for one in found if int(one) not in self.table]
        if strange:
            raise DataError(f"{path} has the id {strange[0]}, which the data set does not know: {sorted(self.table)}.")
        mapped = np.array([self.table[int(one)] for one in found])
        return mapped[np.searchsorted(found, pixels)]


def check_ids(mask: NDArray[Any], path: Path, labels: LabelSet) -> NDArray[Any]:
    """The mask, if each of its ids is a class or the ignored id.

    Raises:
        DataError: one is neither; the message names the file, the id and a place.
    """
    right = (mask >= 0) & (mask < len(labels))
    if labels.ignored is not None:
        right |= mask == labels.ignored
    if not right.all():
        row, column = (int(place) for place in np.argwhere(~right)[0])
        ignored = "no id is ignored" if labels.ignored is None else f"{labels.ignored} is ignored"
        raise DataError(
            f"{path} has the id {mask[row, column]} in row {row}, column {column}; the classes are "
            f"0-{len(labels) - 1}, and {ignored}. Correct the mask, or name the label set that it was made with."
        )
    return mask


def _pixels(path: Path) -> NDArray[Any]:
    """Integers (H, W), or uint8 (H, W, 3)."""
    if not path.is_file():
        raise DataError(f"There is no mask {path}. Each image needs one.")
    try:
        with Image.open(path) as image:
            if image.mode in ("RGB", "RGBA"):
                return np.asarray(image.convert("RGB"))
            pixels = np.asarray(image)
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead to.
        raise DataError(f"The mask {path} cannot be read: {error}. Fetch or copy the file again.") from error
    if pixels.ndim != 2 or pixels.dtype.kind not in "iub":
        raise DataError(f"The mask {path} is {image.mode}; masks are gray, of a palette, or RGB. Convert it to PNG.")
    return pixels.astype(np.uint8) if pixels.dtype.kind == "b" else pixels


@functools.lru_cache(maxsize=2)
def _colour_table(labels: LabelSet) -> NDArray[np.uint8]:
    """The id of each of 2**24 colours: 16 MB, and a tenth of the time that a search among 24 colours takes."""
    if len(labels) >= _NO_ID - 1:
        raise DataError(f"Masks of colours hold up to {_NO_ID - 2} classes, and this label set {len(labels)}.")
    if len(set(labels.colours)) < len(labels):
        raise DataError("Two classes of the label set have one colour, so a mask of colours cannot tell them apart.")
    table = np.full(2**24, _NO_ID, np.uint8)
    if labels.ignored is not None:
        table[0] = labels.ignored if 0 <= labels.ignored < _NO_ID else _NO_ID - 1
    for index, (red, green, blue) in enumerate(labels.colours):
        table[red << 16 | green << 8 | blue] = index
    return table
