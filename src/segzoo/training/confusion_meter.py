"""Counting pixels where they are: a confusion matrix on the device, which becomes a numpy one once an epoch."""

import torch
from torch import Tensor

from segzoo.metrics import ConfusionMatrix


class Counts:
    """Pixels by their true and their given class, counted on a device without waiting for it.

    Args:
        ignored: the id of the target that counts nowhere.
    """

    table: Tensor
    """int64 (num_classes, num_classes), as `ConfusionMatrix.counts`."""

    def __init__(self, num_classes: int, ignored: int, device: torch.device) -> None:
        self._ignored = ignored
        self.table = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Counts a batch: logits (N, num_classes, H, W), and ids (N, H, W) that are classes or ignored."""
        classes, target = len(self.table), target.long()
        # Ignored pixels go to a cell of their own: picking out the others would wait for the device.
        cell = torch.where(target == self._ignored, classes**2, target * classes + logits.argmax(1))
        self.table += torch.bincount(cell.flatten(), minlength=classes**2 + 1)[:-1].view_as(self.table)

    def matrix(self) -> ConfusionMatrix:
        """What was counted so far."""
        matrix = ConfusionMatrix(len(self.table), self._ignored)
        matrix.counts += self.table.cpu().numpy()
        return matrix
