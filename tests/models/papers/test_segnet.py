"""SegNet: names of tensors, sizes of maps, and the network compared with a plain reimplementation."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import segzoo
from segzoo.weights.convert.caffe import NETWORKS

DEPTHS = (2, 2, 3, 3, 3)


def tensors_in_caffe_file(network: str) -> dict[str, set[str]]:
    """The tensors that the converter creates for each layer of the authors' file."""
    keys = {"conv": {"weight", "bias"}, "affine": {"weight", "bias", "running_mean", "running_var"}}
    return {layer.name: keys[layer.kind] for layer in NETWORKS[network].layers}


@pytest.mark.parametrize("name", ["paper/segnet", "paper/bayesian_segnet"])
def test_tensors_are_named_after_the_authors_layers(name: str) -> None:
    with torch.device("meta"):
        own = segzoo.create(name).state_dict()
    layers = tensors_in_caffe_file("segnet")
    expected = {f"{layer}.{key}" for layer, keys in layers.items() for key in keys}
    assert {key for key in own if not key.endswith("num_batches_tracked")} == expected


@pytest.mark.parametrize("num_classes", [2, 11, 21, 37])
def test_the_number_of_parameters(num_classes: int) -> None:
    with torch.device("meta"):
        model = segzoo.create("paper/segnet", num_classes=num_classes)
    assert sum(p.numel() for p in model.parameters()) == 29_443_008 + 577 * num_classes


def test_sizes_for_360_x_480_are_those_of_the_prototxt() -> None:
    sizes = []
    with torch.device("meta"):
        model = segzoo.create("paper/segnet").eval()
        for stage in range(1, 6):
            layer = model.get_submodule(f"conv{stage}_1")
            layer.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[-2:])))
        model.get_submodule("conv5_3_D").register_forward_pre_hook(
            lambda _, inputs: sizes.append(tuple(inputs[0].shape[-2:]))
        )
        unpooled = []
        model.unpool.register_forward_pre_hook(lambda _, inputs: unpooled.append(tuple(inputs[0].shape[-2:])))
        model(torch.zeros(1, 3, 360, 480))
    assert sizes == [(360, 480), (180, 240), (90, 120), (45, 60), (23, 30), (23, 30)]
    assert unpooled == [(12, 15), (23, 30), (45, 60), (90, 120), (180, 240)]


@torch.inference_mode()
def test_it_equals_the_prototxt() -> None:
    """Compares with torch's pooling with indices and unpooling to the sizes before pooling."""
    torch.manual_seed(0)
    model = segzoo.create("paper/segnet").eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.normal_(std=0.1)
            module.running_mean.normal_(std=0.1)
    weights = model.state_dict()

    def block(x: Tensor, name: str) -> Tensor:
        x = F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)
        mean, var, weight, bias = (
            weights[f"{name}_bn.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias).relu()

    image = 255 * torch.rand(1, 3, 45, 34)
    x, pools = image, []
    for stage, depth in enumerate(DEPTHS, 1):
        for number in range(1, depth + 1):
            x = block(x, f"conv{stage}_{number}")
        size = x.shape[-2:]
        x, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        pools.append((indices, size))
    for stage, depth in reversed(list(enumerate(DEPTHS, 1))):
        indices, size = pools[stage - 1]
        x = F.max_unpool2d(x, indices, 2, 2, output_size=size)
        for number in range(depth, 1, -1):
            x = block(x, f"conv{stage}_{number}_D")
        if stage > 1:
            x = block(x, f"conv{stage}_1_D")
    expected = F.conv2d(x, weights["conv1_1_D.weight"], weights["conv1_1_D.bias"], padding=1)
    scale = expected.abs().max()
    torch.testing.assert_close(model(image) / scale, expected / scale, rtol=1e-5, atol=1e-5)
