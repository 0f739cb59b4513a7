"""The images that calibrate an int8 file, and the others, which judge it."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segzoo.classes import ClassSet
from segzoo.data.dataset import SegmentationData
from segzoo.data.images import ImageLike, Pixels, list_images, read_image
from segzoo.errors import ExportError, ImageError

Calibration = str | os.PathLike[str] | NDArray[Any] | Iterable[ImageLike] | SegmentationData
"""What calibrates an int8 file: a folder, one array (N, H, W, C), images in any iterable, or images with masks."""

FEWEST = 2
"""One image calibrates, and one judges."""


@dataclass(frozen=True)
class CalibrationImages:
    """Images that are read one at a time, and their masks if there are any.

    Attributes:
        classes: the classes of the masks; None without masks.
        ignore_index: the id that marks unlabeled pixels in masks.
    """

    read: Callable[[int], tuple[Pixels, NDArray[Any] | None]]
    count: int
    classes: ClassSet | None = None
    ignore_index: int | None = None

    @property
    def calibrating(self) -> Sequence[int]:
        """The indices of the images that the quantizer sees: two of three."""
        return [index for index in range(self.count) if index % 3 != 1]

    @property
    def judging(self) -> Sequence[int]:
        """The indices of the others."""
        return range(1, self.count, 3)


def open_calibration(given: Calibration, channels: int) -> CalibrationImages:
    """The images that were given, unread except for those of an iterator that has to be consumed.

    Raises:
        ExportError: there are fewer than two.
        ImageError: the folder does not exist or holds no images.
    """
    if isinstance(given, SegmentationData):
        data = given

        def read_sample(index: int) -> tuple[Pixels, NDArray[Any]]:
            sample = data[index]
            image = sample.image if channels == 3 else read_image(Image.fromarray(sample.image), channels)
            return image, sample.mask

        return _checked(CalibrationImages(read_sample, len(data), data.classes, data.ignore_index))
    if isinstance(given, str | os.PathLike):
        images: list[ImageLike] = list(list_images(given))
    elif isinstance(given, np.ndarray) and given.ndim < 4 and given.dtype != object:
        images = [given]
    else:
        images = list(given)

    def read(index: int) -> tuple[Pixels, None]:
        image = images[index]
        try:
            return read_image(image, channels), None
        except ImageError as error:
            if isinstance(image, str | Path):  # the message names the file
                raise
            raise ImageError(f"Image {index + 1} of {len(images)} for the calibration: {error}") from error

    return _checked(CalibrationImages(read, len(images)))


def _checked(images: CalibrationImages) -> CalibrationImages:
    if images.count < FEWEST:
        raise ExportError(
            f"calibration= has {'one image' if images.count == 1 else 'no images'}, and int8 needs ten to a hundred: "
            "two of three calibrate, and the others judge the result."
        )
    return images
