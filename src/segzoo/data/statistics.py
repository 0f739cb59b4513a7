"""How often each class occurs in a data set, and the class weights that follow from it."""

import math
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segzoo.classes import ClassSet
from segzoo.data.dataset import LabeledData
from segzoo.errors import OptionError, some


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


def count_classes(
    data: LabeledData, progress: Callable[[int, int], None] | None = None, most: int | None = None
) -> ClassStatistics:
    """Counts the pixels of each class. Reads every mask, one at a time, and no image.

    A UserWarning names the classes that no pixel has.

    Args:
        progress: called with the number of masks counted so far and the total number.
        most: the largest number of masks to count, evenly spaced over the data; None counts all.

    Raises:
        DataError: a mask cannot be read, or contains an id that is not in the class set.
    """
    num_classes = len(data.classes)
    pixels, image_pixels, ignored = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64), 0
    step = math.ceil(len(data) / most) if most else 1
    indices = range(0, len(data), step)
    for number, index in enumerate(indices, 1):
        mask = data.mask(index)
        counts = np.bincount(mask[(mask >= 0) & (mask < num_classes)], minlength=num_classes)
        pixels += counts
        image_pixels += np.where(counts > 0, mask.size, 0)
        ignored += mask.size - int(counts.sum())
        if progress is not None:
            progress(number, len(indices))
    title = data.title if step == 1 else f"{data.title} ({len(indices):,} of {len(data):,} masks)"
    absent = describe_absent(title, data.classes, data.ignore_index, pixels.tolist(), ignored)
    if absent:
        warnings.warn(absent, stacklevel=2)
    return ClassStatistics(tuple(pixels.tolist()), tuple(image_pixels.tolist()))


def describe_absent(title: str, classes: ClassSet, ignore_index: int, pixels: Sequence[int], ignored: int) -> str:
    """Sentences about the classes that no pixel has, with what to do; "" if every class has some.

    Args:
        title: the name of the data.
        pixels: the number of pixels of each class.
        ignored: the number of pixels that have `ignore_index`.
    """
    absent = [name for name, count in zip(classes.names, pixels, strict=True) if not count]
    if not absent:
        return ""
    if not any(pixels):
        return f"{title} has no labeled pixel: metrics are undefined, and nothing can be learned. Check the masks."
    text = f"{title} has no pixel of {some(absent)}: such a class is not learned, and metrics do not measure it."
    if ignored and len(absent) == len(classes) - 1:
        only = next(index for index, count in enumerate(pixels) if count)
        text += (
            f" The masks hold only {only} and {ignore_index}, and {ignore_index} is ignored. If it marks a class, save "
            f"it as the id of that class, or read the masks with RemappedIds({{{only}: {only}, {ignore_index}: ID}})."
        )
    return text
