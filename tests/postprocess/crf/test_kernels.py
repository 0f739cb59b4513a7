"""The two kernels, compared with sums over all pairs of pixels."""

import numpy as np
import pytest
from all_pairs import appearance, normalized, positions

from segzoo.postprocess.crf.kernels import Appearance, Smoothness

# Published ranges, applied to crops of a photograph: the widest, DeepLab's, and DeconvNet's narrow ones.
RANGES = [(80, 13), (49, 5), (10, 13), (20, 3)]


def probabilities(height: int, width: int, classes: int = 4) -> np.ndarray:
    """Classes in blocks, with noise."""
    rng = np.random.default_rng(0)
    areas = rng.normal(size=(height // 8 + 1, width // 8 + 1, classes)).repeat(8, 0).repeat(8, 1)[:height, :width]
    values = np.exp(2 * areas + rng.normal(size=areas.shape))
    return (values / values.sum(2, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (37, 29), (5, 300)])
@pytest.mark.parametrize("theta", [0.5, 3.0, 20.0])
def test_smoothness_is_exact(height: int, width: int, theta: float) -> None:
    q = probabilities(height, width)
    expected = normalized(positions(height, width, theta)) @ q.reshape(-1, 4)
    np.testing.assert_allclose(Smoothness(height, width, theta)(q).reshape(-1, 4), expected, atol=2e-6)


@pytest.mark.parametrize(("theta_alpha", "theta_beta"), RANGES)
def test_appearance_is_within_its_stated_bound(photograph: np.ndarray, theta_alpha: float, theta_beta: float) -> None:
    image = photograph[150:195, 200:250]
    q = probabilities(45, 50)
    expected = appearance(image, theta_alpha, theta_beta) @ q.reshape(-1, 4)
    error = Appearance(image, theta_alpha, theta_beta)(q).reshape(-1, 4) - expected
    assert np.linalg.norm(error) < 0.05 * np.linalg.norm(expected)
    assert np.abs(error).max() < 0.25


@pytest.mark.parametrize("theta_beta", [3, 13])
def test_appearance_is_symmetric(photograph: np.ndarray, theta_beta: float) -> None:
    image = photograph[150:166, 200:220]
    matrix = Appearance(image, 30, theta_beta)(np.eye(320, dtype=np.float32).reshape(16, 20, 320)).reshape(320, 320)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    assert matrix.min() >= 0


@pytest.mark.parametrize("kind", ["appearance", "smoothness"])
def test_symmetric_normalization_has_a_fixed_point(photograph: np.ndarray, kind: str) -> None:
    """D^1/2 1 is a fixed point of D^-1/2 K D^-1/2, and no signal is amplified."""
    image = photograph[150:180, 200:240]
    if kind == "appearance":
        kernel = Appearance(image, 40, 10)
        fixed = 1 / kernel._scale.reshape(30, 40, 1)
    else:
        kernel = Smoothness(30, 40, 3)
        sums = [np.exp(-((np.arange(n)[:, None] - np.arange(n)) ** 2) / 18).sum(1) for n in (30, 40)]
        fixed = np.sqrt(np.multiply.outer(*sums))[..., None].astype(np.float32)
    np.testing.assert_allclose(kernel(fixed), fixed, rtol=1e-5)
    noise = np.random.default_rng(0).normal(size=(30, 40, 5)).astype(np.float32)
    assert np.linalg.norm(kernel(noise)) < np.linalg.norm(noise)


@pytest.mark.parametrize("kernel", [Appearance(np.full((20, 30, 3), 90, np.uint8), 8, 10), Smoothness(20, 30, 2)])
def test_a_constant_stays_constant_in_a_plain_image_away_from_the_border(kernel: Appearance | Smoothness) -> None:
    """There, the row sums of the kernel are equal; with a range of 8 pixels, every pixel reaches the border."""
    filtered = kernel(np.ones((20, 30, 1), np.float32))[8:-8, 12:-12]
    np.testing.assert_allclose(filtered, filtered.mean(), rtol=0.02)
