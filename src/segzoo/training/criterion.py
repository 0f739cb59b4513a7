"""The loss of a recipe, with its class weights taken from the data."""

import numpy as np
import torch
from torch import Tensor

from segzoo.errors import OptionError
from segzoo.training.data import SegmentationData
from segzoo.training.losses import WeightedSum, create_loss
from segzoo.training.recipe import LossPart

_WEIGHTED = ("ce", "focal")


def criterion_of(part: LossPart, data: SegmentationData) -> WeightedSum:
    """The sum of losses that a recipe names.

    Raises:
        UnknownNameError, OptionError: as `create_loss`; class weights for losses that take none.
    """
    options = {name: dict(values) for name, values in part.options.items()}
    if part.class_weights == "median_frequency":
        named = [term.rpartition("*")[2].strip() for term in part.terms.split("+")]
        weighted = [name for name in named if name in _WEIGHTED]
        if not weighted:
            raise OptionError(f"loss.class_weights are for {' and '.join(_WEIGHTED)}, and the loss is {part.terms!r}.")
        weights = median_frequency(data).clamp(max=part.greatest_weight or float("inf"))
        for name in weighted:
            options.setdefault(name, {}).setdefault("weights", weights)
    return create_loss(part.terms, data.ignored, options)


def median_frequency(data: SegmentationData) -> Tensor:
    """Median-frequency balancing, float32 (classes,): Eigen, Fergus, arXiv 1411.4734, section 6.3.2.

    The frequency of a class is its pixels over all labelled pixels of the images that it is in; its weight is the
    median of all frequencies over its own. A class that is nowhere weighs nothing.
    """
    classes = len(data.labels)
    pixels, shown = np.zeros(classes), np.zeros(classes)
    for sample in data:
        counts = np.bincount(sample.mask[sample.mask != data.ignored].ravel(), minlength=classes)
        pixels += counts
        shown += (counts > 0) * counts.sum()
    there = pixels > 0
    frequency = pixels[there] / shown[there]
    weights = np.zeros(classes)
    weights[there] = np.median(frequency) / frequency
    return torch.tensor(weights, dtype=torch.float32)
