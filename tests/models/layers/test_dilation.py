"""dilate equals timm's dilation, where timm has one, and keeps the plain network's values on the old grid."""

import pytest
import timm
import torch
from torch import nn

from segzoo.errors import PairingError
from segzoo.models.encoders import create_encoder
from segzoo.models.layers.dilation import DilatedMaxPool, dilate, dry_run


def network(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, features_only=True, **options).eval()


@torch.inference_mode()
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv2_100"])
def test_bit_identical_to_timms_dilation(name: str, output_stride: int) -> None:
    theirs = network(name, output_stride=output_stride)
    ours = network(name)
    dilate(ours, 3, output_stride)
    image = torch.randn(2, 3, 65, 97)
    for a, b in zip(ours(image), theirs(image), strict=True):
        assert torch.equal(a, b)


@torch.inference_mode()
@pytest.mark.parametrize(
    "name",
    [
        "vgg16",
        "vgg16_bn",
        "xception",
        "xception41",
        "dpn68",
        "regnetx_002",
        "vovnet39a",
        "resnet101",
        "mobilenet",
        "unet",
    ],
)
def test_the_values_on_the_old_grid_stay(name: str) -> None:
    output_stride = 8
    plain = create_encoder(name).eval()
    dilated = create_encoder(name, output_stride=output_stride).eval()
    dilated.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 96)
    for a, b, old, new in zip(
        dilated(image), plain(image), plain.features.strides, dilated.features.strides, strict=True
    ):
        assert new == min(old, output_stride)
        step = old // new
        torch.testing.assert_close(a[..., ::step, ::step], b, atol=1e-5 * b.abs().max().item(), rtol=0)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("convnext_atto", "stages_2.downsample.1"), ("pvt_v2_b0", "attn.sr"), ("resnet18d", "layer3.0.downsample.0")],
)
def test_a_layer_that_cannot_be_dilated_is_named_and_nothing_changes(name: str, layer: str) -> None:
    net = network(name)
    image = torch.randn(1, 3, 64, 64)
    before = net(image)
    with pytest.raises(PairingError, match=layer):
        dilate(net, 3, 8)
    for a, b in zip(net(image), before, strict=True):
        assert torch.equal(a, b)


def test_a_dilated_pool_takes_the_maximum_of_distant_values() -> None:
    pool = DilatedMaxPool(nn.MaxPool2d(2, 2), dilation=2)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert pool(x)[0, 0].tolist() == [[10, 11, 10, 11], [14, 15, 14, 15], [10, 11, 10, 11], [14, 15, 14, 15]]
    assert pool(-x)[0, 0].tolist() == (-x)[0, 0].tolist()  # the padding is never the maximum


def test_a_dry_run_leaves_the_network_unchanged() -> None:
    net = network("resnet18").train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    shapes = [tuple(m.shape) for m in dry_run(net, 3, 64)]
    assert shapes == [(1, 64, 32, 32), (1, 64, 16, 16), (1, 128, 8, 8), (1, 256, 4, 4), (1, 512, 2, 2)]
    assert net.training and all(m.training for m in net.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
