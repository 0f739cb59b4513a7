"""The loss of a recipe, with its class weights taken from the data."""

import math
from collections.abc import Sequence

from segzoo.data.dataset import SegmentationData
from segzoo.errors import OptionError
from segzoo.training.class_balance import count_classes
from segzoo.training.losses import WeightedSum, create_loss
from segzoo.training.recipe import LossPart

_WEIGHTED = ("ce", "focal")


def class_weights_of(part: LossPart, data: SegmentationData) -> list[float]:
    """The class weights that a recipe names, of this data, cut off where it says; "none" gives ones."""
    if part.class_weights == "none":
        return [1.0] * len(data.labels)
    found = count_classes(data)
    weights = found.enet if part.class_weights == "enet" else found.median_frequency
    return [min(one, part.greatest_weight or math.inf) for one in weights]


def criterion_of(part: LossPart, ignored: int, weights: Sequence[float]) -> WeightedSum:
    """The sum of losses that a recipe names.

    Args:
        ignored: the id that no loss counts.
        weights: what `class_weights_of` gives.

    Raises:
        UnknownNameError, OptionError: as `create_loss`; class weights for losses that take none.
    """
    options = {name: dict(values) for name, values in part.options.items()}
    if part.class_weights != "none":
        named = [term.rpartition("*")[2].strip() for term in part.terms.split("+")]
        weighted = [name for name in named if name in _WEIGHTED]
        if not weighted:
            raise OptionError(f"loss.class_weights are for {' and '.join(_WEIGHTED)}, and the loss is {part.terms!r}.")
        for name in weighted:
            options.setdefault(name, {})["weights"] = list(weights)
    return create_loss(part.terms, ignored, options)
