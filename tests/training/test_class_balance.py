"""Class statistics and the weights that follow, against the papers' formulas worked out on the joined pixels."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import segzoo
from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets import open_data
from segzoo.errors import OptionError
from segzoo.models.decoders import DECODERS
from segzoo.training.class_balance import ClassStatistics, count_classes, unweigh, unweighed

Make = Callable[..., SegmentationData]


def test_classes_are_counted(make_data: Make) -> None:
    data = make_data()
    seen: list[tuple[int, int]] = []
    counted = count_classes(data, lambda done, total: seen.append((done, total)))
    masks = [sample.mask for sample in data]
    assert counted.pixels == tuple(sum((mask == i).sum() for mask in masks) for i in range(5))
    assert counted.around == tuple(sum(mask.size for mask in masks if (mask == i).any()) for i in range(5))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_no_image_is_read(make_data: Make) -> None:
    data = make_data()
    for item in data.items:
        item.image.unlink()
    assert sum(count_classes(data).pixels) > 0


def test_median_frequency_balancing_is_the_papers() -> None:
    counted = ClassStatistics((600, 300, 10, 0), (1000, 1000, 100, 0))
    assert counted.median_frequency == pytest.approx([0.3 / 0.6, 1.0, 0.3 / 0.1, 0.0])


def test_enets_weights_are_the_papers() -> None:
    counted = ClassStatistics((75, 25, 0), (100, 100, 0))
    assert counted.enet == pytest.approx(1 / np.log(1.02 + np.array([0.75, 0.25, 0])))


def test_data_of_ignored_pixels_has_weights_too() -> None:
    assert ClassStatistics((0, 0), (0, 0)).median_frequency == [0, 0]


def test_json_brings_it_back() -> None:
    counted = ClassStatistics((3, 4), (5, 6))
    assert ClassStatistics.from_dict(json.loads(json.dumps(counted.to_dict()))) == counted
    for record in ({"pixels": [1]}, {"pixels": [1], "around": [1, 2]}, {"pixels": ["x"], "around": [1]}):
        with pytest.raises(OptionError, match="class statistics"):
            ClassStatistics.from_dict(record)


def test_camvids_road_is_common_and_its_poles_are_rare(camvid: Path) -> None:
    data = open_data("camvid", camvid)
    weights = dict(zip(data.labels.names, count_classes(data[::20]).median_frequency, strict=True))
    assert weights["Road"] < weights["Building"] < 1 < weights["Pole"]


def test_weights_taken_back_leave_the_probabilities_of_the_data() -> None:
    model = segzoo.create("unet", "test_resnet", num_classes=3, upsample="bilinear").eval()
    weights = (0.5, 1.0, 4.0)
    image = torch.randn(1, 3, 33, 40)
    with torch.inference_mode():
        weighted = model(image).softmax(1)
        unweigh(model, weights)
        unweighted = model(image).softmax(1)
    expected = weighted / torch.tensor(weights).view(1, 3, 1, 1)
    torch.testing.assert_close(unweighted, expected / expected.sum(1, keepdim=True))


@pytest.mark.parametrize("decoder", DECODERS)
def test_any_decoder_gives_weights_back(decoder: str) -> None:
    options = {"hidden": (3, 8)} if decoder == "deconvnet" else {}
    model = segzoo.create(decoder, "test_resnet", num_classes=3, **options).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        before = model(image)
        unweigh(model, (0.5, 1.0, 4.0), 0.5)
        taken = before - model(image)
    expected = torch.tensor((0.5, 1.0, 4.0)).log().view(1, 3, 1, 1) / 2
    torch.testing.assert_close(taken, expected.expand_as(taken))


def test_a_class_that_did_not_occur_stays_as_it_is() -> None:
    model = segzoo.create("unet", "test_resnet", num_classes=3)
    unweigh(model, (0.0, 1.0, 2.0))
    torch.testing.assert_close(model.decoder.score.bias, torch.tensor((0.0, 0.0, -math.log(2))))


def test_what_is_unweighed_for_a_while_is_the_same_after() -> None:
    model = segzoo.create("unet", "test_resnet", num_classes=3)
    torch.nn.init.normal_(model.decoder.score.bias)
    before = model.decoder.score.bias.detach().clone()
    with pytest.raises(KeyError), unweighed(model, (0.1, 1.0, 3.0), 0.7):
        assert not torch.equal(model.decoder.score.bias, before)
        raise KeyError
    assert torch.equal(model.decoder.score.bias, before)


@pytest.mark.parametrize(
    ("weights", "part"),
    [((1.0, 1.0), 1.0), ((-0.1, 1.0, 1.0), 1.0), ((math.nan, 1.0, 1.0), 1.0), ((1.0, 1.0, 1.0), 1.1)],
)
def test_weights_that_cannot_be_taken_back(weights: tuple[float, ...], part: float) -> None:
    with pytest.raises(OptionError, match="3 weights from 0 up and a part of 0-1"):
        unweigh(segzoo.create("unet", "test_resnet", num_classes=3), weights, part)


def test_a_papers_network_is_refused() -> None:
    with pytest.raises(OptionError, match="a paper's own network has no one last bias"):
        unweigh(segzoo.create("paper/segnet_basic", num_classes=3), (1.0, 1.0, 1.0))
