"""Small data, made by the tests: of random ids, and of shapes that can be learnt, with a recipe that takes seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_data import random_ids, write_image, write_mask

from segzoo.classes import LabelSet
from segzoo.data.dataset import Item, SegmentationData
from segzoo.training.recipe import Recipe

LABELS = '{"names": ["ground", "ball", "box"], "ignored": 255}'


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder data set, train and val: bright balls and dark boxes on gray, 48 x 40, a strip of them unlabelled."""
    root = tmp_path_factory.mktemp("shapes")
    (root / "labels.json").write_text(LABELS)
    noise = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :48]
    for split, count in (("train", 8), ("val", 5)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((40, 48), np.uint8)
            y, x = noise.integers(10, 30), noise.integers(12, 36)
            mask[(rows - y) ** 2 + (columns - x) ** 2 < 60] = 1
            y, x = noise.integers(0, 28), noise.integers(0, 34)
            mask[y : y + 12, x : x + 12] = 2
            pixels = np.choose(mask, [128, 220, 30])[..., None] + noise.integers(-20, 20, (40, 48, 3))
            # Some images have far fewer labelled pixels than others.
            mask[: 4 * number] = 255
            Image.fromarray(pixels.astype(np.uint8)).save(root / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")
    return root


@pytest.fixture
def small(shapes: Path) -> Callable[..., Recipe]:
    """A recipe on those shapes; named parts are replaced: small(run={"epochs": 1})."""

    def recipe(**parts: dict[str, Any] | None) -> Recipe:
        record: dict[str, Any] = {
            "model": {"decoder": "unet", "encoder": "test_resnet"},
            "data": {"name": "folder", "root": str(shapes), "split": "train"},
            "validation": {"split": "val"},
            "augmentation": [{"name": "flip"}, {"name": "crop", "height": 32, "width": 32, "scale": [0.8, 1.2]}],
            "optimiser": {"lr": 0.003},
            "run": {"epochs": 2, "batch": 4},
            "hardware": {"accelerator": "cpu", "workers": 0, "threads": 1},
        }
        for name, values in parts.items():
            record[name] = {**(record.get(name) or {}), **values} if isinstance(values, dict) else values
        return Recipe.from_dict(record)

    return recipe


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., SegmentationData]:
    """Makes data of some images with random masks of 5 classes, 255 ignored."""

    def make(count: int = 4, size: tuple[int, int] = (12, 16)) -> SegmentationData:
        items = []
        for index in range(count):
            item = Item(f"{'ab'[index % 2]}_{index}", tmp_path / f"{index}.png", tmp_path / f"{index}-mask.png")
            write_image(item.image, index, size)
            write_mask(item.mask, random_ids(5, index, size, ignored=255))
            items.append(item)
        return SegmentationData(items, LabelSet(tuple("abcde"), LabelSet.generic(5).colours, 255), "small data")

    return make
