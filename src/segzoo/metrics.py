"""Metrics of semantic segmentation, all from one confusion matrix.

Floor 0. The matrix counts pixels in integers, so it is exact, and two of them add up to the matrix of both: over
batches, processes and machines. Definitions are those of Long, Shelhamer, Darrell (arXiv 1411.4038, section 5), and
Dice's coefficient (1945). A quotient 0 / 0 is nan, and a mean leaves nan out:

- a class that is neither in the truth nor predicted has no IU and no Dice, and does not count in their means;
- a class that is predicted and not in the truth has an IU and a Dice of 0, which count, and no accuracy;
- a pixel whose truth is an ignored id counts nowhere, whatever was predicted there.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.errors import ImageError, OptionError

Floats = npt.NDArray[np.float64]


class ConfusionMatrix:
    """How many pixels of each class were given which class.

    matrix = ConfusionMatrix(11, ignored=11)
    matrix.update(predicted, target)
    print(matrix.mean_iu)

    Args:
        num_classes: number of classes; ids are 0 to num_classes - 1.
        ignored: the id, or ids, of the target that count nowhere (`LabelSet.ignored`); None where there is none.

    Raises:
        OptionError: no class, or an ignored id that is a class.
    """

    counts: npt.NDArray[np.int64]
    """(num_classes, num_classes) pixels: counts[i, j] belong to class i and were given class j.

    Updates are in place, and so is `torch.distributed.all_reduce(torch.from_numpy(matrix.counts))`, which sums it over
    processes.
    """

    def __init__(self, num_classes: int, ignored: int | Iterable[int] | None = None) -> None:
        self.num_classes = _whole("num_classes", num_classes)
        if self.num_classes < 1:
            raise OptionError(f"A confusion matrix needs at least one class, not {num_classes}.")
        several = ignored if isinstance(ignored, Iterable) else () if ignored is None else (ignored,)
        self.ignored = tuple(sorted({_whole("an ignored id", one) for one in several}))
        for one in self.ignored:
            if 0 <= one < self.num_classes:
                raise OptionError(f"The ignored id {one} is a class; ignore an id outside 0-{self.num_classes - 1}.")
        self.counts = np.zeros((self.num_classes, self.num_classes), np.int64)

    def update(self, predicted: Any, target: Any) -> None:
        """Counts the pixels of one label map, or of a batch of them.

        Args:
            predicted: class ids of any integer type and shape: a numpy array, or a torch tensor on any device.
            target: the true ids, of the same shape.

        Raises:
            ImageError: the shapes differ, ids are no integers, or an id is neither a class nor ignored. Nothing is
                counted then.
        """
        given, truth = _array("predicted", predicted), _array("target", target)
        if given.shape != truth.shape:
            raise ImageError(
                f"predicted is {given.shape} and target {truth.shape}; both are class ids of one shape. "
                "Of logits (N, C, H, W), pass logits.argmax(1)."
            )
        given, truth = given.ravel(), truth.ravel()
        if self.ignored:
            counted = truth != self.ignored[0]
            for one in self.ignored[1:]:
                counted &= truth != one
            given, truth = given[counted], truth[counted]
        self._check("predicted", given)
        self._check("target", truth)
        places = truth.astype(np.intp) * self.num_classes + given.astype(np.intp)
        self.counts += np.bincount(places, minlength=self.num_classes**2).reshape(self.counts.shape)

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """The matrix of the pixels of both.

        Raises:
            OptionError: they differ in their classes or ignored ids.
        """
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        if (self.num_classes, self.ignored) != (other.num_classes, other.ignored):
            raise OptionError(
                f"A matrix of {self.num_classes} classes that ignores {list(self.ignored)} cannot be added to one of "
                f"{other.num_classes} that ignores {list(other.ignored)}."
            )
        both = ConfusionMatrix(self.num_classes, self.ignored)
        both.counts = self.counts + other.counts
        return both

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        return self.ignored == other.ignored and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]  # it changes with every update

    def __repr__(self) -> str:
        return f"ConfusionMatrix({self.num_classes} classes, {self.pixels:,} pixels)"

    @property
    def pixels(self) -> int:
        """How many pixels were counted; ignored ones are none of them."""
        return int(self.counts.sum())

    @property
    def pixel_accuracy(self) -> float:
        """The part of all pixels that have the right class, 0-1; nan where no pixel was counted."""
        return float(_quotient(np.trace(self.counts), self.counts.sum()))

    @property
    def accuracy(self) -> Floats:
        """For each class the part of its pixels that were given it (recall), 0-1; nan where it is not in the truth."""
        return _quotient(np.diag(self.counts), self.counts.sum(1))

    @property
    def mean_accuracy(self) -> float:
        """The mean of `accuracy` over the classes in the truth, 0-1."""
        return _mean(self.accuracy)

    @property
    def iu(self) -> Floats:
        """For each class intersection over union (Jaccard index), 0-1; nan where it is neither true nor predicted."""
        right = np.diag(self.counts)
        return _quotient(right, self.counts.sum(1) + self.counts.sum(0) - right)

    @property
    def mean_iu(self) -> float:
        """The mean of `iu` over the classes that are in the truth or predicted, 0-1."""
        return _mean(self.iu)

    @property
    def frequency_weighted_iu(self) -> float:
        """`iu` weighted by each class's part of the true pixels, 0-1; nan where no pixel was counted."""
        true = self.counts.sum(1)
        return float(_quotient(np.nansum(true * np.nan_to_num(self.iu)), true.sum()))

    @property
    def dice(self) -> Floats:
        """For each class 2 |A and B| / (|A| + |B|) (F1), 0-1; nan where it is neither true nor predicted."""
        return _quotient(2 * np.diag(self.counts), self.counts.sum(1) + self.counts.sum(0))

    @property
    def mean_dice(self) -> float:
        """The mean of `dice` over the classes that are in the truth or predicted, 0-1."""
        return _mean(self.dice)

    def summary(self) -> dict[str, float]:
        """The figures that papers report, by the names of the properties here, 0-1."""
        return {
            "pixel_accuracy": self.pixel_accuracy,
            "mean_accuracy": self.mean_accuracy,
            "mean_iu": self.mean_iu,
            "frequency_weighted_iu": self.frequency_weighted_iu,
            "mean_dice": self.mean_dice,
        }

    def to_dict(self) -> dict[str, Any]:
        """The counts as lists and integers, ready for JSON."""
        return {"ignored": list(self.ignored), "counts": self.counts.tolist()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "ConfusionMatrix":
        """The inverse of `to_dict`, also after a trip through JSON.

        Raises:
            OptionError: `record` holds no square table of counts from 0 up.
        """
        table: Sequence[Any] = record.get("counts", ())
        try:
            counts = np.array([[_whole("a count", one) for one in row] for row in table], np.int64)
        except (TypeError, ValueError, OverflowError) as error:
            raise OptionError(f"This is no record of a confusion matrix: {error}") from None
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0 or counts.min() < 0:
            raise OptionError("A confusion matrix's record needs a square table of counts from 0 up under 'counts'.")
        matrix = cls(len(counts), record.get("ignored"))
        matrix.counts = counts
        return matrix

    def _check(self, name: str, ids: npt.NDArray[Any]) -> None:
        if ids.size == 0:
            return
        worst = ids.min() if ids.min() < 0 else ids.max()
        if not 0 <= worst < self.num_classes:
            ignored = f", and the ignored {', '.join(map(str, self.ignored))}" if self.ignored else ""
            raise ImageError(f"{name} has the id {worst}; the classes are 0-{self.num_classes - 1}{ignored}.")


def _array(name: str, values: Any) -> npt.NDArray[Any]:
    # By what it can do and not by its type: this floor knows no torch.
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ImageError(f"{name} must be integer class ids, got {array.dtype} {array.shape}.")
    return array


def _whole(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise OptionError(f"{name} is a whole number, not {value!r}.") from None


def _quotient(above: Any, below: Any) -> Floats:
    """above / below, nan for 0 / 0."""
    below = np.asarray(below, np.float64)
    quotient: Floats = np.divide(above, below, out=np.full(below.shape, np.nan), where=below != 0)
    return quotient


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
