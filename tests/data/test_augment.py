"""Augmentation: image and mask move together, masks hold no new ids, recipes are checked."""

from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

from segzoo.data.augment import Augmentation, default_recipe
from segzoo.data.datasets import open_data
from segzoo.data.transforms import FILL, STEPS
from segzoo.errors import OptionError, UnknownNameError

IGNORED = 255
REQUIRED: dict[str, dict[str, Any]] = {"crop": {"height": 40, "width": 56}}

EVERY = pytest.mark.parametrize("name", STEPS)


def scene(height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Four areas, each in a gray of its own: the mask can be told from the image."""
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2, width // 2 :] = 1
    mask[height // 2 :, : width // 3] = 2
    mask[height // 2 :, width // 3 :] = 3
    return np.repeat((mask * 60 + 20)[..., None], 3, 2), mask


def seen(image: np.ndarray) -> np.ndarray:
    """The mask that an unchanged `scene` would have; the filling colour is ignored."""
    gray = image.astype(int)
    ids = np.rint((gray.mean(2) - 20) / 60).clip(0, 3)
    return np.where(np.abs(gray - FILL).sum(2) < 30, IGNORED, ids)


def augmented(*steps: dict[str, Any], seed: int = 0, scene_: Any = None) -> tuple[np.ndarray, np.ndarray]:
    torch.manual_seed(seed)
    return Augmentation([{"p": 1.0, **step} for step in steps], IGNORED)(*(scene_ or scene()))


@EVERY
@pytest.mark.parametrize("size", [(48, 64), (1, 1), (3, 200)])
def test_every_step_gives_an_image_and_a_mask_of_one_size(name: str, size: tuple[int, int]) -> None:
    for seed in range(5):
        image, mask = augmented({"name": name, **REQUIRED.get(name, {})}, seed=seed, scene_=scene(*size))
        assert (image.dtype, image.ndim, mask.dtype) == (np.uint8, 3, np.uint8)
        assert image.shape == (*mask.shape, 3)
        assert np.isin(mask, [0, 1, 2, 3, IGNORED]).all()


@EVERY
def test_every_step_does_something_and_not_always_the_same(name: str) -> None:
    image, mask = scene()
    noisy = (image // 2 + np.random.default_rng(0).integers(0, 100, image.shape)).astype(np.uint8)
    step = {"name": name, **REQUIRED.get(name, {})}
    results = [augmented(step, seed=seed, scene_=(noisy.copy(), mask.copy())) for seed in range(3)]
    assert not any(np.array_equal(result, noisy) for result, _ in results)
    if name not in ("flip", "gray"):
        assert not np.array_equal(results[0][0], results[1][0])


@EVERY
def test_a_seed_repeats_a_step_and_probability_0_leaves_it_out(name: str) -> None:
    step = {"name": name, **REQUIRED.get(name, {})}
    first, again = augmented(step, seed=4), augmented(step, seed=4)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(augmented({**step, "p": 0.0}), scene(), strict=True):
        np.testing.assert_array_equal(one, other)


@EVERY
def test_what_is_passed_in_is_not_written_to(name: str) -> None:
    image, mask = scene()
    augmented({"name": name, **REQUIRED.get(name, {})}, scene_=(image, mask))
    for one, other in zip((image, mask), scene(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "step",
    [
        {"name": "flip"},
        {"name": "flip", "vertical": True},
        {"name": "crop", "height": 30, "width": 40},
        {"name": "crop", "height": 48, "width": 64, "scale": [0.4, 2.5], "stretch": 1.5},
        {"name": "crop", "height": 100, "width": 80},
        {"name": "scale", "scale": [0.5, 2.0]},
        {"name": "affine", "degrees": 40, "translate": 0.2, "scale": [0.7, 1.4], "shear": 15},
        {"name": "elastic", "sigma": 6},
        {"name": "dropout", "ignore": True, "count": [5, 8]},
    ],
)
def test_image_and_mask_move_together(step: dict[str, Any]) -> None:
    for seed in range(8):
        image, mask = augmented(step, seed=seed)
        # Where areas meet, the image is blended and the mask is not.
        assert (seen(image) == mask).mean() > 0.9, seed


@pytest.mark.parametrize("name", ["colour", "gray", "blur", "noise", "dropout"])
def test_these_leave_the_mask_alone(name: str) -> None:
    _, mask = augmented({"name": name})
    np.testing.assert_array_equal(mask, scene()[1])


def test_a_crop_within_the_image_is_a_window_of_it() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (20, 30, 3), np.uint8), rng.integers(0, 4, (20, 30), np.uint8)
    small, labels = augmented({"name": "crop", "height": 8, "width": 9}, scene_=(image, mask))
    windows = np.lib.stride_tricks.sliding_window_view(image, (8, 9), (0, 1)).transpose(0, 1, 3, 4, 2)
    places = np.argwhere((windows == small).all((2, 3, 4)))
    assert len(places) == 1
    top, left = places[0]
    np.testing.assert_array_equal(labels, mask[top : top + 8, left : left + 9])


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_crop_shows_the_image_at_its_scale(factor: float) -> None:
    step = {"name": "crop", "height": 48, "width": 64, "scale": [factor, factor]}
    _, mask = augmented(step)
    assert (mask == IGNORED).mean() == pytest.approx(0.75 if factor < 1 else 0, abs=0.01)


def test_a_crop_can_refuse_windows_of_one_class() -> None:
    step = {"name": "crop", "height": 12, "width": 16}
    shares = [np.bincount(augmented({**step, "most": 0.6}, seed=seed)[1].ravel()).max() / 192 for seed in range(30)]
    free = [np.bincount(augmented(step, seed=seed)[1].ravel()).max() / 192 for seed in range(30)]
    assert sum(share > 0.6 for share in shares) < sum(share > 0.6 for share in free) / 3


def test_colours_turn_brighter_and_darker() -> None:
    means = [augmented({"name": "colour"}, seed=seed)[0].mean() for seed in range(20)]
    before = scene()[0].mean()
    assert min(means) < 0.9 * before and max(means) > 1.1 * before


def test_steps_are_made_in_their_order() -> None:
    small, crop = {"name": "scale", "scale": [0.5, 0.5]}, {"name": "crop", "height": 48, "width": 64}
    assert augmented(small, crop)[1].shape == (48, 64)
    assert augmented(crop, small)[1].shape == (24, 32)


def test_a_recipe_comes_back_whole() -> None:
    augment = Augmentation(default_recipe(30, 40), IGNORED)
    assert augment.recipe[1]["stretch"] == 1.2 and augment.recipe[0] == {"name": "flip", "vertical": False, "p": 0.5}
    again = Augmentation(augment.recipe, IGNORED)
    assert again.steps == augment.steps
    assert "Crop(height=30, width=40" in repr(again)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"name": "flipp"}, r"Unknown step of augmentation 'flipp'\. Did you mean 'flip'\?"),
        ({"name": "blur", "sigmas": [1, 2]}, r"Unknown option of the step 'blur' 'sigmas'\. Did you mean 'sigma'\?"),
        ({"name": "crop", "height": 3}, "The step 'crop' needs width"),
        ({"name": "crop", "height": 3.5, "width": 4}, r"height of the step 'crop' is a whole number, not 3\.5"),
        ({"name": "crop", "height": 0, "width": 4}, "height of the step 'crop' is 1-65536, not 0"),
        ({"name": "flip", "vertical": 1}, "is true or false, not 1"),
        ({"name": "flip", "p": 1.5}, r"p of the step 'flip' is 0-1, not 1\.5"),
        ({"name": "affine", "degrees": True}, "is a number, not True"),
        ({"name": "affine", "degrees": -3}, "is 0-180, not -3"),
        ({"name": "blur", "sigma": [2, 1]}, "the least and the greatest, in this order"),
        ({"name": "blur", "sigma": 2}, "two numbers, the least and the greatest, not 2"),
        ({"name": "colour", "hue": 0.7}, r"hue of the step 'colour' is 0-0\.5, not 0\.7"),
        ({"p": 1}, "is a dict such as"),
        ("flip", "is a dict such as"),
    ],
)
def test_a_recipe_that_cannot_be_says_why(step: Any, message: str) -> None:
    with pytest.raises((UnknownNameError, OptionError), match=message):
        Augmentation([step], IGNORED)


@EVERY
def test_every_number_has_its_limits(name: str) -> None:
    hints = get_type_hints(STEPS[name])
    numbers = {field.name for field in fields(STEPS[name]) if hints[field.name] is not bool}  # type: ignore[arg-type]
    assert numbers - {"p"} == STEPS[name].limits.keys()


def test_an_ignored_id_below_0_fills_masks_of_wider_integers() -> None:
    image, mask = scene()
    augment = Augmentation(
        [{"name": "affine", "degrees": 45, "p": 1.0}, {"name": "crop", "height": 90, "width": 90}], -1
    )
    _, labels = augment(image, mask.astype(np.int32))
    assert labels.dtype == np.int32 and (labels == -1).any() and np.isin(labels, [-1, 0, 1, 2, 3]).all()


def test_on_real_frames(camvid: Any) -> None:
    data = open_data("camvid", camvid, "train")
    augment = Augmentation([*default_recipe(200, 300), {"name": "elastic"}, {"name": "affine"}], data.ignored)
    for index in (0, 200):
        image, mask = augment(data[index].image, data[index].mask)
        assert image.shape == (200, 300, 3) and set(np.unique(mask)) <= set(range(12))
