"""The Keras example, compared with a numpy reimplementation that uses TensorFlow's windows."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import segzoo
from segzoo.models.papers.xception_unet import XceptionUNet

Array = NDArray[np.float64]


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "SAME" padding: ceil(size / stride) outputs, the odd pixel of padding at the end."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def windows(x: Array, kernel: int, stride: int, fill: float) -> Array:
    """(C, H, W) -> (C, H', W', kernel, kernel)."""
    padded = np.pad(
        x, ((0, 0), same(x.shape[1], kernel, stride), same(x.shape[2], kernel, stride)), constant_values=fill
    )
    views = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (1, 2))
    return views[:, ::stride, ::stride]


class Keras:
    """The layers of the example, with the weights of a segzoo model."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}

    def conv(self, x: Array, name: str, stride: int = 1) -> Array:
        weight = self.weights[f"{name}.weight"]
        y = np.einsum("chwij,ocij->ohw", windows(x, weight.shape[-1], stride, 0), weight)
        return y + self.weights[f"{name}.bias"][:, None, None]

    def separable(self, x: Array, name: str) -> Array:
        x = np.einsum("chwij,cij->chw", windows(x, 3, 1, 0), self.weights[f"{name}.0.weight"][:, 0])
        return self.conv(x, f"{name}.1")

    def transposed(self, x: Array, name: str) -> Array:
        """Each value adds its kernel to the output, which is then cropped."""
        weight = self.weights[f"{name}.weight"]
        _, height, width = x.shape
        output = np.zeros((weight.shape[1], height + 2, width + 2))
        for i in range(3):
            for j in range(3):
                output[:, i : i + height, j : j + width] += np.einsum("chw,co->ohw", x, weight[:, :, i, j])
        return output[:, 1:-1, 1:-1] + self.weights[f"{name}.bias"][:, None, None]

    def norm(self, x: Array, name: str) -> Array:
        mean, var, gamma, beta = (
            self.weights[f"{name}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(var + 1e-3) * gamma + beta

    def __call__(self, x: Array) -> Array:
        x = before = self.norm(self.conv(x, "entry.0", 2), "entry.1").clip(0)
        for n in range(3):
            for index in (1, 4):
                x = self.norm(self.separable(x.clip(0), f"downs.{n}.body.{index}"), f"downs.{n}.body.{index + 1}")
            x = windows(x, 3, 2, -np.inf).max((-1, -2))
            x = before = x + self.conv(before, f"downs.{n}.residual", 2)
        for n in range(4):
            for index in (1, 4):
                x = self.norm(self.transposed(x.clip(0), f"ups.{n}.body.{index}"), f"ups.{n}.body.{index + 1}")
            x = x.repeat(2, 1).repeat(2, 2)
            x = before = x + self.conv(before.repeat(2, 1).repeat(2, 2), f"ups.{n}.residual")
        return self.conv(x, "score")


@torch.inference_mode()
def test_it_equals_the_example() -> None:
    torch.manual_seed(0)
    model = segzoo.create("paper/xception_unet").eval()
    assert isinstance(model, XceptionUNet)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.normal_(std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.01, 2)
    image = torch.rand(1, 3, 32, 48)
    expected = Keras(model)(image[0].double().numpy())
    np.testing.assert_allclose(model(image)[0].numpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("size", [(160, 160), (161, 1)])
def test_maps_are_halved_four_times(size: tuple[int, int]) -> None:
    shapes: list[tuple[int, int]] = []
    with torch.device("meta"):
        model = segzoo.create("paper/xception_unet").eval()
        model.downs[-1].register_forward_hook(lambda _m, _x, y: shapes.append(tuple(y.shape[-2:])))
        model(torch.zeros(1, 3, *size))
    assert shapes == [tuple(-(-side // 16) for side in size)]


def test_the_number_of_parameters_with_statistics_is_that_of_keras() -> None:
    with torch.device("meta"):
        model = segzoo.create("paper/xception_unet")
    statistics = sum(t.numel() for name, t in model.named_buffers() if "running" in name)
    assert statistics == 3_776 and statistics + 2_055_203 == 2_058_979
