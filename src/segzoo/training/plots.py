"""Plots of an evaluation: the confusion matrix, images next to ground truth and prediction, models compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segzoo._io import atomic_write
from segzoo._optional import TRAIN, needs
from segzoo.classes import ClassSet
from segzoo.data.images import Pixels
from segzoo.formatting import percent
from segzoo.metrics import ConfusionMatrix
from segzoo.visualize import overlay

_GAP = 6


def draw_confusion(matrix: ConfusionMatrix, classes: ClassSet, path: Path) -> None:
    """One row per true class, in percent of its pixels, so the diagonal is the accuracy of the class.

    Raises:
        MissingPackageError: the extra "train" is not installed.
    """
    with needs("Drawing a confusion matrix", TRAIN):
        from matplotlib.figure import Figure
    counts = matrix.counts
    percentages = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.5 + 0.5 * len(classes)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(percentages, cmap="Blues", vmin=0, vmax=100)
    if len(classes) <= 40:  # more numbers would be illegible
        for (row, column), percentage in np.ndenumerate(percentages):
            if percentage >= 0.5:
                color = "white" if percentage > 60 else "black"
                axes.text(column, row, f"{percentage:.0f}", ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(classes)), classes.names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes.names)
    axes.set(xlabel="predicted", ylabel="true", title=f"mean IoU {percent(matrix.mean_iou)}")
    figure.colorbar(image, ax=axes, label="% of the true class", shrink=0.8)
    with atomic_write(path) as draft:
        figure.savefig(draft, dpi=110)


def side_by_side(image: Pixels, truth: NDArray[Any], predicted: NDArray[Any], classes: ClassSet) -> Image.Image:
    """From left to right: the image, the overlaid ground truth, and the overlaid prediction with a legend.

    Args:
        image: uint8 RGB (H, W, 3).
        truth, predicted: class ids (H, W); ignored pixels of `truth` are left without overlay.
    """
    pictures = (
        Image.fromarray(image),
        overlay(image, truth, classes, legend=False),
        overlay(image, predicted, classes),
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
    """The results of one model in a comparison.

    Attributes:
        mean_iou, pixel_accuracy: 0-1.
        parameters: the number of trained parameters.
        milliseconds: the median time to predict one image.
        training_seconds: None if the file does not record it.
    """

    name: str
    mean_iou: float
    pixel_accuracy: float
    parameters: int
    milliseconds: float
    training_seconds: float | None


def draw_comparison(models: Sequence[Compared], path: Path) -> None:
    """Plots mean IoU against latency; the area of a point shows the number of parameters.

    Raises:
        MissingPackageError: the extra "train" is not installed.
    """
    with needs("Drawing a comparison", TRAIN):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    largest = max(model.parameters for model in models)
    for index, model in enumerate(models):
        area = 40 + 900 * model.parameters / largest
        axes.scatter(model.milliseconds, 100 * model.mean_iou, s=area, alpha=0.6, color=f"C{index % 10}")
        text = f"{model.name}\n{model.parameters / 1e6:.1f} M"
        axes.annotate(text, (model.milliseconds, 100 * model.mean_iou), ha="center", va="center", fontsize=8)
    axes.set(xlabel="ms per image (median)", ylabel="mean IoU (%)", xscale="log")
    axes.margins(0.25)
    axes.grid(alpha=0.3, which="both")
    with atomic_write(path) as draft:
        figure.savefig(draft, dpi=110)
