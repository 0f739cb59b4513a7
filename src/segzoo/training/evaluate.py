"""How good a model is on data: one confusion matrix over all images, and figures of each.

    found = evaluate(segzoo.load("street.safetensors"), open_data("camvid", "data/camvid", "val"))
    print(found.matrix.mean_iu, found.worst(5))

A model is anything that predicts: one of `segzoo.load`, or a `segzoo.inference.Session`; the same weights give the same
figures.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segzoo.classes import LabelSet
from segzoo.data.dataset import SegmentationData
from segzoo.data.images import Pixels
from segzoo.errors import DataError
from segzoo.metrics import ConfusionMatrix


class Predicts(Protocol):
    """What is evaluated."""

    @property
    def labels(self) -> LabelSet:
        """The classes that it gives."""

    def predict(self, image: Pixels, /) -> NDArray[Any]:
        """Class ids (H, W) of an image, uint8 RGB (H, W, 3)."""


@dataclass(frozen=True)
class ImageFigures:
    """Figures of one image, 0-1; nan where nothing of it is labelled."""

    name: str
    mean_iu: float
    pixel_accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model on data.

    Attributes:
        title: what the data is called.
        labels: its classes.
        matrix: over all images.
        images: of each image, in the order of the data.
        seconds: for predictions alone, together.
    """

    title: str
    labels: LabelSet
    matrix: ConfusionMatrix
    images: tuple[ImageFigures, ...]
    seconds: float

    def worst(self, count: int) -> list[ImageFigures]:
        """The images of the lowest mean IU, the lowest first; those without labels are none of them."""
        known = [image for image in self.images if not math.isnan(image.mean_iu)]
        return sorted(known, key=lambda image: image.mean_iu)[:count]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values; figures that are not defined are null."""
        matrix = self.matrix
        columns = (matrix.iu, matrix.accuracy, matrix.dice, matrix.counts.sum(1))
        return {
            "data": self.title,
            **{name: _defined(value) for name, value in matrix.summary().items()},
            "classes": [
                {
                    "name": name,
                    "iu": _defined(iu),
                    "accuracy": _defined(accuracy),
                    "dice": _defined(dice),
                    "pixels": int(n),
                }
                for name, iu, accuracy, dice, n in zip(self.labels.names, *columns, strict=True)
            ],
            "confusion": matrix.to_dict(),
            "images": [
                {name: _defined(value) if name != "name" else value for name, value in vars(image).items()}
                for image in self.images
            ],
            "seconds": round(self.seconds, 3),
        }


def evaluate(model: Predicts, data: SegmentationData, progress: Callable[[int, int], None] | None = None) -> Evaluation:
    """Predicts every image of the data at its own size, one at a time, and counts.

    Args:
        progress: called with how many images are done, and of how many.

    Raises:
        DataError: the model's classes are not those of the data; a sample cannot be read.
    """
    check_classes(model.labels, data)
    matrix = ConfusionMatrix(len(data.labels), data.ignored)
    images = []
    seconds = 0.0
    for index in range(len(data)):
        image, mask, name = data[index]
        start = time.perf_counter()
        predicted = model.predict(image)
        seconds += time.perf_counter() - start
        one = ConfusionMatrix(len(data.labels), data.ignored)
        one.update(predicted, mask)
        matrix += one
        images.append(ImageFigures(name, one.mean_iu, one.pixel_accuracy))
        if progress is not None:
            progress(index + 1, len(data))
    return Evaluation(data.title, data.labels, matrix, tuple(images), seconds)


def check_classes(labels: LabelSet, data: SegmentationData) -> None:
    """Makes sure that the ids of a model mean what those of the data mean.

    Raises:
        DataError: other names, or another number; a model whose classes have no names ("class 0") may have any.
    """
    found, wanted = labels.names, data.labels.names
    if found == wanted or (len(found) == len(wanted) and found == LabelSet.generic(len(found)).names):
        return
    if len(found) != len(wanted):
        how = f"has {len(found)} classes, and {data.title} {len(wanted)}"
    else:
        place = int(np.argmax([one != other for one, other in zip(found, wanted, strict=True)]))
        how = f"calls the id {place} {found[place]!r}, and {data.title} {wanted[place]!r}"
    raise DataError(f"The model {how}. Evaluate it on data that has the classes that it was trained for.")


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
