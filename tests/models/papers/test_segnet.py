"""SegNet: the names of its tensors, the sizes of its maps, and its arithmetic written out."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import segzoo
from segzoo.weights.convert.caffe import NETWORKS

DEPTHS = (2, 2, 3, 3, 3)


def named_as_in_the_files(network: str) -> dict[str, set[str]]:
    """What the converter makes of each layer of the authors' file."""
    keys = {"conv": {"weight", "bias"}, "affine": {"weight", "bias", "running_mean", "running_var"}}
    return {layer.name: keys[layer.kind] for layer in NETWORKS[network].layers}


@pytest.mark.parametrize("name", ["paper/segnet", "paper/bayesian_segnet"])
def test_tensors_have_the_names_of_the_authors_layers(name: str) -> None:
    with torch.device("meta"):
        own = segzoo.create(name).state_dict()
    layers = named_as_in_the_files("segnet")
    expected = {f"{layer}.{key}" for layer, keys in layers.items() for key in keys}
    assert {key for key in own if not key.endswith("num_batches_tracked")} == expected


@pytest.mark.parametrize("classes", [2, 11, 21, 37])
def test_parameters_of_any_number_of_classes(classes: int) -> None:
    with torch.device("meta"):
        model = segzoo.create("paper/segnet", num_classes=classes)
    assert sum(p.numel() for p in model.parameters()) == 29_443_008 + 577 * classes


def test_pools_of_360_x_480_are_the_prototxts() -> None:
    sizes = []
    with torch.device("meta"):
        model = segzoo.create("paper/segnet").eval()
        for stage in range(1, 6):
            layer = model.get_submodule(f"conv{stage}_1")
            layer.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[-2:])))
        model.get_submodule("conv5_3_D").register_forward_pre_hook(
            lambda _, inputs: sizes.append(tuple(inputs[0].shape[-2:]))
        )
        bottom = []
        model.unpool.register_forward_pre_hook(lambda _, inputs: bottom.append(tuple(inputs[0].shape[-2:])))
        model(torch.zeros(1, 3, 360, 480))
    assert sizes == [(360, 480), (180, 240), (90, 120), (45, 60), (23, 30), (23, 30)]
    assert bottom == [(12, 15), (23, 30), (45, 60), (90, 120), (180, 240)]


@torch.inference_mode()
def test_it_is_the_prototxt() -> None:
    """Torch's own pools with indices, and unpools to the sizes before."""
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
