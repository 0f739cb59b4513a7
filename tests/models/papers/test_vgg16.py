"""Paper networks on VGG16 with ImageNet weights."""

from pathlib import Path

import pytest
import timm
import torch

import segzoo
from segzoo.errors import OptionError, PairingError
from segzoo.models.encoders import create_encoder
from segzoo.models.papers import PAPERS
from segzoo.models.papers.vgg16 import VGG16Classifier

NAMES = [name for name, paper in PAPERS.items() if issubclass(paper, VGG16Classifier)]


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """VGG16's convolutions, with random weights, as a file in timm's names."""
    torch.save(timm.create_model("vgg16", features_only=True).state_dict(), tmp_path / "vgg16.pth")
    return tmp_path / "vgg16.pth"


def test_normalization_becomes_that_of_the_imagenet_weights(features: Path) -> None:
    with pytest.warns(UserWarning, match="fc6 and fc7 of the DeepLabLargeFOV start at random: .* holds no classifier"):
        model = segzoo.create("paper/deeplab_largefov", encoder_weights=features)
    encoder = create_encoder("vgg16", weights=str(features))
    pixels = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in (encoder.mean, encoder.std))
    with torch.inference_mode():
        expected = encoder((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)[0]
        torch.testing.assert_close(model.stage(1, model.normalize(pixels)), expected, rtol=1e-5, atol=1e-5)
    assert (model.spec.channel_order, model.spec.mean) == ("BGR", encoder.mean)
    assert torch.equal(model.mean, mean.flatten())
    deepest = [key for key in encoder.state_dict() if key.endswith("features_28.weight")]
    assert torch.equal(model.get_parameter("conv5_3.weight"), encoder.state_dict()[deepest[0]])


@pytest.mark.parametrize("name", ["paper/segnet", "paper/bayesian_segnet"])
def test_segnet_needs_no_fc6_and_fc7(name: str, features: Path) -> None:
    model = segzoo.create(name, encoder_weights=features)
    encoder = create_encoder("vgg16", weights=str(features)).state_dict()
    (deepest,) = (value for key, value in encoder.items() if key.endswith("features_28.weight"))
    assert torch.equal(model.get_parameter("conv5_3.weight"), deepest)


@pytest.mark.parametrize("name", NAMES)
def test_imagenets_classifier_fits_fc6_and_fc7(name: str) -> None:
    with torch.device("meta"):
        model = segzoo.create(name)
        classifier = (
            (torch.empty(4096, 512, 7, 7), torch.empty(4096)),
            (torch.empty(4096, 4096, 1, 1), torch.empty(4096)),
        )
        subsampled = model.subsample_fc6_fc7(classifier)
    for layer, (weight, bias) in zip((model.fc6, model.fc7), subsampled, strict=True):
        assert (layer.weight.shape, layer.bias.shape) == (weight.shape, bias.shape)


def test_deeplab_keeps_every_fourth_channel_and_every_third_row() -> None:
    with torch.device("meta"):
        model = segzoo.create("paper/deeplab_largefov")
    numbers = torch.arange(8 * 7 * 7).view(8, 1, 7, 7)
    (fc6, bias6), (fc7, _) = model.subsample_fc6_fc7(
        ((numbers, torch.arange(8)), (torch.arange(64).view(8, 8, 1, 1),) * 2)
    )
    assert fc6[1, 0].tolist() == [[49 * 4 + 7 * row + column for column in (0, 3, 6)] for row in (0, 3, 6)]
    assert (bias6.tolist(), fc7.flatten().tolist()) == ([0, 4], [0, 4, 32, 36])


def test_other_networks_take_no_encoder_weights() -> None:
    with pytest.raises(
        PairingError, match="'paper/segnet_basic' takes no encoder_weights: its authors trained it from random weights"
    ):
        segzoo.create("paper/segnet_basic", encoder_weights="imagenet")
    with pytest.raises(OptionError, match="encoder_weights must be None, 'imagenet'"):
        segzoo.create("paper/fcn8s", encoder_weights=1)
