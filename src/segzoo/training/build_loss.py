"""Builds the loss of a recipe, with class weights computed from the data."""

import math
from collections.abc import Sequence

from segzoo.data.dataset import LabeledData
from segzoo.data.statistics import count_classes
from segzoo.errors import OptionError
from segzoo.training.losses import LOSSES, WeightedSum, create_loss, parse_loss, takes_class_weights
from segzoo.training.recipe import LossConfig


def compute_class_weights(config: LossConfig, data: LabeledData) -> list[float]:
    """The class weights of a recipe, clipped at `max_class_weight`; ones if `class_weights` is "none"."""
    if config.class_weights == "none":
        return [1.0] * len(data.classes)
    statistics = count_classes(data)
    weights = statistics.enet if config.class_weights == "enet" else statistics.median_frequency
    return [min(weight, config.max_class_weight or math.inf) for weight in weights]


def build_loss(config: LossConfig, ignore_index: int, weights: Sequence[float]) -> WeightedSum:
    """The sum of losses of a recipe.

    Args:
        ignore_index: the id that no loss counts.
        weights: the result of `compute_class_weights`.

    Raises:
        UnknownNameError, OptionError: as `create_loss`; class weights with losses that do not support them.
    """
    options = {name: dict(values) for name, values in config.options.items()}
    if config.class_weights != "none":
        weighted = [name for name in parse_loss(config.loss) if takes_class_weights(name)]
        if not weighted:
            possible = " and ".join(filter(takes_class_weights, LOSSES))
            raise OptionError(
                f"loss.class_weights applies to {possible} only, but the loss is {config.loss!r}. "
                'Add one of them, or set loss.class_weights="none".'
            )
        for name in weighted:
            options.setdefault(name, {})["weights"] = list(weights)
    return create_loss(config.loss, ignore_index, options)
