"""Class statistics and class weights, compared with the papers' formulas on all pixels together."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets import open_data
from segzoo.data.statistics import ClassStatistics, count_classes
from segzoo.errors import OptionError

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
