"""Metrics of a confusion matrix, compared with scikit-learn."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn

from segzoo.errors import ImageError, OptionError
from segzoo.metrics import ConfusionMatrix

CLASSES = 7
IGNORED = 255


def maps(seed: int, absent: tuple[int, ...] = (), unpredicted: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Random predictions and ground truth (3, 20, 30): `absent` are in neither, `unpredicted` not in the truth."""
    rng = np.random.default_rng(seed)
    given = rng.choice([i for i in range(CLASSES) if i not in absent], (3, 20, 30))
    truth = rng.choice([i for i in range(CLASSES) if i not in absent + unpredicted], (3, 20, 30))
    truth = np.where(rng.random(truth.shape) < 0.4, np.where(np.isin(given, unpredicted), truth, given), truth)
    return given.astype(np.uint8), np.where(rng.random(truth.shape) < 0.1, IGNORED, truth).astype(np.uint8)


def counted(given: np.ndarray, truth: np.ndarray) -> ConfusionMatrix:
    matrix = ConfusionMatrix(CLASSES, IGNORED)
    matrix.update(given, truth)
    return matrix


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("absent", "unpredicted"), [((), ()), ((2,), ()), ((0, 6), (3,))])
def test_every_metric_is_scikit_learns(seed: int, absent: tuple[int, ...], unpredicted: tuple[int, ...]) -> None:
    given, truth = maps(seed, absent, unpredicted)
    matrix = counted(given, truth)
    y, p = truth[truth != IGNORED], given[truth != IGNORED]
    occurring = [i for i in range(CLASSES) if i not in absent]
    true = [i for i in occurring if i not in unpredicted]

    np.testing.assert_array_equal(matrix.counts, sklearn.confusion_matrix(y, p, labels=range(CLASSES)))
    iou = sklearn.jaccard_score(y, p, labels=occurring, average=None)
    dice = sklearn.f1_score(y, p, labels=occurring, average=None)
    recall = sklearn.recall_score(y, p, labels=true, average=None)
    assert matrix.pixels == y.size
    assert matrix.pixel_accuracy == pytest.approx(sklearn.accuracy_score(y, p), abs=1e-12)
    assert matrix.mean_accuracy == pytest.approx(recall.mean(), abs=1e-12)
    assert matrix.mean_iou == pytest.approx(iou.mean(), abs=1e-12)
    assert matrix.mean_dice == pytest.approx(dice.mean(), abs=1e-12)
    weighted = sklearn.jaccard_score(y, p, labels=true, average="weighted")
    assert matrix.frequency_weighted_iou == pytest.approx(weighted, abs=1e-12)
    np.testing.assert_allclose(matrix.iou[occurring], iou, atol=1e-12)
    np.testing.assert_allclose(matrix.dice[occurring], dice, atol=1e-12)
    np.testing.assert_allclose(matrix.accuracy[true], recall, atol=1e-12)
    for values, missing in ((matrix.iou, absent), (matrix.dice, absent), (matrix.accuracy, absent + unpredicted)):
        assert tuple(np.flatnonzero(np.isnan(values))) == tuple(sorted(missing))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_torch_tensors_give_the_same_as_numpy_arrays(dtype: torch.dtype) -> None:
    given, truth = maps(0)
    matrix = ConfusionMatrix(CLASSES, IGNORED)
    matrix.update(torch.tensor(given).to(dtype), torch.tensor(truth).to(dtype))
    assert matrix == counted(given, truth)


def test_parts_add_up_to_the_whole() -> None:
    given, truth = maps(1)
    parts = [counted(g, t) for g, t in zip(given, truth, strict=True)]
    assert parts[0] + parts[1] + parts[2] == counted(given, truth)
    in_turn = ConfusionMatrix(CLASSES, IGNORED)
    for g, t in zip(given, truth, strict=True):
        in_turn.update(g, t)
    assert in_turn == counted(given, truth)


def test_a_tensor_that_shares_the_counts_sums_them_in_place() -> None:
    matrix, other = counted(*maps(0)), counted(*maps(1))
    total, shared = matrix + other, torch.from_numpy(matrix.counts)
    shared += torch.from_numpy(other.counts)
    assert matrix == total
    matrix.update(np.zeros(3, int), np.zeros(3, int))
    assert shared[0, 0] == total.counts[0, 0] + 3


def test_counts_are_exact_beyond_the_precision_of_floats() -> None:
    huge = 2**53
    record = {"ignore_index": [], "counts": [[huge, 1], [0, 0]]}
    matrix = ConfusionMatrix.from_dict(record)
    matrix.update(np.zeros(1, int), np.zeros(1, int))
    assert matrix.counts[0, 0] == huge + 1 != float(huge) + 1
    assert matrix.pixels == huge + 2


def test_a_matrix_survives_json() -> None:
    matrix = counted(*maps(2))
    assert ConfusionMatrix.from_dict(json.loads(json.dumps(matrix.to_dict()))) == matrix
    assert json.loads(json.dumps(matrix.summary()))["mean_iou"] == matrix.mean_iou


def test_more_than_one_id_can_be_ignored() -> None:
    matrix = ConfusionMatrix(2, ignore_index=(255, -1))
    matrix.update(np.array([0, 1, 9, 9]), np.array([0, 1, 255, -1]))
    assert matrix.counts.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("size", [0, 5])
def test_without_a_counted_pixel_every_metric_is_nan(size: int) -> None:
    matrix = counted(np.zeros(size, np.uint8), np.full(size, IGNORED, np.uint8))
    assert matrix.pixels == 0
    assert all(math.isnan(value) for value in matrix.summary().values())


@pytest.mark.parametrize(
    ("given", "truth", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), r"predicted is \(2, 3\) and target \(3, 2\)"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "predicted must be integer class ids, got float64"),
        (np.full((2, 2), 7), np.zeros((2, 2), int), "predicted has the id 7; the classes are 0-6"),
        (np.zeros((2, 2), int), np.full((2, 2), -3), "target has the id -3; .*, and 255 is ignored"),
    ],
)
def test_a_refused_update_counts_nothing(given: np.ndarray, truth: np.ndarray, message: str) -> None:
    matrix = ConfusionMatrix(CLASSES, IGNORED)
    with pytest.raises(ImageError, match=message):
        matrix.update(given, truth)
    assert matrix.pixels == 0


@pytest.mark.parametrize(
    ("classes", "ignore_index", "message"),
    [
        (0, None, "at least one class"),
        (2, 1, "ignore_index 1 is a class id"),
        (2.5, None, "num_classes must be a whole number"),
    ],
)
def test_invalid_arguments_are_refused(classes: int, ignore_index: int | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ConfusionMatrix(classes, ignore_index)


def test_matrices_of_different_classes_do_not_add() -> None:
    with pytest.raises(OptionError, match=r"7 classes .* cannot be added to one of 6"):
        ConfusionMatrix(7) + ConfusionMatrix(6)


@pytest.mark.parametrize("counts", [[], [[1, 2]], [[1, -1], [0, 0]], [[0.5]], "no", 3])
def test_an_invalid_dictionary_is_refused(counts: object) -> None:
    with pytest.raises(OptionError):
        ConfusionMatrix.from_dict({"counts": counts})
