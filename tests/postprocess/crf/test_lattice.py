"""The permutohedral lattice, against sums over all pairs of points."""

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
def test_weights_are_those_of_the_gaussian_up_to_one_factor(d: int, weight: float, total: float) -> None:
    """And up to the error that the module states, in the root mean square."""
    features = points(d)
    wanted, found = exact(features), matrix(Lattice(features), len(features))
    found *= (found * wanted).sum() / (found * found).sum()
    assert np.linalg.norm(found - wanted) < weight * np.linalg.norm(wanted)
    sums = found.sum(1) / wanted.sum(1)
    assert np.sqrt(np.mean((sums / np.median(sums) - 1) ** 2)) < total


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_the_filter_is_symmetric_and_no_weight_is_negative(d: int) -> None:
    found = matrix(Lattice(points(d, 200, 2.0)), 200)
    np.testing.assert_allclose(found, found.T, atol=2e-7 * found.max(), rtol=1e-5)
    assert found.min() >= 0


def test_it_is_the_same_filter_for_each_channel() -> None:
    lattice, values = Lattice(points(5)), np.random.default_rng(0).random((600, 7), np.float32)
    together = lattice(values)
    for channel in range(7):
        np.testing.assert_allclose(together[:, channel], lattice(values[:, channel : channel + 1])[:, 0], rtol=1e-6)


def test_points_far_apart_do_not_hear_each_other() -> None:
    features = np.array([[0, 0, 0, 0, 0], [0.1, 0, 0, 0, 0], [40, 0, 0, 0, 0]], np.float32)
    found = matrix(Lattice(features), 3)
    assert found[0, 1] > 0.5 * found[0, 0]
    assert found[0, 2] == found[2, 0] == 0


def test_one_point_hears_itself() -> None:
    assert Lattice(np.zeros((1, 5), np.float32))(np.ones((1, 1), np.float32))[0, 0] > 0


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_points_moved_by_a_vector_of_the_lattice_are_filtered_alike(d: int) -> None:
    features = points(d, 200)
    here = matrix(Lattice(features), 200)
    for axis in range(d + 1):
        step = np.full(d + 1, -1.0)
        step[axis] = d
        moved = features + np.linalg.lstsq(_elevation(d), step)[0].astype(np.float32)
        np.testing.assert_allclose(matrix(Lattice(moved), 200), here, atol=1e-5 * here.max())


def test_corners_between_two_points_are_there() -> None:
    """Two points that share no corner, and hear each other through corners that neither touches."""
    features = np.array([[0.0] * 5, [0.9] * 5], np.float32)
    found = matrix(Lattice(features), 2)
    assert found[0, 1] > 0


def test_a_gaussian_that_is_too_narrow_for_numbers_is_refused() -> None:
    with pytest.raises(OptionError, match="so narrow that they hardly see each other"):
        Lattice(points(5, spread=1e5))
