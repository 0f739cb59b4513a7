"""How often each class occurs in a data set, and the class weights that follow from it."""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segzoo.data.dataset import LabeledData
from segzoo.errors import OptionError


@dataclass(frozen=True)
class ClassStatistics:
    """Pixel counts per class, as `count_classes` returns them.

    Attributes:
        pixels: the number of pixels of each class.
        image_pixels: for each class, the number of pixels, ignored ones included, of all images that contain the class.
    """

    pixels: tuple[int, ...]
    image_pixels: tuple[int, ...]

    @property
    def median_frequency(self) -> list[float]:
        """Class weights by median frequency balancing: the median class frequency divided by the class's frequency.

        The frequency of a class is its share of the pixels of the images that contain it. A class that does not occur
        has weight 0. Eigen, Fergus: Predicting Depth, Surface Normals and Semantic Labels, arXiv 1411.4734, section
        6.3.2; SegNet (arXiv 1511.00561, section 4) trains with these weights.
        """
        counts = zip(self.pixels, self.image_pixels, strict=True)
        frequencies = [pixels / image_pixels if pixels else 0.0 for pixels, image_pixels in counts]
        median = statistics.median([frequency for frequency in frequencies if frequency] or [0.0])
        return [median / frequency if frequency else 0.0 for frequency in frequencies]

    @property
    def enet(self) -> list[float]:
        """Class weights 1 / ln(1.02 + p), with p the class's share of all labeled pixels; they range from 1.4 to 50.

        Paszke, Chaurasia, Kim, Culurciello: ENet, arXiv 1606.02147, section 5.2.
        """
        total = max(1, sum(self.pixels))
        return [1 / math.log(1.02 + pixels / total) for pixels in self.pixels]

    def to_dict(self) -> dict[str, Any]:
        """Both attributes as lists, ready for JSON."""
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "ClassStatistics":
        """The inverse of `to_dict`.

        Raises:
            OptionError: `record` does not hold two lists of the same length.
        """
        try:
            pixels, image_pixels = (tuple(int(count) for count in record[key]) for key in ("pixels", "image_pixels"))
        except (KeyError, TypeError, ValueError) as error:
            raise OptionError(f"This is not a record of class statistics: {error!r}.") from None
        if len(pixels) != len(image_pixels):
            raise OptionError("In a record of class statistics, 'pixels' and 'image_pixels' need the same length.")
        return cls(pixels, image_pixels)


def count_classes(data: LabeledData, progress: Callable[[int, int], None] | None = None) -> ClassStatistics:
    """Counts the pixels of each class. Reads every mask, one at a time, and no image.

    Args:
        progress: called with the number of masks counted so far and the total number.

    Raises:
        DataError: a mask cannot be read, or contains an id that is not in the class set.
    """
    num_classes = len(data.classes)
    pixels, image_pixels = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
    for index in range(len(data)):
        mask = data.mask(index)
        counts = np.bincount(mask[(mask >= 0) & (mask < num_classes)], minlength=num_classes)
        pixels += counts
        image_pixels += np.where(counts > 0, mask.size, 0)
        if progress is not None:
            progress(index + 1, len(data))
    return ClassStatistics(tuple(pixels.tolist()), tuple(image_pixels.tolist()))
