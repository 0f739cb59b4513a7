"""Properties that every paper network has."""

from pathlib import Path

import numpy as np
import pytest
import torch

import segzoo
from segzoo.errors import OptionError, PairingError, UnknownNameError
from segzoo.models.base import evaluating
from segzoo.models.papers import PAPERS
from segzoo.models.parameters import count_parameters

COUNTS = {
    "paper/fcn32s": 136_152_917,
    "paper/fcn16s": 134_815_994,
    "paper/fcn8s": 134_489_759,
    "paper/fcn8s_atonce": 134_489_759,
    "paper/deconvnet": 251_805_653,
    "paper/deeplab_largefov": 20_505_429,
    "paper/unet": 31_030_658,
    "paper/unet_caffe": 31_100_354,
    "paper/segnet": 29_449_355,
    "paper/segnet_basic": 1_416_587,
    "paper/bayesian_segnet": 29_449_355,
    "paper/bayesian_segnet_basic": 1_416_587,
    "paper/xception_unet": 2_055_203,
    "paper/conv_deconv": 513_600 + 384 + 321,
}
"""Published numbers of parameters, at the published number of classes."""


def test_every_network_has_a_count() -> None:
    assert COUNTS.keys() == PAPERS.keys()


@pytest.mark.parametrize("name", PAPERS)
def test_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        assert count_parameters(segzoo.create(name)) == COUNTS[name]


@pytest.mark.parametrize("name", PAPERS)
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (60, 48)])
def test_logits_have_the_size_of_any_image(name: str, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = segzoo.create(name, num_classes=5)
        with evaluating(model):
            logits = model(torch.zeros(1, PAPERS[name].default_in_channels, *size))
    assert logits.shape == (1, 5, *size)


@pytest.mark.parametrize("name", PAPERS)
def test_normalization_is_that_of_the_authors(name: str) -> None:
    """Pixels of 0-255 in the authors' channel order, their mean subtracted, divided by their scale."""
    with torch.device("meta"):
        model = segzoo.create(name)
    paper = PAPERS[name]
    pixels = torch.arange(2 * 3 * paper.default_in_channels, dtype=torch.uint8).view(1, 2, 3, paper.default_in_channels)
    expected = (pixels.float() - torch.tensor(paper.pixel_mean[: paper.default_in_channels])) / paper.pixel_scale
    if model.spec.channel_order == "BGR":
        expected = expected.flip(-1)
    torch.testing.assert_close(model.normalize(pixels), expected.permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_network_takes_no_encoder(name: str) -> None:
    with pytest.raises(PairingError, match="takes no encoder and no output_stride"):
        segzoo.create(name, "resnet18", output_stride=8)
    with pytest.raises(OptionError, match="in_channels must be 1 or more"):
        segzoo.create(name, in_channels=0)
    with pytest.raises(UnknownNameError, match="frobnicate"):
        segzoo.create(name, frobnicate=1)


def test_a_misspelled_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="paper/segnet_basic"):
        segzoo.create("paper/segnet_basics")


def test_a_saved_network_can_be_loaded(tmp_path: Path) -> None:
    model = segzoo.create("paper/segnet_basic", num_classes=3)
    loaded = segzoo.load(segzoo.save(model, tmp_path / "m"))
    image = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    assert loaded.spec.channel_order == "BGR"
    np.testing.assert_array_equal(loaded.predict(image), model.predict(image))
