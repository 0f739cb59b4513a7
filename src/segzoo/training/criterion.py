"""What is minimised: the losses of a recipe, on the logits and on those of an auxiliary head."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.errors import OptionError
from segzoo.training.data import SegmentationData


class Criterion(nn.Module):
    """Logits (N, C, H, W) and ids (N, H, W) -> the weighted sum of the losses that a recipe names."""

    weights: Tensor | None

    def __init__(self, terms: Sequence[Mapping[str, Any]], data: SegmentationData) -> None:
        super().__init__()
        self.terms = [dict(term) for term in terms] or [{"name": "cross_entropy"}]
        self.ignored = data.ignored
        weights = None
        for term in self.terms:
            if term.get("class_weights") == "median_frequency":
                weights = median_frequency(data).clip(max=term.get("most", 10.0))
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        target = target.long()
        total = logits.new_zeros(())
        for term in self.terms:
            total = total + term.get("weight", 1.0) * self._one(term["name"], logits, target)
        return total

    def _one(self, name: str, logits: Tensor, target: Tensor) -> Tensor:
        valid = target != self.ignored
        count = valid.sum().clamp(min=1)
        if name == "cross_entropy":
            return F.cross_entropy(logits, target, self.weights, ignore_index=self.ignored, reduction="sum") / count
        if name == "dice":
            probabilities = logits.softmax(1) * valid[:, None]
            truth = F.one_hot(torch.where(valid, target, 0), logits.shape[1]).permute(0, 3, 1, 2) * valid[:, None]
            both = (probabilities * truth).sum((0, 2, 3))
            sizes = probabilities.sum((0, 2, 3)) + truth.sum((0, 2, 3))
            present = truth.sum((0, 2, 3)) > 0
            return 1 - ((2 * both + 1) / (sizes + 1))[present].mean()
        raise OptionError(name)


def median_frequency(data: SegmentationData) -> Tensor:
    """Median-frequency balancing (Eigen, Fergus, arXiv 1411.4734)."""
    classes = len(data.labels)
    pixels, shown = np.zeros(classes), np.zeros(classes)
    for sample in data:
        counts = np.bincount(sample.mask[sample.mask != data.ignored].ravel(), minlength=classes)
        pixels += counts
        shown += (counts > 0) * counts.sum()
    frequency = pixels / np.maximum(shown, 1)
    weights = np.median(frequency[frequency > 0]) / np.maximum(frequency, 1e-12)
    return torch.tensor(weights, dtype=torch.float32)
