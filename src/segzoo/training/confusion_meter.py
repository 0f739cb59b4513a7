"""Counts pixels on the device: a confusion matrix that becomes a numpy one once per epoch."""

import torch
from torch import Tensor

from segzoo.metrics import ConfusionMatrix


class ConfusionMeter:
    """A confusion matrix that is updated on the device, without synchronization.

    Args:
        ignore_index: the id of target pixels that are not counted.
    """

    counts: Tensor
    """int64 (num_classes, num_classes), as `ConfusionMatrix.counts`."""

    def __init__(self, num_classes: int, ignore_index: int, device: torch.device) -> None:
        self._ignore_index = ignore_index
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Adds a batch: logits (N, num_classes, H, W), and ids (N, H, W) that are classes or `ignore_index`."""
        num_classes, target = len(self.counts), target.long()
        # Ignored pixels go to an additional cell, because selecting the others would wait for the device.
        cells = torch.where(target == self._ignore_index, num_classes**2, target * num_classes + logits.argmax(1))
        self.counts += torch.bincount(cells.flatten(), minlength=num_classes**2 + 1)[:-1].view_as(self.counts)

    def matrix(self) -> ConfusionMatrix:
        """The counts so far, as a numpy confusion matrix."""
        matrix = ConfusionMatrix(len(self.counts), self._ignore_index)
        matrix.counts += self.counts.cpu().numpy()
        return matrix
