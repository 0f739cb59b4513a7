"""Images and masks stay in register: after every geometric step, at every scale, a disc has one center in both."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from segzoo.data.augment import Augmentation
from segzoo.data.transforms import FILL, STEPS

GEOMETRIC: Mapping[str, list[dict[str, Any]]] = {
    "crop": [
        {"height": 96, "width": 96, "scale": [scale, scale], "max_aspect": aspect}
        for scale in (0.35, 0.5, 0.75, 1.0, 1.3, 2.0, 3.1)
        for aspect in (1.0, 1.4)
    ],
    "scale": [{"scale": [scale, scale]} for scale in (0.35, 0.5, 0.61, 0.75, 1.0, 1.3, 2.0, 3.1)],
    "flip": [{"vertical": False}, {"vertical": True}],
    "affine": [
        {"degrees": 0, "scale": [0.6, 0.6]},
        {"degrees": 0, "scale": [1.7, 1.7]},
        {"degrees": 180},
        {"degrees": 0, "translate": 0.1},
        {"degrees": 0, "shear": 30},
    ],
    "elastic": [{"sigma": 3}, {"sigma": 10}],
}
"""The steps that move pixels, with the options whose offsets are measured."""

CASES = [{"name": name, "p": 1.0, **options} for name, several in GEOMETRIC.items() for options in several]
DISCS = 60


def disc(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A white disc on the color that fills the outside of images, and its mask."""
    center, radius = generator.uniform(38, 58, 2), generator.uniform(4, 8)
    rows, columns = np.mgrid[:96, :96]
    mask = ((rows - center[0]) ** 2 + (columns - center[1]) ** 2 <= radius**2).astype(np.uint8)
    return np.where(mask[..., None] == 1, 255, np.array(FILL)).astype(np.uint8), mask


def center(weights: np.ndarray) -> np.ndarray:
    rows, columns = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return np.array([(weights * rows).sum(), (weights * columns).sum()]) / weights.sum()


def offset(step: dict[str, Any]) -> np.ndarray:
    """How far masks lie below and to the right of their images, in pixels of the result; the mean of many discs."""
    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    augment = Augmentation([step], ignore_index=255)
    offsets = []
    for _ in range(40 * DISCS):
        image, mask = augment(*disc(generator))
        # torchvision darkens the edge between an image and its fill.
        in_image, in_mask = np.clip(image[..., 0].astype(float) - FILL[0], 0, None), (mask == 1).astype(float)
        border = np.ones(mask.shape, bool)
        border[1:-1, 1:-1] = False
        if in_mask.any() and in_image[border].max() < 20:  # the whole disc is in the window
            offsets.append(center(in_mask) - center(in_image))
        if len(offsets) == DISCS:
            break
    assert len(offsets) == DISCS, "too few discs are whole in the result"
    return np.mean(offsets, axis=0)


@pytest.mark.parametrize("step", CASES, ids=str)
def test_a_mask_lies_on_its_image(step: dict[str, Any]) -> None:
    assert np.abs(offset(step)).max() < 0.1


def test_every_step_that_moves_pixels_is_measured() -> None:
    """A step that is not measured leaves the mask as it is."""
    image, mask = disc(np.random.default_rng(0))
    for name in STEPS.keys() - GEOMETRIC.keys():
        torch.manual_seed(0)
        changed = Augmentation([{"name": name, "p": 1.0}], ignore_index=255)(image.copy(), mask.copy())[1]
        np.testing.assert_array_equal(changed, mask)
