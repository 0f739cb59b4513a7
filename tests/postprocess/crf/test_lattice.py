"""The permutohedral lattice, compared with sums over all pairs of points."""

import numpy as np
import pytest

from segzoo.errors import OptionError
from segzoo.postprocess.crf.lattice import Lattice, _elevation


def points(d: int, count: int = 600, spread: float = 1.0) -> np.ndarray:
    return (spread * np.random.default_rng(d).normal(size=(count, d))).astype(np.float32)


def exact(features: np.ndarray) -> np.ndarray:
    """exp(-|f_i - f_j|^2 / 2) for all pairs."""
    f = features.astype(np.float64)
    return np.exp(-((f[:, None] - f) ** 2).sum(2) / 2)


def matrix(lattice: Lattice, count: int) -> np.ndarray:
    return lattice(np.eye(count, dtype=np.float32)).astype(np.float64)


@pytest.mark.parametrize(("d", "weight", "total"), [(1, 0.05, 0.02), (2, 0.08, 0.03), (3, 0.11, 0.04), (5, 0.16, 0.07)])
def test_weights_equal_the_gaussian_up_to_one_factor(d: int, weight: float, total: float) -> None:
    """And up to the error stated in the module, in the root mean square."""
    features = points(d)
    expected, actual = exact(features), matrix(Lattice(features), len(features))
    actual *= (actual * expected).sum() / (actual * actual).sum()
    assert np.linalg.norm(actual - expected) < weight * np.linalg.norm(expected)
    sums = actual.sum(1) / expected.sum(1)
    assert np.sqrt(np.mean((sums / np.median(sums) - 1) ** 2)) < total


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_the_filter_is_symmetric_and_no_weight_is_negative(d: int) -> None:
    actual = matrix(Lattice(points(d, 200, 2.0)), 200)
    np.testing.assert_allclose(actual, actual.T, atol=2e-7 * actual.max(), rtol=1e-5)
    assert actual.min() >= 0


def test_channels_are_filtered_independently() -> None:
    lattice, values = Lattice(points(5)), np.random.default_rng(0).random((600, 7), np.float32)
    filtered = lattice(values)
    for channel in range(7):
        np.testing.assert_allclose(filtered[:, channel], lattice(values[:, channel : channel + 1])[:, 0], rtol=1e-6)


def test_distant_points_do_not_influence_each_other() -> None:
    features = np.array([[0, 0, 0, 0, 0], [0.1, 0, 0, 0, 0], [40, 0, 0, 0, 0]], np.float32)
    actual = matrix(Lattice(features), 3)
    assert actual[0, 1] > 0.5 * actual[0, 0]
    assert actual[0, 2] == actual[2, 0] == 0


def test_a_single_point_keeps_a_weight() -> None:
    assert Lattice(np.zeros((1, 5), np.float32))(np.ones((1, 1), np.float32))[0, 0] > 0


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_translation_by_a_lattice_vector_changes_nothing(d: int) -> None:
    features = points(d, 200)
    expected = matrix(Lattice(features), 200)
    for axis in range(d + 1):
        step = np.full(d + 1, -1.0)
        step[axis] = d
        moved = features + np.linalg.lstsq(_elevation(d), step, rcond=None)[0].astype(np.float32)
        np.testing.assert_allclose(matrix(Lattice(moved), 200), expected, atol=1e-5 * expected.max())


def test_corners_between_two_points_are_added() -> None:
    """Two points without a common corner influence each other through corners that neither occupies."""
    features = np.array([[0.0] * 5, [0.9] * 5], np.float32)
    actual = matrix(Lattice(features), 2)
    assert actual[0, 1] > 0


def test_a_gaussian_too_narrow_to_number_the_corners_is_rejected() -> None:
    with pytest.raises(OptionError, match="so narrow that they barely influence each other"):
        Lattice(points(5, spread=1e5))
