"""Small data, made by the tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from small_data import random_ids, write_image, write_mask

from segzoo.labels import LabelSet
from segzoo.training.data import Item, SegmentationData


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
