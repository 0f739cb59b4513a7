"""Small images, masks and data sets, for tests that read data."""

from pathlib import Path

import numpy as np
from PIL import Image

from segzoo.classes import ClassSet
from segzoo.data.dataset import Item, SegmentationData


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    """Writes a random RGB image of size (height, width) and returns its pixels, which a PNG stores losslessly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def write_mask(path: Path, ids: np.ndarray) -> np.ndarray:
    """Writes a gray image of ids, or an RGB image of colors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids.astype(np.uint8)).save(path)
    return ids


def random_ids(
    classes: int, seed: int = 0, size: tuple[int, int] = (12, 16), ignore_index: int | None = None
) -> np.ndarray:
    """Random class ids; with `ignore_index`, about 20 % of the pixels are ignored."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, classes, size)
    return ids if ignore_index is None else np.where(rng.random(size) < 0.2, ignore_index, ids)


def random_data(root: Path, count: int = 4, size: tuple[int, int] = (12, 16)) -> SegmentationData:
    """Images with random masks of 5 classes and 255 ignored, named a_0, b_1, a_2, ..."""
    items = []
    for index in range(count):
        item = Item(f"{'ab'[index % 2]}_{index}", root / f"{index}.png", root / f"{index}-mask.png")
        write_image(item.image, index, size)
        write_mask(item.mask, random_ids(5, index, size, ignore_index=255))
        items.append(item)
    return SegmentationData(items, ClassSet(tuple("abcde"), ClassSet.generic(5).palette, 255), "small data")
