"""conv_deconv: tied weights, parameter counts, and the network compared with a plain reimplementation."""

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
from segzoo.models.papers.conv_deconv import standardized

DEFAULT = "C5,64,2C5,64,1M2C5,64,2C5,64,1M2C5,64,2C5,64,1M2"
SMALL = "C5,6,2C3,8,1M2C3,8,2M2"


def pairs(model: SegmentationModel) -> list[tuple[SameConvolution, Transpose]]:
    """Each convolution with its transpose."""
    down = [layer for layer in model.encoder if isinstance(layer, SameConvolution)]
    up = [layer for layer in model.decoder if isinstance(layer, Transpose)]
    return list(zip(down, reversed(up), strict=True))


def weights(model: SegmentationModel) -> int:
    return sum(p.numel() for p in model.parameters() if p.ndim == 4)


@pytest.mark.parametrize(
    ("architecture", "tied", "untied"),
    [(DEFAULT, 513_600, 1_027_200), (DEFAULT.replace("C5", "C7"), 1_006_656, 2_013_312)],
)
def test_the_number_of_weights_is_that_of_the_original(architecture: str, tied: int, untied: int) -> None:
    with torch.device("meta"):
        assert weights(segzoo.create("paper/conv_deconv", architecture=architecture, skips=True, tied=True)) == tied
        assert weights(segzoo.create("paper/conv_deconv", architecture=architecture, tied=False)) == untied


def test_a_convolution_and_its_transpose_are_one_tensor() -> None:
    model = segzoo.create("paper/conv_deconv")
    assert len(pairs(model)) == 6
    assert all(down.weight is up.weight for down, up in pairs(model))
    assert not any(down.weight is up.weight for down, up in pairs(segzoo.create("paper/conv_deconv", tied=False)))


def test_weights_stay_tied_after_saving_and_loading(tmp_path: Path) -> None:
    model = segzoo.create("paper/conv_deconv", architecture=SMALL)
    loaded = segzoo.load(segzoo.save(model, tmp_path / "m"))
    assert all(down.weight is up.weight for down, up in pairs(loaded))
    image = np.random.default_rng(0).integers(0, 256, (20, 31), dtype=np.uint8)
    np.testing.assert_array_equal(loaded.predict(image), model.predict(image))


def test_a_tied_weight_has_one_gradient() -> None:
    """It is the sum of those of the convolution and of its transpose."""
    torch.manual_seed(0)
    model = segzoo.create("paper/conv_deconv", architecture="C3,4,2")
    ((down, up),) = pairs(model)
    model(torch.rand(1, 1, 8, 8))[:, 1].square().mean().backward()
    assert down.weight.grad is up.weight.grad and down.weight.grad.abs().min() > 0


def test_other_numbers_of_classes_have_an_untied_last_layer() -> None:
    model = segzoo.create("paper/conv_deconv", num_classes=5)
    (first, last), *others = pairs(model)
    assert last.weight.shape == (64, 4, 5, 5) and last.weight is not first.weight
    assert all(down.weight is up.weight for down, up in others)


def same(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    pads = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + weight.shape[-1] - size, 0)
        pads += [total // 2, total - total // 2]
    return F.leaky_relu(F.conv2d(F.pad(x, pads), weight, bias, stride), 0.2)


def transposed(x: Tensor, weight: Tensor, bias: Tensor, stride: int, ref: Tensor) -> Tensor:
    """The gradient of the convolution that computed x from `ref`, which is TensorFlow's definition."""
    source = torch.zeros(1, weight.shape[1], *ref.shape[-2:], requires_grad=True)
    with torch.enable_grad():
        total = weight.shape[-1] - stride
        pads = [total // 2, total - total // 2] * 2
        (gradient,) = torch.autograd.grad(F.conv2d(F.pad(source, pads), weight, None, stride), source, x)
    return F.leaky_relu(gradient + bias[:, None, None], 0.2)


@pytest.mark.parametrize("skips", [True, False])
@torch.no_grad()
def test_it_equals_the_original(skips: bool) -> None:
    torch.manual_seed(0)
    model = segzoo.create("paper/conv_deconv", architecture=SMALL, skips=skips).eval()
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
    y = transposed(y, w3, c3, 2, m1)
    y = (y + m1 if skips else y).repeat_interleave(2, -1).repeat_interleave(2, -2)
    y = transposed(transposed(y, w2, c2, 1, x1), w1, c1, 2, x0)
    logits = model(image)
    torch.testing.assert_close(logits[:, 1:], y, rtol=1e-5, atol=1e-5)
    assert not logits[:, 0].any()
    torch.testing.assert_close(logits.softmax(1)[:, 1:], y.sigmoid(), rtol=1e-5, atol=1e-5)


def test_standardization_is_that_of_tensorflow() -> None:
    image = torch.rand(3, 2, 5, 7)
    image[1] = 0.25
    image[2] = 0.0
    image[2, 0, 0, 0] = 1e-4  # its standard deviation is below 1 / sqrt(70)
    for item, actual in zip(image.double().numpy(), standardized(image), strict=True):
        expected = (item - item.mean()) / max(item.std(), 1 / np.sqrt(70))
        np.testing.assert_allclose(actual.numpy(), expected, atol=1e-5)


def test_brightness_and_contrast_do_not_matter() -> None:
    model = segzoo.create("paper/conv_deconv", architecture=SMALL).eval()
    image = torch.rand(1, 1, 30, 20)
    with torch.inference_mode():
        torch.testing.assert_close(model(0.3 * image + 0.2), model(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["C3,4,1", "M2C3,4,2C3,4,1", "C2,4,4M3", "C4,8,2"])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_any_architecture_takes_any_size(architecture: str, num_classes: int) -> None:
    with torch.device("meta"):
        model = segzoo.create("paper/conv_deconv", num_classes=num_classes, in_channels=3, architecture=architecture)
        assert model(torch.zeros(2, 3, 13, 22)).shape == (2, num_classes, 13, 22)


def test_the_message_points_at_the_error() -> None:
    with pytest.raises(OptionError, match=r"at character 3: .*\n    C5;64,2\n      \^"):
        segzoo.create("paper/conv_deconv", architecture="C5;64,2")
