"""Upsampling to the size of the next map: one module per mode, all called as up(x, ref).

`ref` is the encoder's map at the target level. Every mode upsamples to `ref`'s height and width, not by a factor of 2:
encoders round odd sizes up or down, or do not halve exactly. The learned modes double the size and crop. If twice the
size is too small (Inception's unpadded convolutions), the input first gets zeros on the right and at the bottom, as in
unpooling.

Three of the five modes have a second name, from the slides of a student project on faces (its code:
github.com/arahusky/Tensorflow-Segmentation): "naive demaxpool" is nearest, "fixed demaxpool" is unpooling by pooling
indices, and "learnable demaxpool" is the learned 2x2 transposed convolution. The slides are a secondary source and
define none of them. The first is the project's code; the other two are our reading of the code's history.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from segzoo._registry import unknown_upsample_mode
from segzoo.models.layers.unpooling import Unpool

Upsample = Literal["bilinear", "nearest", "transposed", "upconv", "unpool"]

UPSAMPLE_MODES: tuple[Upsample, ...] = get_args(Upsample)
"""All upsampling modes. A decoder's class variable `upsample_modes` lists those that it supports."""


class Interpolate(nn.Module):
    """Bilinear (align_corners=False) or nearest-neighbor interpolation ("naive demaxpool"), not learned."""

    def __init__(self, mode: Literal["bilinear", "nearest"]) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor, ref: Tensor) -> Tensor:
        # interpolate rejects align_corners for "nearest", even if it is False.
        return F.interpolate(
            x, ref.shape[-2:], mode=self.mode, align_corners=False if self.mode == "bilinear" else None
        )

    def extra_repr(self) -> str:
        return self.mode


class Transposed(nn.Module):
    """A learned transposed convolution, kernel size 4, stride 2, that starts as bilinear interpolation.

    FCN's upsampling (arXiv 1411.4038, section 3.3). It connects all channels with all channels; at the start only the
    kernels from each channel to itself are nonzero.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
        with torch.no_grad():
            self.convolution.weight.zero_()
            self.convolution.weight[range(channels), range(channels)] = bilinear_kernel(4)

    def forward(self, x: Tensor, ref: Tensor) -> Tensor:
        return _doubled(self.convolution, x, ref)


class UpConv(nn.Module):
    """U-Net's up-convolution: a learned 2x2 transposed convolution, stride 2, that can change the number of channels.

    arXiv 1505.04597, section 2. It starts with random weights. Also called "learnable demaxpool".
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(channels_in, channels_out, 2, stride=2)

    def forward(self, x: Tensor, ref: Tensor) -> Tensor:
        return _doubled(self.convolution, x, ref)


class Project(nn.Module):
    """A 1x1 convolution that changes the number of channels while the map is small, then upsampling."""

    def __init__(self, channels_in: int, channels_out: int, up: nn.Module) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels_in, channels_out, 1)
        self.up = up

    def forward(self, x: Tensor, ref: Tensor) -> Tensor:
        y: Tensor = self.up(self.project(x), ref)
        return y


def upsampling(mode: Upsample, channels_in: int, channels_out: int) -> nn.Module:
    """The module for an upsampling mode, called as up(x (N, channels_in, h, w), ref) -> (N, channels_out, H, W).

    For "unpool", `ref` must have channels_out channels, since pooling indices are per channel. All modes but "upconv"
    start with a 1x1 convolution if the number of channels changes.

    Raises:
        UnknownNameError: there is no such mode.
    """
    if mode == "upconv":
        return UpConv(channels_in, channels_out)
    up: nn.Module
    match mode:
        case "bilinear" | "nearest":
            up = Interpolate(mode)
        case "transposed":
            up = Transposed(channels_out)
        case "unpool":
            up = Unpool()
        case _:
            raise unknown_upsample_mode(str(mode))
    return up if channels_in == channels_out else Project(channels_in, channels_out, up)


def _doubled(convolution: nn.ConvTranspose2d, x: Tensor, ref: Tensor) -> Tensor:
    """Applies a convolution that doubles the size, then crops to the size of `ref`."""
    height, width = ref.shape[-2:]
    right, below = (width + 1) // 2 - x.shape[-1], (height + 1) // 2 - x.shape[-2]
    # A plain "if right or below" would make the exporter fix dynamic sizes. For most encoders it knows that both are 0.
    if not (statically_known_true(right == 0) and statically_known_true(below == 0)):
        x = F.pad(x, (0, right, 0, below))
    y: Tensor = convolution(x)
    return y[..., :height, :width]


def bilinear_kernel(size: int) -> Tensor:
    """The (size, size) kernel with which a transposed convolution at stride size // 2 interpolates bilinearly."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    line = 1 - (torch.arange(size) - center).abs() / factor
    return line[:, None] * line[None, :]
