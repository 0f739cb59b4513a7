"""U-Net's weight map, compared with its formula evaluated pixel by pixel."""

import numpy as np
import pytest
import torch

from segzoo.data.border_weights import BorderWeights
from segzoo.errors import OptionError
from segzoo.training.losses import CrossEntropy

CELLS = np.zeros((20, 24), np.uint8)
CELLS[2:8, 3:9] = 1
CELLS[3:9, 11:16] = 1
CELLS[12:18, 5:15] = 2
CELLS[0, :4] = 255


def formula(mask: np.ndarray, objects: list[np.ndarray], w0: float, sigma: float) -> np.ndarray:
    weights = np.zeros(mask.shape)
    for row, column in np.ndindex(*mask.shape):
        distances = sorted(np.hypot(*(np.argwhere(one) - (row, column)).T).min() for one in objects)
        extra = w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2)) if mask[row, column] == 0 else 0
        weights[row, column] = 0 if mask[row, column] == 255 else 1 + extra
    return weights


@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (3.0, 1.0)])
def test_the_weights_match_equation_2(w0: float, sigma: float) -> None:
    left = (CELLS == 1) & (np.arange(24) < 10)
    objects = [left, (CELLS == 1) & ~left, CELLS == 2]
    weights = BorderWeights(255, w0=w0, sigma=sigma)(CELLS)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, formula(CELLS, objects, w0, sigma), atol=1e-5)


def test_a_single_object_has_no_gap() -> None:
    assert (BorderWeights(255)(np.where(CELLS == 2, CELLS, 0)) == 1).all()
    assert (BorderWeights(255)(np.zeros((4, 4), np.uint8)) == 1).all()


def test_class_weights_are_the_base() -> None:
    plain = BorderWeights(255)(CELLS)
    weighted = BorderWeights(255, class_weights=[0.5, 2.0, 3.0])(CELLS)
    added = np.array([0.5, 2.0, 3.0])[np.where(CELLS == 255, 0, CELLS)] - 1
    np.testing.assert_allclose(weighted, np.where(CELLS == 255, 0, plain + added), atol=1e-6)


def test_another_class_can_be_the_background() -> None:
    swapped = np.choose(np.where(CELLS == 255, 3, CELLS), [1, 0, 2, 255])
    np.testing.assert_array_equal(BorderWeights(255, background=1)(swapped), BorderWeights(255)(CELLS))


def test_cross_entropy_accepts_the_weights() -> None:
    logits, target = torch.randn(1, 3, 20, 24), torch.from_numpy(CELLS)[None]
    weights = torch.from_numpy(BorderWeights(255)(CELLS))[None]
    costs = torch.nn.functional.cross_entropy(logits, target.long(), ignore_index=255, reduction="none") * weights
    assert CrossEntropy(255)(logits, target, weights).item() == pytest.approx((costs.sum() / weights.sum()).item())
    by_pixels = CrossEntropy(255, normalize="pixels")(logits, target, weights)
    assert by_pixels.item() == pytest.approx((costs.sum() / (target != 255).sum()).item())


@pytest.mark.parametrize("options", [{"w0": 0}, {"sigma": -1}])
def test_values_must_be_above_0(options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="w0 and sigma of the border weights must be above 0"):
        BorderWeights(255, **options)  # type: ignore[arg-type]
