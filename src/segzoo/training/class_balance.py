"""How often classes occur in data, and the class weights that follow."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segzoo.data.dataset import SegmentationData
from segzoo.errors import OptionError
from segzoo.models.base import EncoderDecoder, SegmentationModel


@dataclass(frozen=True)
class ClassStatistics:
    """Pixels of each class in some data. `count_classes` counts them.

    Attributes:
        pixels: of each class.
        around: for each class, all pixels of the images that it occurs in, ignored ones too.
    """

    pixels: tuple[int, ...]
    around: tuple[int, ...]

    @property
    def median_frequency(self) -> list[float]:
        """Weights by median-frequency balancing: the median of all classes' frequencies over the class's own.

        A class's frequency is its part of the pixels of the images that it occurs in. A class that does not occur gets
        0. Eigen, Fergus: Predicting Depth, Surface Normals and Semantic Labels, arXiv 1411.4734, section 6.3.2; SegNet
        (arXiv 1511.00561, section 4) trains with these.
        """
        frequencies = [pixels / all_ if pixels else 0.0 for pixels, all_ in zip(self.pixels, self.around, strict=True)]
        median = statistics.median([one for one in frequencies if one] or [0.0])
        return [median / one if one else 0.0 for one in frequencies]

    @property
    def enet(self) -> list[float]:
        """Weights 1 / ln(1.02 + p), with p the class's part of all labelled pixels; they are 1.4 to 50.

        Paszke, Chaurasia, Kim, Culurciello: ENet, arXiv 1606.02147, section 5.2.
        """
        total = max(1, sum(self.pixels))
        return [1 / math.log(1.02 + pixels / total) for pixels in self.pixels]

    def to_dict(self) -> dict[str, Any]:
        """Both as lists, ready for JSON."""
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "ClassStatistics":
        """The inverse of `to_dict`.

        Raises:
            OptionError: `record` does not hold two lists of one length.
        """
        try:
            pixels, around = (tuple(int(one) for one in record[key]) for key in ("pixels", "around"))
        except (KeyError, TypeError, ValueError) as error:
            raise OptionError(f"This is no record of class statistics: {error!r}.") from None
        if len(pixels) != len(around):
            raise OptionError("A record of class statistics has one number a class under 'pixels' and under 'around'.")
        return cls(pixels, around)


def count_classes(data: SegmentationData, progress: Callable[[int, int], None] | None = None) -> ClassStatistics:
    """Reads every mask of the data, one at a time, and no image.

    Args:
        data: whose classes to count.
        progress: called with how many masks are counted, and of how many.

    Raises:
        DataError: a mask cannot be read, or holds an id that the labels do not know.
    """
    classes = len(data.labels)
    pixels, around = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    for index in range(len(data)):
        mask = data.mask(index)
        counts = np.bincount(mask[(mask >= 0) & (mask < classes)], minlength=classes)
        pixels += counts
        around += np.where(counts > 0, mask.size, 0)
        if progress is not None:
            progress(index + 1, len(data))
    return ClassStatistics(tuple(pixels.tolist()), tuple(around.tolist()))


def unweigh(model: SegmentationModel, weights: Sequence[float], part: float = 1.0) -> None:
    """Takes class weights of the loss back from a trained model's scores, in place: score - part * log(weight).

    A network that has learned with weighted cross-entropy gives class probabilities times the weights, and so finds too
    much of what is rare. With all of them taken back it gives the probabilities in the data; a part between keeps some
    of what the weights have won for rare classes. Menon et al., arXiv 2007.07314, section 4, the other way round.

    Args:
        model: an encoder with a decoder.
        weights: one a class; a class of weight 0, which the data did not have, stays as it is.
        part: 0-1.

    Raises:
        OptionError: another model, another number of weights, or one below 0.
    """
    bias = _last_bias(model)
    if len(weights) != len(bias) or not all(0 <= one < math.inf for one in weights) or not 0 <= part <= 1:
        raise OptionError(f"unweigh takes {len(bias)} weights from 0 up and a part of 0-1.")
    with torch.no_grad():
        bias -= part * bias.new_tensor([math.log(one) if one else 0.0 for one in weights])


@contextmanager
def unweighed(model: SegmentationModel, weights: Sequence[float], part: float) -> Iterator[None]:
    """As `unweigh`, until the end of the block; then the model is what it was, to the bit."""
    bias = _last_bias(model) if part else None
    if bias is None:
        yield
        return
    before = bias.detach().clone()
    try:
        unweigh(model, weights, part)
        yield
    finally:
        with torch.no_grad():
            bias.copy_(before)


def _last_bias(model: SegmentationModel) -> Tensor:
    bias = model.decoder.last.bias if isinstance(model, EncoderDecoder) else None
    if bias is None:
        raise OptionError(
            "unweigh takes an encoder with a decoder; a paper's own network has no one last bias. "
            "Leave loss.unweigh at 0."
        )
    return bias
