"""Small data sets: random ids, and shapes that can be learned, with a recipe that takes seconds."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_data import random_data

from segzoo.data.dataset import SegmentationData
from segzoo.training.recipe import Recipe

CLASSES = '{"names": ["ground", "ball", "box"], "ignore_index": 255}'


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder data set, train and val: bright balls and dark boxes on gray, 48 x 40, partly unlabeled."""
    root = tmp_path_factory.mktemp("shapes")
    (root / "classes.json").write_text(CLASSES)
    noise = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :48]
    for split, count in (("train", 8), ("val", 5)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((40, 48), np.uint8)
            y, x = noise.integers(10, 30), noise.integers(12, 36)
            mask[(rows - y) ** 2 + (columns - x) ** 2 < 60] = 1
            y, x = noise.integers(0, 28), noise.integers(0, 34)
            mask[y : y + 12, x : x + 12] = 2
            pixels = np.choose(mask, [128, 220, 30])[..., None] + noise.integers(-20, 20, (40, 48, 3))
            # Some images have far fewer labeled pixels than others.
            mask[: 4 * number] = 255
            Image.fromarray(pixels.astype(np.uint8)).save(root / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")
    return root


@pytest.fixture
def small(shapes: Path) -> Callable[..., Recipe]:
    """A recipe for `shapes`; tables are updated by keyword: small(run={"epochs": 1})."""

    def recipe(**parts: dict[str, Any] | None) -> Recipe:
        record: dict[str, Any] = {
            "model": {"decoder": "unet", "encoder": "test_resnet"},
            "data": {"name": "folder", "root": str(shapes), "split": "train"},
            "validation": {"split": "val"},
            "augmentation": [{"name": "flip"}, {"name": "crop", "height": 32, "width": 32, "scale": [0.8, 1.2]}],
            "optimizer": {"lr": 0.003},
            "run": {"epochs": 2, "batch_size": 4},
            "hardware": {"accelerator": "cpu", "workers": 0, "threads": 1},
        }
        for name, values in parts.items():
            record[name] = {**(record.get(name) or {}), **values} if isinstance(values, dict) else values
        return Recipe.from_dict(record)

    return recipe


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., SegmentationData]:
    """`random_data` in a temporary folder."""
    return functools.partial(random_data, tmp_path)
