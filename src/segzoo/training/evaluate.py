"""Evaluates a model on a data set: one confusion matrix over all images, and metrics per image.

    evaluation = evaluate(segzoo.load("street.safetensors"), open_data("camvid", "data/camvid", "val"))
    print(evaluation.matrix.mean_iou, evaluation.worst(5))

The model comes from `segzoo.load` or is a `segzoo.Predictor`; the same weights give the same metrics.
"""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from segzoo._arguments import explained
from segzoo._registry import METRICS
from segzoo.classes import ClassSet
from segzoo.data.dataset import LabeledData, SegmentationData
from segzoo.data.images import Pixels
from segzoo.data.statistics import describe_absent
from segzoo.errors import DataError, OptionError
from segzoo.metrics import ConfusionMatrix


class Predicts(Protocol):
    """The interface that `evaluate` needs of a model."""

    @property
    def classes(self) -> ClassSet:
        """The classes of the predicted ids."""

    def predict(self, image: Pixels, /) -> Any:
        """The mask of an image, uint8 RGB (H, W, 3): class ids (H, W), or what numpy.asarray turns into them."""


@dataclass(frozen=True)
class ImageMetrics:
    """The metrics of one image, 0-1; nan if no pixel is labeled."""

    name: str
    mean_iou: float
    pixel_accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on a data set.

    Attributes:
        title: the name of the data.
        classes: the classes of the data.
        matrix: the confusion matrix over all images.
        images: the metrics of each image, in the order of the data.
        seconds: the total time of the predictions, without reading images.
    """

    title: str
    classes: ClassSet
    matrix: ConfusionMatrix
    images: tuple[ImageMetrics, ...]
    seconds: float

    def own_metrics(self) -> dict[str, float]:
        """The metrics that plugins registered, by name.

        Raises:
            OptionError: one of them fails, or returns no number.
        """
        return {name: _own_metric(name, metric, self.matrix) for name, metric in METRICS.objects.items()}

    def worst(self, count: int) -> list[ImageMetrics]:
        """The images with the lowest mean IoU, the lowest first, without those that have no labeled pixels."""
        labeled = [image for image in self.images if not math.isnan(image.mean_iou)]
        return sorted(labeled, key=lambda image: image.mean_iou)[:count]

    def to_dict(self) -> dict[str, Any]:
        """This evaluation as JSON values; undefined metrics are null."""
        matrix = self.matrix
        columns = (matrix.iou, matrix.accuracy, matrix.dice, matrix.counts.sum(1))
        return {
            "data": self.title,
            **{name: _nan_to_none(value) for name, value in (matrix.summary() | self.own_metrics()).items()},
            "classes": [
                {
                    "name": name,
                    "iou": _nan_to_none(iou),
                    "accuracy": _nan_to_none(accuracy),
                    "dice": _nan_to_none(dice),
                    "pixels": int(n),
                }
                for name, iou, accuracy, dice, n in zip(self.classes.names, *columns, strict=True)
            ],
            "confusion": matrix.to_dict(),
            "images": [
                {name: _nan_to_none(value) if name != "name" else value for name, value in vars(image).items()}
                for image in self.images
            ],
            "seconds": round(self.seconds, 3),
        }


@explained
def evaluate(model: Predicts, data: SegmentationData, progress: Callable[[int, int], None] | None = None) -> Evaluation:
    """Predicts every image of the data at its original size, one at a time, and compares it with the mask.

    A UserWarning names the classes that no pixel of the masks has: the metrics do not measure them.

    Args:
        progress: called with the number of images done so far and the total number.

    Raises:
        DataError: the classes of the model and the data differ; a sample cannot be read.
    """
    check_classes(model.classes, data)
    matrix = ConfusionMatrix(len(data.classes), data.ignore_index)
    images = []
    seconds, pixels = 0.0, 0
    for index in range(len(data)):
        image, mask, name = data[index]
        start = time.perf_counter()
        predicted = model.predict(image)
        seconds += time.perf_counter() - start
        image_matrix = ConfusionMatrix(len(data.classes), data.ignore_index)
        image_matrix.update(np.asarray(predicted), mask)
        matrix += image_matrix
        pixels += mask.size
        images.append(ImageMetrics(name, image_matrix.mean_iou, image_matrix.pixel_accuracy))
        if progress is not None:
            progress(index + 1, len(data))
    counts = matrix.counts.sum(1).tolist()
    absent = describe_absent(data.title, data.classes, data.ignore_index, counts, pixels - matrix.pixels)
    if absent:
        warnings.warn(absent, stacklevel=3)  # of the caller, past `explained`
    return Evaluation(data.title, data.classes, matrix, tuple(images), seconds)


def check_classes(
    classes: ClassSet, data: LabeledData, advice: str = "Evaluate it on data with the classes it was trained on."
) -> None:
    """Checks that the class ids of a model and of the data have the same meaning.

    Args:
        classes: those of the model.
        advice: the last sentence of the message.

    Raises:
        DataError: the names or the number of classes differ. Names are not compared if the model's are generic
            ("class 0").
    """
    names, expected = classes.names, data.classes.names
    if names == expected or (len(names) == len(expected) and names == ClassSet.generic(len(names)).names):
        return
    if len(names) != len(expected):
        difference = f"has {len(names)} classes, and {data.title} has {len(expected)}"
    else:
        index = next(index for index, name in enumerate(names) if name != expected[index])
        difference = f"has the class {names[index]!r} at id {index}, and {data.title} has {expected[index]!r}"
    raise DataError(f"The model {difference}. {advice}")


def _own_metric(name: str, metric: Callable[[ConfusionMatrix], float], matrix: ConfusionMatrix) -> float:
    try:
        return float(metric(matrix))
    except Exception as error:  # whatever a plugin raises
        raise OptionError(f"The metric {name!r} failed: {type(error).__name__}: {error}.") from error


def _nan_to_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
