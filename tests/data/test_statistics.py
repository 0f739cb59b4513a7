"""Class statistics and class weights, compared with the papers' formulas on all pixels together."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.classes import ClassSet
from segzoo.data.dataset import Item, SegmentationData
from segzoo.data.datasets import open_data
from segzoo.data.masks import RemappedIds
from segzoo.data.statistics import ClassStatistics, count_classes
from segzoo.errors import DataError, OptionError
from segzoo.training.build import check_datasets
from segzoo.training.evaluate import evaluate

Make = Callable[..., SegmentationData]


def test_classes_are_counted(make_data: Make) -> None:
    data = make_data()
    progress: list[tuple[int, int]] = []
    statistics = count_classes(data, lambda done, total: progress.append((done, total)))
    masks = [sample.mask for sample in data]
    assert statistics.pixels == tuple(sum((mask == i).sum() for mask in masks) for i in range(5))
    assert statistics.image_pixels == tuple(sum(mask.size for mask in masks if (mask == i).any()) for i in range(5))
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_no_image_is_read(make_data: Make) -> None:
    data = make_data()
    for item in data.items:
        item.image.unlink()
    assert sum(count_classes(data).pixels) > 0


def test_median_frequency_balancing_matches_the_paper() -> None:
    statistics = ClassStatistics((600, 300, 10, 0), (1000, 1000, 100, 0))
    assert statistics.median_frequency == pytest.approx([0.3 / 0.6, 1.0, 0.3 / 0.1, 0.0])


def test_the_enet_weights_match_the_paper() -> None:
    statistics = ClassStatistics((75, 25, 0), (100, 100, 0))
    assert statistics.enet == pytest.approx(1 / np.log(1.02 + np.array([0.75, 0.25, 0])))


def test_data_without_labeled_pixels_has_weights_of_0() -> None:
    assert ClassStatistics((0, 0), (0, 0)).median_frequency == [0, 0]


def test_statistics_round_trip_through_json() -> None:
    statistics = ClassStatistics((3, 4), (5, 6))
    assert ClassStatistics.from_dict(json.loads(json.dumps(statistics.to_dict()))) == statistics
    for record in ({"pixels": [1]}, {"pixels": [1], "image_pixels": [1, 2]}, {"pixels": ["x"], "image_pixels": [1]}):
        with pytest.raises(OptionError, match="class statistics"):
            ClassStatistics.from_dict(record)


def test_in_camvid_road_is_common_and_poles_are_rare(camvid: Path) -> None:
    data = open_data("camvid", camvid)
    weights = dict(zip(data.classes.names, count_classes(data[::20]).median_frequency, strict=True))
    assert weights["Road"] < weights["Building"] < 1 < weights["Pole"]


def named(*names: str, ignore_index: int | None = None) -> ClassSet:
    return ClassSet(names, ClassSet.generic(len(names)).palette, ignore_index)


def binary_masks(folder: Path, ids: list[int], classes: ClassSet) -> SegmentationData:
    """Two images with masks whose columns have these ids."""
    items = []
    for name in ("one", "two"):
        image, mask = folder / f"{name}.jpg", folder / f"{name}.png"
        Image.new("RGB", (4 * len(ids), 6)).save(image)
        Image.fromarray(np.tile(np.repeat(np.array(ids, np.uint8), 4), (6, 1))).save(mask)
        items.append(Item(name, image, mask))
    return SegmentationData(items, classes, "cells")


def test_masks_of_0_and_255_are_reported_with_a_hint(tmp_path: Path) -> None:
    """Every pixel that counts is background: whatever is predicted is right."""
    data = binary_masks(tmp_path, [0, 255], named("ground", "cell", ignore_index=255))
    with pytest.warns(UserWarning, match=r"cells has no pixel of cell.* only 0 and 255, and 255 is ignored") as caught:
        assert count_classes(data).pixels == (48, 0)
    assert "RemappedIds({0: 0, 255: ID})" in str(caught[0].message)
    with pytest.warns(UserWarning, match="cells has no pixel of cell.* only 0 and 255"):
        evaluation = evaluate(Constant(data.classes), data)
    assert evaluation.matrix.mean_iou == 1  # over the only class that can be measured, which the warning says
    with pytest.warns(UserWarning, match="cells has no pixel of cell"):
        check_datasets(data, None, batch_size=2)


class Constant:
    """Predicts class 0 everywhere."""

    def __init__(self, classes: ClassSet) -> None:
        self.classes = classes

    def predict(self, image: np.ndarray) -> np.ndarray:
        return np.zeros(image.shape[:2], np.uint8)


def test_255_that_is_not_ignored_is_an_error_that_says_how_to_map_it(tmp_path: Path) -> None:
    data = binary_masks(tmp_path, [0, 255], named("ground", "cell"))
    with pytest.raises(DataError, match=r"has the id 255 .*RemappedIds"):
        count_classes(data)
    mapped = SegmentationData(data.items, data.classes, mask_reader=RemappedIds({0: 0, 255: 1}))
    assert count_classes(mapped).pixels == (48, 48)


def test_a_class_without_a_pixel_is_reported_and_others_are_not(tmp_path: Path) -> None:
    classes = named("ground", "cell", "wall", ignore_index=255)
    with pytest.warns(UserWarning, match=r"cells has no pixel of wall: such a class is not learned") as caught:
        count_classes(binary_masks(tmp_path, [0, 1, 255], classes))
    assert "RemappedIds" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count_classes(binary_masks(tmp_path, [0, 1, 2], classes))


def test_masks_without_any_label_are_reported(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="cells has no labeled pixel"):
        count_classes(binary_masks(tmp_path, [255], named("ground", "cell", ignore_index=255)))


def test_a_sample_of_the_masks_can_be_counted(make_data: Make) -> None:
    data = make_data()
    statistics = count_classes(data, most=2)
    assert statistics == count_classes(data.take([0, 2]))
