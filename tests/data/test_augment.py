"""Augmentation: image and mask change together, masks get no new ids, recipes are checked."""

from dataclasses import fields
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

from segzoo.data.augment import Augmentation, default_recipe
from segzoo.data.datasets import open_data
from segzoo.data.transforms import FILL, STEPS
from segzoo.errors import OptionError, UnknownNameError

IGNORE_INDEX = 255
REQUIRED: dict[str, dict[str, Any]] = {"crop": {"height": 40, "width": 56}}

EVERY = pytest.mark.parametrize("name", STEPS)


def scene(height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Four areas with different gray values: the mask can be recovered from the image."""
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2, width // 2 :] = 1
    mask[height // 2 :, : width // 3] = 2
    mask[height // 2 :, width // 3 :] = 3
    return np.repeat((mask * 60 + 20)[..., None], 3, 2), mask


def mask_from_gray(image: np.ndarray) -> np.ndarray:
    """The mask recovered from the gray values of a `scene`; the fill color is ignored."""
    gray = image.astype(int)
    ids = np.rint((gray.mean(2) - 20) / 60).clip(0, 3)
    return np.where(np.abs(gray - FILL).sum(2) < 30, IGNORE_INDEX, ids)


def augmented(*steps: dict[str, Any], seed: int = 0, scene_: Any = None) -> tuple[np.ndarray, np.ndarray]:
    torch.manual_seed(seed)
    return Augmentation([{"p": 1.0, **step} for step in steps], IGNORE_INDEX)(*(scene_ or scene()))


@EVERY
@pytest.mark.parametrize("size", [(48, 64), (1, 1), (3, 200)])
def test_every_step_returns_an_image_and_a_mask_of_the_same_size(name: str, size: tuple[int, int]) -> None:
    for seed in range(5):
        image, mask = augmented({"name": name, **REQUIRED.get(name, {})}, seed=seed, scene_=scene(*size))
        assert (image.dtype, image.ndim, mask.dtype) == (np.uint8, 3, np.uint8)
        assert image.shape == (*mask.shape, 3)
        assert np.isin(mask, [0, 1, 2, 3, IGNORE_INDEX]).all()


@EVERY
def test_every_step_changes_the_image_at_random(name: str) -> None:
    image, mask = scene()
    noisy = (image // 2 + np.random.default_rng(0).integers(0, 100, image.shape)).astype(np.uint8)
    step = {"name": name, **REQUIRED.get(name, {})}
    results = [augmented(step, seed=seed, scene_=(noisy.copy(), mask.copy())) for seed in range(3)]
    assert not any(np.array_equal(result, noisy) for result, _ in results)
    if name not in ("flip", "gray"):
        assert not np.array_equal(results[0][0], results[1][0])


@EVERY
def test_a_seed_repeats_a_step_and_probability_0_skips_it(name: str) -> None:
    step = {"name": name, **REQUIRED.get(name, {})}
    first, again = augmented(step, seed=4), augmented(step, seed=4)
    for actual, expected in zip(first, again, strict=True):
        np.testing.assert_array_equal(actual, expected)
    for actual, expected in zip(augmented({**step, "p": 0.0}), scene(), strict=True):
        np.testing.assert_array_equal(actual, expected)


@EVERY
def test_the_input_is_not_modified(name: str) -> None:
    image, mask = scene()
    augmented({"name": name, **REQUIRED.get(name, {})}, scene_=(image, mask))
    for actual, expected in zip((image, mask), scene(), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    "step",
    [
        {"name": "flip"},
        {"name": "flip", "vertical": True},
        {"name": "crop", "height": 30, "width": 40},
        {"name": "crop", "height": 48, "width": 64, "scale": [0.4, 2.5], "max_aspect": 1.5},
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
        # At the borders of areas, the image is interpolated but the mask is not.
        assert (mask_from_gray(image) == mask).mean() > 0.9, seed


@pytest.mark.parametrize("name", ["color_jitter", "gray", "blur", "noise", "dropout"])
def test_some_steps_do_not_change_the_mask(name: str) -> None:
    _, mask = augmented({"name": name})
    np.testing.assert_array_equal(mask, scene()[1])


def test_a_crop_within_the_image_is_a_window_of_it() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (20, 30, 3), np.uint8), rng.integers(0, 4, (20, 30), np.uint8)
    crop, crop_mask = augmented({"name": "crop", "height": 8, "width": 9}, scene_=(image, mask))
    windows = np.lib.stride_tricks.sliding_window_view(image, (8, 9), (0, 1)).transpose(0, 1, 3, 4, 2)
    positions = np.argwhere((windows == crop).all((2, 3, 4)))
    assert len(positions) == 1
    top, left = positions[0]
    np.testing.assert_array_equal(crop_mask, mask[top : top + 8, left : left + 9])


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_crop_scales_the_image(factor: float) -> None:
    step = {"name": "crop", "height": 48, "width": 64, "scale": [factor, factor]}
    _, mask = augmented(step)
    assert (mask == IGNORE_INDEX).mean() == pytest.approx(0.75 if factor < 1 else 0, abs=0.01)


def test_a_crop_can_reject_windows_of_one_class() -> None:
    step = {"name": "crop", "height": 12, "width": 16}
    shares = [
        np.bincount(augmented({**step, "cat_max_ratio": 0.6}, seed=seed)[1].ravel()).max() / 192 for seed in range(30)
    ]
    free = [np.bincount(augmented(step, seed=seed)[1].ravel()).max() / 192 for seed in range(30)]
    assert sum(share > 0.6 for share in shares) < sum(share > 0.6 for share in free) / 3


def test_color_jitter_brightens_and_darkens() -> None:
    means = [augmented({"name": "color_jitter"}, seed=seed)[0].mean() for seed in range(20)]
    before = scene()[0].mean()
    assert min(means) < 0.9 * before and max(means) > 1.1 * before


def test_steps_are_applied_in_order() -> None:
    small, crop = {"name": "scale", "scale": [0.5, 0.5]}, {"name": "crop", "height": 48, "width": 64}
    assert augmented(small, crop)[1].shape == (48, 64)
    assert augmented(crop, small)[1].shape == (24, 32)


def test_a_recipe_round_trips() -> None:
    augment = Augmentation(default_recipe(30, 40), IGNORE_INDEX)
    assert augment.recipe[1]["max_aspect"] == 1.2 and augment.recipe[0] == {"name": "flip", "vertical": False, "p": 0.5}
    again = Augmentation(augment.recipe, IGNORE_INDEX)
    assert again.steps == augment.steps
    assert "Crop(height=30, width=40" in repr(again)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"name": "flipp"}, r"Unknown augmentation step 'flipp'\. Did you mean 'flip'\?"),
        ({"name": "blur", "sigmas": [1, 2]}, r"Unknown option 'sigmas'\. Did you mean 'sigma'\? The step 'blur' takes"),
        ({"name": "crop", "height": 3}, "The step 'crop' needs width"),
        ({"name": "crop", "height": 3.5, "width": 4}, r"height= of the step 'crop' must be a whole number, not 3\.5"),
        ({"name": "crop", "height": 0, "width": 4}, "height= of the step 'crop' must be 1-65536, not 0"),
        ({"name": "flip", "vertical": 1}, "must be true or false, not 1"),
        ({"name": "flip", "p": 1.5}, r"p= of the step 'flip' must be 0-1, not 1\.5"),
        ({"name": "affine", "degrees": True}, "must be a number, not True"),
        ({"name": "affine", "degrees": -3}, "must be 0-180, not -3"),
        (
            {"name": "blur", "sigma": [2, 1]},
            "sigma= of the step 'blur' must be the minimum and the maximum, in this order, not",
        ),
        ({"name": "blur", "sigma": 2}, "sigma= of the step 'blur' must be a list of 2 numbers, not 2"),
        ({"name": "color_jitter", "hue": 0.7}, r"hue= of the step 'color_jitter' must be 0-0\.5, not 0\.7"),
        ({"p": 1}, "is a dict such as"),
        ("flip", "is a dict such as"),
    ],
)
def test_an_invalid_recipe_is_an_error(step: Any, message: str) -> None:
    with pytest.raises((UnknownNameError, OptionError), match=message):
        Augmentation([step], IGNORE_INDEX)


def test_all_faults_of_a_step_are_named() -> None:
    step = {"name": "affine", "degrees": "x", "scale": [1, 500], "p": float("nan")}
    with pytest.raises(OptionError, match=r"^degrees= .*; scale= .* must be 0\.01-100, not \[1, 500\]; p= of .*$"):
        Augmentation([step], IGNORE_INDEX)


@EVERY
@pytest.mark.parametrize("value", [-1e9, 1e9])
def test_every_number_has_a_range(name: str, value: float) -> None:
    hints = get_type_hints(STEPS[name])
    for field in fields(STEPS[name]):  # type: ignore[arg-type]
        if hints[field.name] is not bool:
            number = int(value) if int in (hints[field.name], *get_args(hints[field.name])) else value
            given = [number] * 2 if get_args(hints[field.name]) else number
            with pytest.raises(OptionError, match=rf"{field.name}= of the step '{name}' must be [0-9.]+-[0-9.]+, not"):
                Augmentation([{"name": name, **REQUIRED.get(name, {}), field.name: given}], IGNORE_INDEX)


def test_a_negative_ignore_index_fills_int32_masks() -> None:
    image, mask = scene()
    augment = Augmentation(
        [{"name": "affine", "degrees": 45, "p": 1.0}, {"name": "crop", "height": 90, "width": 90}], -1
    )
    _, mask = augment(image, mask.astype(np.int32))
    assert mask.dtype == np.int32 and (mask == -1).any() and np.isin(mask, [-1, 0, 1, 2, 3]).all()


def test_on_real_frames(camvid: Any) -> None:
    data = open_data("camvid", camvid, "train")
    augment = Augmentation([*default_recipe(200, 300), {"name": "elastic"}, {"name": "affine"}], data.ignore_index)
    for index in (0, 200):
        image, mask = augment(data[index].image, data[index].mask)
        assert image.shape == (200, 300, 3) and set(np.unique(mask)) <= set(range(12))
