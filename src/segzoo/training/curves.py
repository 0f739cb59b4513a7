"""curves.png: loss, mean IU and accuracy over epochs, training and validation together."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from segzoo._io import written_aside
from segzoo.training.extra import extra

PANELS = (("loss", "loss"), ("mean_iu", "mean IU (%)"), ("accuracy", "pixel accuracy (%)"))
_LINES = (("train", "training (augmented)", "#1f77b4"), ("val", "validation", "#d62728"))


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draws the rows of log.csv; epochs without validation leave no gap in its line.

    Raises:
        TrainingError: the extra "train" is not installed.
    """
    with extra("Drawing curves"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        factor = 1 if key == "loss" else 100
        for part, name, colour in _LINES:
            known = [(row["epoch"], factor * row.get(f"{part}_{key}", math.nan)) for row in history]
            known = [point for point in known if math.isfinite(point[1])]
            if known:
                # A single epoch is no line yet.
                axes.plot(*zip(*known, strict=True), color=colour, label=name, marker="." if len(known) < 20 else "")
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    with written_aside(path) as draft:
        figure.savefig(draft, dpi=110)
