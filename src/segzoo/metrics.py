"""Metrics of semantic segmentation, all computed from one confusion matrix.

The matrix counts pixels in integers, so it is exact, and matrices of batches, processes or machines can be added.
Definitions are those of Long, Shelhamer, Darrell (arXiv 1411.4038, section 5), and Dice's coefficient (1945). 0 / 0 is
nan, and means leave nan out:

- a class that is neither in the ground truth nor predicted has no IoU and no Dice, and is left out of their means;
- a class that is predicted but not in the ground truth has an IoU and a Dice of 0, which count, and no accuracy;
- a pixel whose target is an ignored id is not counted, whatever was predicted there.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.errors import ImageError, OptionError
from segzoo.schema import whole_number

Floats = npt.NDArray[np.float64]


class ConfusionMatrix:
    """Counts of pixels by true and predicted class.

        matrix = ConfusionMatrix(11, ignore_index=11)
        matrix.update(predicted, target)
        print(matrix.mean_iou)

    Args:
        num_classes: number of classes; ids are 0 to num_classes - 1.
        ignore_index: one or more target ids that are not counted (`ClassSet.ignore_index`); None if there are none.

    Raises:
        OptionError: no classes, or an ignored id that is a class id.
    """

    counts: npt.NDArray[np.int64]
    """int64 (num_classes, num_classes): counts[i, j] pixels belong to class i and were predicted as class j.

    Updated in place. `torch.distributed.all_reduce(torch.from_numpy(matrix.counts))` sums it over processes, also in
    place.
    """

    def __init__(self, num_classes: int, ignore_index: int | Iterable[int] | None = None) -> None:
        self.num_classes = whole_number("num_classes", num_classes)
        if self.num_classes < 1:
            raise OptionError(f"A confusion matrix needs at least one class, not {num_classes}.")
        given = ignore_index if isinstance(ignore_index, Iterable) else () if ignore_index is None else (ignore_index,)
        self.ignore_index = tuple(sorted({whole_number("ignore_index", index) for index in given}))
        for index in self.ignore_index:
            if 0 <= index < self.num_classes:
                raise OptionError(f"ignore_index {index} is a class id; use an id outside 0-{self.num_classes - 1}.")
        self.counts = np.zeros((self.num_classes, self.num_classes), np.int64)

    def update(self, predicted: Any, target: Any) -> None:
        """Counts the pixels of one mask or of a batch of masks.

        Args:
            predicted: class ids of any integer type and shape: a numpy array, or a torch tensor on any device.
            target: the true ids, of the same shape.

        Raises:
            ImageError: the shapes differ, ids are not integers, or an id is neither a class nor ignored. Nothing is
                counted in that case.
        """
        given, truth = _array("predicted", predicted), _array("target", target)
        if given.shape != truth.shape:
            raise ImageError(
                f"predicted is {given.shape} and target {truth.shape}; both must be class ids of the same shape. "
                "If you have logits (N, C, H, W), pass logits.argmax(1)."
            )
        given, truth = given.ravel(), truth.ravel()
        if self.ignore_index:
            counted = truth != self.ignore_index[0]
            for index in self.ignore_index[1:]:
                counted &= truth != index
            given, truth = given[counted], truth[counted]
        self._check("predicted", given)
        self._check("target", truth)
        cells = truth.astype(np.intp) * self.num_classes + given.astype(np.intp)
        self.counts += np.bincount(cells, minlength=self.num_classes**2).reshape(self.counts.shape)

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """The sum of two matrices.

        Raises:
            OptionError: the number of classes or the ignored ids differ.
        """
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        if (self.num_classes, self.ignore_index) != (other.num_classes, other.ignore_index):
            raise OptionError(
                f"A matrix of {self.num_classes} classes that ignores {list(self.ignore_index)} cannot be added to one "
                f"of {other.num_classes} that ignores {list(other.ignore_index)}."
            )
        total = ConfusionMatrix(self.num_classes, self.ignore_index)
        total.counts = self.counts + other.counts
        return total

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        return self.ignore_index == other.ignore_index and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]  # the counts change with every update

    def __repr__(self) -> str:
        return f"ConfusionMatrix({self.num_classes} classes, {self.pixels:,} pixels)"

    @property
    def pixels(self) -> int:
        """The number of pixels counted; ignored pixels are not."""
        return int(self.counts.sum())

    @property
    def pixel_accuracy(self) -> float:
        """The share of pixels with the correct class, 0-1; nan if no pixel was counted."""
        return float(_quotient(np.trace(self.counts), self.counts.sum()))

    @property
    def accuracy(self) -> Floats:
        """Per class, the share of its pixels predicted correctly (recall), 0-1; nan if not in the ground truth."""
        return _quotient(np.diag(self.counts), self.counts.sum(1))

    @property
    def mean_accuracy(self) -> float:
        """The mean of `accuracy` over the classes in the ground truth, 0-1."""
        return _mean(self.accuracy)

    @property
    def iou(self) -> Floats:
        """Per class, intersection over union (Jaccard index), 0-1; nan if neither in the ground truth nor predicted."""
        correct = np.diag(self.counts)
        return _quotient(correct, self.counts.sum(1) + self.counts.sum(0) - correct)

    @property
    def mean_iou(self) -> float:
        """The mean of `iou` over the classes that are in the ground truth or predicted, 0-1."""
        return _mean(self.iou)

    @property
    def frequency_weighted_iou(self) -> float:
        """`iou` weighted by each class's share of the ground truth, 0-1; nan if no pixel was counted."""
        true = self.counts.sum(1)
        return float(_quotient(np.nansum(true * np.nan_to_num(self.iou)), true.sum()))

    @property
    def dice(self) -> Floats:
        """Per class, 2 |A and B| / (|A| + |B|) (F1), 0-1; nan if neither in the ground truth nor predicted."""
        return _quotient(2 * np.diag(self.counts), self.counts.sum(1) + self.counts.sum(0))

    @property
    def mean_dice(self) -> float:
        """The mean of `dice` over the classes that are in the ground truth or predicted, 0-1."""
        return _mean(self.dice)

    def summary(self) -> dict[str, float]:
        """The metrics that papers report, 0-1, under the names of these properties."""
        return {
            "pixel_accuracy": self.pixel_accuracy,
            "mean_accuracy": self.mean_accuracy,
            "mean_iou": self.mean_iou,
            "frequency_weighted_iou": self.frequency_weighted_iou,
            "mean_dice": self.mean_dice,
        }

    def to_dict(self) -> dict[str, Any]:
        """The counts and ignored ids as lists and integers, ready for JSON."""
        return {"ignore_index": list(self.ignore_index), "counts": self.counts.tolist()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "ConfusionMatrix":
        """The inverse of `to_dict`, also after a trip through JSON.

        Raises:
            OptionError: `record` has no square table of counts, all 0 or more.
        """
        table: Sequence[Any] = record.get("counts", ())
        try:
            counts = np.array([[whole_number("a count", value) for value in row] for row in table], np.int64)
        except (TypeError, ValueError, OverflowError) as error:
            raise OptionError(f"This does not describe a confusion matrix: {error}") from None
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0 or counts.min() < 0:
            raise OptionError("A confusion matrix needs a square table of counts, all 0 or more, under 'counts'.")
        matrix = cls(len(counts), record.get("ignore_index"))
        matrix.counts = counts
        return matrix

    def _check(self, name: str, ids: npt.NDArray[Any]) -> None:
        if ids.size == 0:
            return
        extreme = ids.min() if ids.min() < 0 else ids.max()
        if not 0 <= extreme < self.num_classes:
            verb = "is" if len(self.ignore_index) == 1 else "are"
            ignored = f", and {', '.join(map(str, self.ignore_index))} {verb} ignored" if self.ignore_index else ""
            raise ImageError(f"{name} has the id {extreme}; the classes are 0-{self.num_classes - 1}{ignored}.")


def _array(name: str, values: Any) -> npt.NDArray[Any]:
    # Recognized by a method and not by type, so that torch need not be imported.
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ImageError(f"{name} must be integer class ids, got {array.dtype} {array.shape}.")
    return array


def _quotient(numerator: Any, denominator: Any) -> Floats:
    """numerator / denominator, nan for 0 / 0."""
    below = np.asarray(denominator, np.float64)
    quotient: Floats = np.divide(numerator, below, out=np.full(below.shape, np.nan), where=below != 0)
    return quotient


def _mean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
