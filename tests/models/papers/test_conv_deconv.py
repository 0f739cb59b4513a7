"""The tied network: one tensor both ways, and its arithmetic written out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import segzoo
from segzoo.errors import OptionError
from segzoo.models.base import SegmentationModel
from segzoo.models.layers.tied import SameConvolution, Transpose
from segzoo.models.papers.conv_deconv import standardised

FIVE = "C5,64,2C5,64,1M2C5,64,2C5,64,1M2C5,64,2C5,64,1M2"
SMALL = "C5,6,2C3,8,1M2C3,8,2M2"


def pairs(model: SegmentationModel) -> list[tuple[SameConvolution, Transpose]]:
    """Each convolution with its transpose."""
    down = [layer for layer in model.encoder if isinstance(layer, SameConvolution)]
    up = [layer for layer in model.decoder if isinstance(layer, Transpose)]
    return list(zip(down, reversed(up), strict=True))


def weights(model: SegmentationModel) -> int:
    return sum(p.numel() for p in model.parameters() if p.ndim == 4)


@pytest.mark.parametrize(
    ("spec", "tied", "untied"),
    [(FIVE, 513_600, 1_027_200), (FIVE.replace("C5", "C7"), 1_006_656, 2_013_312)],
)
def test_weights_as_counted_in_the_original(spec: str, tied: int, untied: int) -> None:
    with torch.device("meta"):
        assert weights(segzoo.create("paper/conv_deconv", spec=spec, skips=True, tied=True)) == tied
        assert weights(segzoo.create("paper/conv_deconv", spec=spec, tied=False)) == untied


def test_a_convolution_and_its_transpose_are_one_tensor() -> None:
    model = segzoo.create("paper/conv_deconv")
    assert len(pairs(model)) == 6
    assert all(down.weight is up.weight for down, up in pairs(model))
    assert not any(down.weight is up.weight for down, up in pairs(segzoo.create("paper/conv_deconv", tied=False)))


def test_they_are_one_after_saving_and_loading(tmp_path: Path) -> None:
    model = segzoo.create("paper/conv_deconv", spec=SMALL)
    again = segzoo.load(segzoo.save(model, tmp_path / "m"))
    assert all(down.weight is up.weight for down, up in pairs(again))
    image = np.random.default_rng(0).integers(0, 256, (20, 31), dtype=np.uint8)
    np.testing.assert_array_equal(again.predict(image), model.predict(image))


def test_both_ways_learn() -> None:
    """The one gradient is the sum of two."""
    torch.manual_seed(0)
    model = segzoo.create("paper/conv_deconv", spec="C3,4,2")
    ((down, up),) = pairs(model)
    model(torch.rand(1, 1, 8, 8))[:, 1].square().mean().backward()
    assert down.weight.grad is up.weight.grad and down.weight.grad.abs().min() > 0


def test_other_classes_have_a_last_layer_of_their_own() -> None:
    model = segzoo.create("paper/conv_deconv", num_classes=5)
    (first, last), *others = pairs(model)
    assert last.weight.shape == (64, 4, 5, 5) and last.weight is not first.weight
    assert all(down.weight is up.weight for down, up in others)


def same(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    pads = []
    for size in (x.shape[-1], x.shape[-2]):
        whole = max((-(-size // stride) - 1) * stride + weight.shape[-1] - size, 0)
        pads += [whole // 2, whole - whole // 2]
    return F.leaky_relu(F.conv2d(F.pad(x, pads), weight, bias, stride), 0.2)


def back(x: Tensor, weight: Tensor, bias: Tensor, stride: int, like: Tensor) -> Tensor:
    """What autograd makes of the convolution that gave x from `like`: TensorFlow's own definition."""
    wide = torch.zeros(1, weight.shape[1], *like.shape[-2:], requires_grad=True)
    with torch.enable_grad():
        whole = weight.shape[-1] - stride
        pads = [whole // 2, whole - whole // 2] * 2
        (gradient,) = torch.autograd.grad(F.conv2d(F.pad(wide, pads), weight, None, stride), wide, x)
    return F.leaky_relu(gradient + bias[:, None, None], 0.2)


@pytest.mark.parametrize("skips", [True, False])
@torch.no_grad()
def test_it_is_the_original(skips: bool) -> None:
    torch.manual_seed(0)
    model = segzoo.create("paper/conv_deconv", spec=SMALL, skips=skips).eval()
    for bias in (p for p in model.parameters() if p.ndim == 1):
        bias.normal_(std=0.3)
    image = torch.rand(1, 1, 48, 32)
    (w1, b1, c1), (w2, b2, c2), (w3, b3, c3) = ((d.weight, d.bias, u.bias) for d, u in pairs(model))
    x0 = (image - image.mean()) / image.std(correction=0)
    x1 = same(x0, w1, b1, 2)
    x2 = same(x1, w2, b2, 1)
    m1 = F.max_pool2d(x2, 2)
    x3 = same(m1, w3, b3, 2)
    y = F.max_pool2d(x3, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    y = back(y, w3, c3, 2, m1)
    y = (y + m1 if skips else y).repeat_interleave(2, -1).repeat_interleave(2, -2)
    y = back(back(y, w2, c2, 1, x1), w1, c1, 2, x0)
    logits = model(image)
    torch.testing.assert_close(logits[:, 1:], y, rtol=1e-5, atol=1e-5)
    assert not logits[:, 0].any()
    torch.testing.assert_close(logits.softmax(1)[:, 1:], y.sigmoid(), rtol=1e-5, atol=1e-5)


def test_standardised_as_tensorflow_does() -> None:
    image = torch.rand(3, 2, 5, 7)
    image[1] = 0.25
    image[2] = 0.0
    image[2, 0, 0, 0] = 1e-4  # its deviation is below 1 / sqrt(70)
    for one, found in zip(image.double().numpy(), standardised(image), strict=True):
        expected = (one - one.mean()) / max(one.std(), 1 / np.sqrt(70))
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_brightness_and_contrast_are_nothing_to_it() -> None:
    model = segzoo.create("paper/conv_deconv", spec=SMALL).eval()
    image = torch.rand(1, 1, 30, 20)
    with torch.inference_mode():
        torch.testing.assert_close(model(0.3 * image + 0.2), model(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spec", ["C3,4,1", "M2C3,4,2C3,4,1", "C2,4,4M3", "C4,8,2"])
@pytest.mark.parametrize("classes", [2, 4])
def test_any_string_takes_any_size(spec: str, classes: int) -> None:
    with torch.device("meta"):
        model = segzoo.create("paper/conv_deconv", num_classes=classes, in_channels=3, spec=spec)
        assert model(torch.zeros(2, 3, 13, 22)).shape == (2, classes, 13, 22)


def test_a_mistake_in_the_string_is_pointed_at() -> None:
    with pytest.raises(OptionError, match=r"at character 3: .*\n    C5;64,2\n      \^"):
        segzoo.create("paper/conv_deconv", spec="C5;64,2")
