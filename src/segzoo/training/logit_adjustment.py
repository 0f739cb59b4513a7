"""Logit adjustment: removes the class weights of the loss from a trained model's logits.

Menon et al.: Long-tail learning via logit adjustment, arXiv 2007.07314, section 4, applied in the opposite direction.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from segzoo.errors import OptionError
from segzoo.models.base import EncoderDecoder, SegmentationModel


def adjust_logits(model: SegmentationModel, weights: Sequence[float], strength: float = 1.0) -> None:
    """Changes the logits of a model to logit - strength * log(weight), in place, through the bias of its head.

    A network trained with weighted cross-entropy predicts class probabilities multiplied by the weights, so it predicts
    rare classes too often. With strength 1 it predicts the probabilities in the data; a smaller strength keeps part of
    the recall that the weights gain for rare classes.

    Args:
        model: an encoder with a decoder.
        weights: one per class; the logits of a class of weight 0, which did not occur in the data, stay unchanged.
        strength: 0-1.

    Raises:
        OptionError: the model is a paper's network; the number of weights is wrong; a value is out of range.
    """
    bias = _head_bias(model)
    if len(weights) != len(bias) or not all(0 <= weight < math.inf for weight in weights) or not 0 <= strength <= 1:
        raise OptionError(f"adjust_logits needs {len(bias)} weights of 0 or more, and a strength of 0-1.")
    with torch.no_grad():
        bias -= strength * bias.new_tensor([math.log(weight) if weight else 0.0 for weight in weights])


@contextmanager
def adjusted_logits(model: SegmentationModel, weights: Sequence[float], strength: float) -> Iterator[None]:
    """Applies `adjust_logits` within a block, then restores the model exactly."""
    bias = _head_bias(model) if strength else None
    if bias is None:
        yield
        return
    before = bias.detach().clone()
    try:
        adjust_logits(model, weights, strength)
        yield
    finally:
        with torch.no_grad():
            bias.copy_(before)


def _head_bias(model: SegmentationModel) -> Tensor:
    bias = model.decoder.head.bias if isinstance(model, EncoderDecoder) else None
    if bias is None:
        raise OptionError(
            "adjust_logits needs an encoder with a decoder; a paper's network has no single bias for its logits. "
            "Set loss.logit_adjustment to 0."
        )
    return bias
