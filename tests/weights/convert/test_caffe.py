"""The original Caffe networks: each is recognized, and each of its tensors converted under its name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import caffe_networks as networks
import pytest
import torch
from caffe_networks import PUBLISHED_KINDS, narrow, written
from torch import Tensor, nn

from segzoo.errors import CheckpointError
from segzoo.weights.convert.caffe import convert_caffe
from segzoo.weights.convert.caffemodel import CaffeLayer, CaffeNet, read_caffemodel

Version = Literal["v1", "v2"]
VERSIONS: tuple[Version, ...] = ("v1", "v2")

COUNTS = {
    "fcn32s": 136_152_917,
    "fcn16s": 134_815_994,
    "fcn8s": 134_489_759,
    "fcn8s_atonce": 134_489_759 + 512 + 256,  # the scales, which the authors fix
    "segnet": 29_449_355,
    "segnet_basic": 1_416_587,
    "bayesian_segnet_basic": 1_416_587,
    "deconvnet": 251_805_653,
    "deeplab_largefov": 20_505_429,
}
# V1 has no scale layer.
CASES = [(name, version) for name in COUNTS for version in VERSIONS if (name, version) != ("fcn8s_atonce", "v1")]


@pytest.mark.parametrize("network", COUNTS)
def test_published_networks_are_recognized_and_have_the_published_parameter_counts(network: str) -> None:
    net = PUBLISHED_KINDS[network]()
    value = torch.ones(1)  # expanded, so that DeconvNet does not need a gigabyte
    layers = tuple(
        CaffeLayer(name, type_, tuple(value.expand(shape) for shape in shapes)) for name, type_, shapes in net.weights
    )
    weights = convert_caffe(CaffeNet("", layers))
    assert weights.network == network
    assert weights.num_classes == (11 if "segnet" in network else 21)
    assert sum(tensor.numel() for key, tensor in weights.tensors.items() if ".running_" not in key) == COUNTS[network]


@pytest.mark.parametrize(("network", "version"), CASES)
def test_each_tensor_is_the_blob_of_its_layer(network: str, version: Version, tmp_path: Path) -> None:
    net = narrow(network)
    path, arrays = written(net, version, tmp_path)
    tensors = dict(convert_caffe(read_caffemodel(path)).tensors)
    for name, layer_type, shapes in net.weights:
        prefix = networks.clean(name)
        for part, array, shape in zip(("weight", "bias"), arrays[name], shapes, strict=False):
            tensor = tensors.pop(f"{prefix}.{part}")
            is_vector = part == "bias" or layer_type in ("BN", "Scale")
            assert tensor.shape == ((array.size,) if is_vector else shape)
            assert torch.equal(tensor.flatten(), torch.from_numpy(array).flatten())
    norms = [name.replace("-", "_") for name, layer_type, _ in net.weights if layer_type == "BN"]
    assert tensors.keys() == {f"{name}.{part}" for name in norms for part in ("running_mean", "running_var")}


@pytest.mark.parametrize("network", ["segnet", "segnet_basic", "deconvnet"])
def test_batch_normalization_applies_only_scale_and_shift(network: str, tmp_path: Path) -> None:
    net = narrow(network)
    path, arrays = written(net, "v2", tmp_path)
    tensors = convert_caffe(read_caffemodel(path)).tensors
    for name in (name for name, layer_type, _ in net.weights if layer_type == "BN"):
        scale, shift = (torch.from_numpy(array) for array in arrays[name])
        module = nn.BatchNorm2d(scale.numel()).eval()
        prefix = f"{name.replace('-', '_')}."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        x = torch.randn(2, scale.numel(), 3, 5)
        with torch.no_grad():
            torch.testing.assert_close(module(x), x * scale + shift, rtol=1e-6, atol=1e-6)
        assert torch.equal((module.running_var + module.eps).rsqrt(), torch.ones(scale.numel()))


def changed(network: str, change: Callable[[list[CaffeLayer]], object]) -> CaffeNet:
    layers = [
        CaffeLayer(name, type_, tuple(torch.ones(shape) for shape in shapes))
        for name, type_, shapes in narrow(network).weights
    ]
    change(layers)
    return CaffeNet("VGG", tuple(layers))


def with_blobs(name: str, *blobs: Tensor) -> Callable[[list[CaffeLayer]], object]:
    def change(layers: list[CaffeLayer]) -> None:
        index = [layer.name for layer in layers].index(name)
        layers[index] = replace(layers[index], blobs=blobs)

    return change


REJECTED: dict[str, tuple[str, Callable[[list[CaffeLayer]], object], list[str]]] = {
    "truncated": ("fcn8s", lambda layers: layers.pop(), ["fcn8s is the closest", "lacks upscore8"]),
    "an extra layer": (
        "segnet",
        lambda layers: layers.append(CaffeLayer("camvid", "Convolution", (torch.ones(1),))),
        ["segnet is the closest", "also has camvid"],
    ),
    "another network": (
        "fcn8s",
        lambda layers: layers.__setitem__(slice(None), [CaffeLayer("res2a", "Convolution", (torch.ones(1),))]),
        ["This .caffemodel (VGG) is none", "fcn32s", "deeplab_largefov", "res2a"],
    ),
    "no layers": ("fcn8s", lambda layers: layers.clear(), ["Its layers with weights: none"]),
    "a duplicate layer": ("fcn8s", lambda layers: layers.append(replace(layers[0])), ["'conv1_1' and 'conv1_1'"]),
    "two heads": (
        "deeplab_largefov",
        lambda layers: layers.append(replace(layers[-1], name="fc8_coco")),
        ["'fc8_voc12' and 'fc8_coco'"],
    ),
    "grouped upsampling": (
        "fcn32s",
        with_blobs("upscore", torch.ones(4, 1, 64, 64)),
        ["'upscore' has 1 output channels"],
    ),
    "another number of classes": (
        "fcn16s",
        with_blobs("score_pool4", torch.ones(5, 7, 1, 1), torch.ones(5)),
        ["'score_pool4' has 5 output channels", "'score_fr' has 4"],
    ),
    "DeepLab with 4 x 4": (
        "deeplab_largefov",
        with_blobs("fc6", torch.ones(9, 8, 4, 4), torch.ones(9)),
        ["'fc6' are 9 x 8 x 4 x 4", "a 3 x 3 kernel"],
    ),
    "gray": ("fcn32s", with_blobs("conv1_1", torch.ones(4, 1, 3, 3), torch.ones(4)), ["3 input channels"]),
    "no bias": ("fcn32s", with_blobs("fc7", torch.ones(9, 9, 1, 1)), ["'fc7' has 1 blobs; segzoo converts 2"]),
    "a bias too long": (
        "fcn32s",
        with_blobs("fc7", torch.ones(9, 9, 1, 1), torch.ones(8)),
        ["'fc7' has 8 values", "9"],
    ),
    "statistics": ("segnet", with_blobs("conv1_1_bn", *[torch.ones(4)] * 4), ["'conv1_1_bn' has 4 blobs"]),
    "a flat weight": ("fcn32s", with_blobs("fc6", torch.ones(9, 392), torch.ones(9)), ["'fc6' are 9 x 392"]),
}


@pytest.mark.parametrize(("network", "change", "messages"), REJECTED.values(), ids=REJECTED)
def test_differences_are_named(network: str, change: Callable[[list[CaffeLayer]], object], messages: list[str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        convert_caffe(changed(network, change))
    assert all(message in str(caught.value) for message in messages), str(caught.value)
