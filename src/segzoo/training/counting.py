"""Counting pixels where they are: a confusion matrix on the device, moved to numpy once an epoch."""

import torch
from torch import Tensor

from segzoo.metrics import ConfusionMatrix


class Counts:
    """Pixels by true and given class, counted on a device without waiting for it."""

    def __init__(self, num_classes: int, ignored: int, device: torch.device) -> None:
        self._classes = num_classes
        self._ignored = ignored
        self.table = torch.zeros(num_classes**2, dtype=torch.int64, device=device)

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Counts a batch: logits (N, num_classes, H, W), and ids (N, H, W) that are classes or ignored."""
        target = target.long()
        # Ignored pixels go to a cell of their own: picking the others out would wait for the device.
        cell = torch.where(target == self._ignored, self._classes**2, target * self._classes + logits.argmax(1))
        self.table += torch.bincount(cell.flatten(), minlength=self._classes**2 + 1)[:-1]

    def matrix(self, table: Tensor) -> ConfusionMatrix:
        """The matrix of a table, such as the sum of the `table` of all processes."""
        counts = table.reshape(self._classes, self._classes).cpu().numpy()
        matrix = ConfusionMatrix(self._classes, self._ignored)
        matrix.counts += counts
        return matrix
