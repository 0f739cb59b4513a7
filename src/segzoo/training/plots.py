"""Pictures of an evaluation: the confusion matrix, images beside truth and prediction, models beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segzoo._io import written_aside
from segzoo.classes import LabelSet
from segzoo.data.images import Pixels
from segzoo.formatting import percent
from segzoo.metrics import ConfusionMatrix
from segzoo.training.extra import extra
from segzoo.visualize import overlay

_GAP = 6


def draw_confusion(matrix: ConfusionMatrix, labels: LabelSet, path: Path) -> None:
    """A row for each true class, in percent of its pixels; the diagonal is the class's accuracy.

    Raises:
        TrainingError: the extra "train" is not installed.
    """
    with extra("Drawing a confusion matrix"):
        from matplotlib.figure import Figure
    counts = matrix.counts
    parts = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.5 + 0.5 * len(labels)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(parts, cmap="Blues", vmin=0, vmax=100)
    if len(labels) <= 40:  # more numbers than that cannot be read
        for (row, column), part in np.ndenumerate(parts):
            if part >= 0.5:
                colour = "white" if part > 60 else "black"
                axes.text(column, row, f"{part:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(labels)), labels.names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels.names)
    axes.set(xlabel="predicted", ylabel="true", title=f"mean IU {percent(matrix.mean_iu)}")
    figure.colorbar(picture, ax=axes, label="% of the true class", shrink=0.8)
    with written_aside(path) as draft:
        figure.savefig(draft, dpi=110)


def beside(image: Pixels, truth: NDArray[Any], predicted: NDArray[Any], labels: LabelSet) -> Image.Image:
    """The image, the truth laid over it, and the prediction laid over it with its legend, from left to right.

    Args:
        image: uint8 RGB (H, W, 3).
        truth, predicted: ids (H, W); where the truth is ignored, it shows the image.
    """
    pictures = (
        Image.fromarray(image),
        overlay(image, truth, labels, legend=False),
        overlay(image, predicted, labels),
    )
    width = sum(picture.width for picture in pictures) + _GAP * (len(pictures) - 1)
    canvas = Image.new("RGB", (width, max(picture.height for picture in pictures)), (255, 255, 255))
    left = 0
    for picture in pictures:
        canvas.paste(picture, (left, 0))
        left += picture.width + _GAP
    return canvas


@dataclass(frozen=True)
class Compared:
    """One model among others.

    Attributes:
        name: what to call it.
        mean_iu, pixel_accuracy: 0-1.
        parameters: numbers that were trained.
        milliseconds: the median of one image's prediction.
        training_seconds: None where the file does not tell.
    """

    name: str
    mean_iu: float
    pixel_accuracy: float
    parameters: int
    milliseconds: float
    training_seconds: float | None


def draw_comparison(models: Sequence[Compared], path: Path) -> None:
    """Mean IU over latency; the area of a point is the number of parameters.

    Raises:
        TrainingError: the extra "train" is not installed.
    """
    with extra("Drawing a comparison"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    most = max(model.parameters for model in models)
    for number, model in enumerate(models):
        area = 40 + 900 * model.parameters / most
        axes.scatter(model.milliseconds, 100 * model.mean_iu, s=area, alpha=0.6, color=f"C{number % 10}")
        text = f"{model.name}\n{model.parameters / 1e6:.1f} M"
        axes.annotate(text, (model.milliseconds, 100 * model.mean_iu), ha="center", va="center", fontsize=8)
    axes.set(xlabel="ms an image (median)", ylabel="mean IU (%)", xscale="log")
    axes.margins(0.25)
    axes.grid(alpha=0.3, which="both")
    with written_aside(path) as draft:
        figure.savefig(draft, dpi=110)
