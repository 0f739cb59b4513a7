"""Reads mask files as class ids: from ids, from ids through a lookup table, or from colors.

Every mask is checked against its class set as it is read. Otherwise an invalid id would be learned unnoticed, or cause
a device error that names no file.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo.classes import ClassSet
from segzoo.data.open_image import open_image, pixel_limit, require_pixels, upright
from segzoo.data.pages import has_several
from segzoo.errors import DataError, SegzooError

MaskReader = Callable[[Path, ClassSet], NDArray[Any]]
"""A function of a mask file and its class set that returns ids (H, W), not yet checked."""

_NO_ID = 255
"""Marks a color that is not in the class set, in a uint8 table; class sets that are read by color have fewer ids."""


def read_mask(path: Path, classes: ClassSet) -> NDArray[Any]:
    """The ids (H, W) of an image file: pixel values if it is gray or has a palette, classes by color if it is RGB.

    In an RGB mask, black is `ignore_index`, unless it is the color of a class.

    Raises:
        DataError: the file is missing or damaged, has several pages, or contains a color that is not in the class set.
    """
    pixels = _read_pixels(path)
    if pixels.ndim == 2:
        return pixels
    table = _color_table(classes)
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    ids: NDArray[np.uint8] = table[red << 16 | green << 8 | blue]
    invalid = ids == _NO_ID
    if invalid.any():
        row, column = (int(index) for index in np.argwhere(invalid)[0])
        raise DataError(
            f"{path} has the color {tuple(map(int, pixels[row, column, :3]))} in row {row}, column {column}, which is "
            f"not in the class set. Correct the mask or the palette."
        )
    if classes.ignore_index is None or 0 <= classes.ignore_index < _NO_ID:
        return ids
    return np.where(ids == _NO_ID - 1, classes.ignore_index, ids.astype(np.int32))


class RemappedIds:
    """A `MaskReader` for files whose ids differ from those of the class set.

    Args:
        table: maps each id of the files to an id of the class set.
    """

    def __init__(self, table: dict[int, int]) -> None:
        self.table = dict(table)

    def __call__(self, path: Path, classes: ClassSet) -> NDArray[Any]:
        """Ids (H, W).

        Raises:
            DataError: the file is missing or damaged, or contains an id that is not in the table.
        """
        pixels = _read_pixels(path)
        if pixels.ndim != 2:
            raise DataError(
                f"{path} is an RGB image; this mask needs one id per pixel. Check that it is the right file."
            )
        ids = np.unique(pixels)
        unknown = [int(id_) for id_ in ids if int(id_) not in self.table]
        if unknown:
            raise DataError(f"{path} has the id {unknown[0]}, which the data set does not use: {sorted(self.table)}.")
        mapped = np.array([self.table[int(id_)] for id_ in ids])
        return mapped[np.searchsorted(ids, pixels)]


def check_ids(mask: NDArray[Any], source: Path | str, classes: ClassSet) -> NDArray[Any]:
    """Returns the mask if each of its ids is a class or `ignore_index`.

    Args:
        source: the file of the mask, or a name for it.

    Raises:
        DataError: an id is neither; the message names the source, the id and its position.
    """
    valid = (mask >= 0) & (mask < len(classes))
    if classes.ignore_index is not None:
        valid |= mask == classes.ignore_index
    if not valid.all():
        row, column = (int(index) for index in np.argwhere(~valid)[0])
        ignored = "no id is ignored" if classes.ignore_index is None else f"{classes.ignore_index} is ignored"
        raise DataError(
            f"{source} has the id {mask[row, column]} in row {row}, column {column}; the classes are "
            f"0-{len(classes) - 1}, and {ignored}. Correct the mask, choose the class set it was made for, or map its "
            "ids with segzoo.data.masks.RemappedIds."
        )
    return mask


def _read_pixels(path: Path) -> NDArray[Any]:
    """Integers (H, W), or uint8 (H, W, 3)."""
    if not path.is_file():
        raise DataError(f"There is no mask {path}. Each image needs one.")
    try:
        with path.open("rb") as stream, open_image(stream) as image:
            require_pixels(image, f"The mask {path}", pixel_limit())
            if has_several(image):
                raise DataError(f"The mask {path} has several pages. Save the one that belongs to the image as a file.")
            if image.mode in ("RGB", "RGBA"):
                return np.asarray(upright(image).convert("RGB"))
            pixels = np.asarray(upright(image))
    except SegzooError:
        raise
    except Exception as error:  # Pillow's decoders raise exceptions of many types on damaged files.
        raise DataError(f"The mask {path} cannot be read: {error}. Download or copy the file again.") from error
    if pixels.ndim != 2 or pixels.dtype.kind not in "iub":
        raise DataError(f"The mask {path} has mode {image.mode}; masks are gray, palette or RGB. Convert it to PNG.")
    return pixels.astype(np.uint8) if pixels.dtype.kind == "b" else pixels


@functools.lru_cache(maxsize=2)
def _color_table(classes: ClassSet) -> NDArray[np.uint8]:
    """The id of each of 2**24 colors. It takes 16 MB, and a tenth of the time of a search among 24 colors."""
    if len(classes) >= _NO_ID - 1:
        raise DataError(f"RGB masks support up to {_NO_ID - 2} classes, but this class set has {len(classes)}.")
    if len(set(classes.palette)) < len(classes):
        raise DataError("Two classes of the class set have the same color, so an RGB mask cannot distinguish them.")
    table = np.full(2**24, _NO_ID, np.uint8)
    if classes.ignore_index is not None:
        table[0] = classes.ignore_index if 0 <= classes.ignore_index < _NO_ID else _NO_ID - 1
    for index, (red, green, blue) in enumerate(classes.palette):
        table[red << 16 | green << 8 | blue] = index
    return table
