"""The original Caffe networks: which one a file holds, and each of its tensors by name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import caffe_files as files
import caffe_networks as networks
import pytest
import torch
from caffe_networks import PUBLISHED_KINDS, narrow, written
from torch import Tensor, nn

from segzoo.errors import CheckpointError
from segzoo.weights.convert.caffe import convert_caffe
from segzoo.weights.convert.caffemodel import CaffeLayer, CaffeNet, read_caffemodel

FORMS: tuple[files.Form, ...] = ("v1", "v2")

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
BOTH = [(kind, form) for kind in COUNTS for form in FORMS if (kind, form) != ("fcn8s_atonce", "v1")]


@pytest.mark.parametrize("kind", COUNTS)
def test_the_published_networks_are_recognised_and_have_their_counts(kind: str) -> None:
    net = PUBLISHED_KINDS[kind]()
    one = torch.ones(1)  # expanded, so that DeconvNet takes no gigabyte
    layers = tuple(CaffeLayer(name, type_, tuple(one.expand(s) for s in shapes)) for name, type_, shapes in net.weights)
    weights = convert_caffe(CaffeNet("", layers))
    assert weights.network == kind
    assert weights.num_classes == (11 if "segnet" in kind else 21)
    assert sum(tensor.numel() for key, tensor in weights.tensors.items() if ".running_" not in key) == COUNTS[kind]


@pytest.mark.parametrize(("kind", "form"), BOTH)
def test_each_tensor_is_the_blob_of_its_layer(kind: str, form: files.Form, tmp_path: Path) -> None:
    net = narrow(kind)
    path, arrays = written(net, form, tmp_path)
    tensors = dict(convert_caffe(read_caffemodel(path)).tensors)
    for name, kind_of_layer, shapes in net.weights:
        ours = networks.clean(name)
        for part, array, shape in zip(("weight", "bias"), arrays[name], shapes, strict=False):
            tensor = tensors.pop(f"{ours}.{part}")
            vector = part == "bias" or kind_of_layer in ("BN", "Scale")
            assert tensor.shape == ((array.size,) if vector else shape)
            assert torch.equal(tensor.flatten(), torch.from_numpy(array).flatten())
    norms = [name.replace("-", "_") for name, kind_of_layer, _ in net.weights if kind_of_layer == "BN"]
    assert tensors.keys() == {f"{name}.{part}" for name in norms for part in ("running_mean", "running_var")}


@pytest.mark.parametrize("kind", ["segnet", "segnet_basic", "deconvnet"])
def test_normalisation_is_exactly_the_scale_and_the_shift(kind: str, tmp_path: Path) -> None:
    net = narrow(kind)
    path, arrays = written(net, "v2", tmp_path)
    tensors = convert_caffe(read_caffemodel(path)).tensors
    for name in (name for name, kind_of_layer, _ in net.weights if kind_of_layer == "BN"):
        scale, shift = (torch.from_numpy(array) for array in arrays[name])
        module = nn.BatchNorm2d(scale.numel()).eval()
        prefix = f"{name.replace('-', '_')}."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        x = torch.randn(2, scale.numel(), 3, 5)
        with torch.no_grad():
            torch.testing.assert_close(module(x), x * scale + shift, rtol=1e-6, atol=1e-6)
        assert torch.equal((module.running_var + module.eps).rsqrt(), torch.ones(scale.numel()))


def changed(kind: str, change: Callable[[list[CaffeLayer]], object]) -> CaffeNet:
    layers = [
        CaffeLayer(name, type_, tuple(torch.ones(shape) for shape in shapes))
        for name, type_, shapes in narrow(kind).weights
    ]
    change(layers)
    return CaffeNet("VGG", tuple(layers))


def swapped(name: str, *blobs: Tensor) -> Callable[[list[CaffeLayer]], object]:
    def change(layers: list[CaffeLayer]) -> None:
        index = [layer.name for layer in layers].index(name)
        layers[index] = replace(layers[index], blobs=blobs)

    return change


REFUSED: dict[str, tuple[str, Callable[[list[CaffeLayer]], object], list[str]]] = {
    "cut off": ("fcn8s", lambda layers: layers.pop(), ["fcn8s comes nearest", "has no upscore8"]),
    "one too many": (
        "segnet",
        lambda layers: layers.append(CaffeLayer("camvid", "Convolution", (torch.ones(1),))),
        ["segnet comes nearest", "has camvid besides"],
    ),
    "another": (
        "fcn8s",
        lambda layers: layers.__setitem__(slice(None), [CaffeLayer("res2a", "Convolution", (torch.ones(1),))]),
        ["This .caffemodel (VGG) is none", "fcn32s", "deeplab_largefov", "res2a"],
    ),
    "nothing": ("fcn8s", lambda layers: layers.clear(), ["Its layers with weights: none"]),
    "twice": ("fcn8s", lambda layers: layers.append(replace(layers[0])), ["'conv1_1' and 'conv1_1'"]),
    "two heads": (
        "deeplab_largefov",
        lambda layers: layers.append(replace(layers[-1], name="fc8_coco")),
        ["'fc8_voc12' and 'fc8_coco'"],
    ),
    "grouped upsampling": ("fcn32s", swapped("upscore", torch.ones(4, 1, 64, 64)), ["'upscore' gives 1 channels"]),
    "another number of classes": (
        "fcn16s",
        swapped("score_pool4", torch.ones(5, 7, 1, 1), torch.ones(5)),
        ["'score_pool4' gives 5 channels", "'score_fr' gives 4"],
    ),
    "DeepLab with 4 x 4": (
        "deeplab_largefov",
        swapped("fc6", torch.ones(9, 8, 4, 4), torch.ones(9)),
        ["'fc6' are 9 x 8 x 4 x 4", "3 x 3 are right"],
    ),
    "gray": ("fcn32s", swapped("conv1_1", torch.ones(4, 1, 3, 3), torch.ones(4)), ["3 input channels"]),
    "no bias": ("fcn32s", swapped("fc7", torch.ones(9, 9, 1, 1)), ["'fc7' has 1 blobs where 2 are right"]),
    "a bias too long": ("fcn32s", swapped("fc7", torch.ones(9, 9, 1, 1), torch.ones(8)), ["'fc7' has 8 values", "9"]),
    "statistics": ("segnet", swapped("conv1_1_bn", *[torch.ones(4)] * 4), ["'conv1_1_bn' has 4 blobs"]),
    "a flat weight": ("fcn32s", swapped("fc6", torch.ones(9, 392), torch.ones(9)), ["'fc6' are 9 x 392"]),
}


@pytest.mark.parametrize(("kind", "change", "words"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_named(kind: str, change: Callable[[list[CaffeLayer]], object], words: list[str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        convert_caffe(changed(kind, change))
    assert all(word in str(caught.value) for word in words), str(caught.value)
