"""Draws loss, mean IoU and accuracy over epochs, training and validation together."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from segzoo._io import atomic_write
from segzoo._optional import TRAIN, needs

PANELS = (("loss", "loss"), ("mean_iou", "mean IoU (%)"), ("accuracy", "pixel accuracy (%)"))
_LINES = (("train", "training (augmented)", "#1f77b4"), ("val", "validation", "#d62728"))


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draws the rows of log.csv as an image. Epochs without validation leave no gap in the validation curve.

    Raises:
        MissingPackageError: the extra "train" is not installed.
    """
    with needs("Drawing curves", TRAIN):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (metric, title) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        factor = 1 if metric == "loss" else 100
        for part, name, color in _LINES:
            points = [(row["epoch"], factor * row.get(f"{part}_{metric}", math.nan)) for row in history]
            points = [point for point in points if math.isfinite(point[1])]
            if points:
                # A single epoch has no line, so short curves get markers.
                axes.plot(*zip(*points, strict=True), color=color, label=name, marker="." if len(points) < 20 else "")
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    with atomic_write(path) as draft:
        figure.savefig(draft, dpi=110)
