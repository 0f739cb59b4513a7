"""Logit adjustment: the effect on probabilities, any decoder, and errors."""

import math

import pytest
import torch

import segzoo
from segzoo.errors import OptionError
from segzoo.models.decoders import DECODERS
from segzoo.training.logit_adjustment import adjust_logits, adjusted_logits


def test_the_adjusted_model_predicts_the_probabilities_of_the_data() -> None:
    model = segzoo.create("unet", "test_resnet", num_classes=3, upsample="bilinear").eval()
    weights = (0.5, 1.0, 4.0)
    image = torch.randn(1, 3, 33, 40)
    with torch.inference_mode():
        weighted = model(image).softmax(1)
        adjust_logits(model, weights)
        adjusted = model(image).softmax(1)
    expected = weighted / torch.tensor(weights).view(1, 3, 1, 1)
    torch.testing.assert_close(adjusted, expected / expected.sum(1, keepdim=True))


@pytest.mark.parametrize("decoder", DECODERS)
def test_any_decoder_can_be_adjusted(decoder: str) -> None:
    options = {"fc_head": (3, 8)} if decoder == "deconvnet" else {}
    model = segzoo.create(decoder, "test_resnet", num_classes=3, **options).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        before = model(image)
        adjust_logits(model, (0.5, 1.0, 4.0), 0.5)
        change = before - model(image)
    expected = torch.tensor((0.5, 1.0, 4.0)).log().view(1, 3, 1, 1) / 2
    torch.testing.assert_close(change, expected.expand_as(change))


def test_a_class_of_weight_0_is_not_adjusted() -> None:
    model = segzoo.create("unet", "test_resnet", num_classes=3)
    adjust_logits(model, (0.0, 1.0, 2.0))
    torch.testing.assert_close(model.decoder.head.bias, torch.tensor((0.0, 0.0, -math.log(2))))


def test_a_temporary_adjustment_is_undone_exactly() -> None:
    model = segzoo.create("unet", "test_resnet", num_classes=3)
    torch.nn.init.normal_(model.decoder.head.bias)
    before = model.decoder.head.bias.detach().clone()
    with pytest.raises(KeyError), adjusted_logits(model, (0.1, 1.0, 3.0), 0.7):
        assert not torch.equal(model.decoder.head.bias, before)
        raise KeyError
    assert torch.equal(model.decoder.head.bias, before)


@pytest.mark.parametrize(
    ("weights", "strength"),
    [((1.0, 1.0), 1.0), ((-0.1, 1.0, 1.0), 1.0), ((math.nan, 1.0, 1.0), 1.0), ((1.0, 1.0, 1.0), 1.1)],
)
def test_invalid_weights_are_errors(weights: tuple[float, ...], strength: float) -> None:
    with pytest.raises(OptionError, match="3 weights of 0 or more, and a strength of 0-1"):
        adjust_logits(segzoo.create("unet", "test_resnet", num_classes=3), weights, strength)


def test_a_papers_network_is_rejected() -> None:
    with pytest.raises(OptionError, match="a paper's network has no single bias"):
        adjust_logits(segzoo.create("paper/segnet_basic", num_classes=3), (1.0, 1.0, 1.0))
