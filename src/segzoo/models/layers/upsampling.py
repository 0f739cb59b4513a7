"""Ways to bring a map up to the size of the next one: modules named by what they do, all called as up(x, like).

`like` is the encoder's map at the level that is wanted. Every way goes to `like`'s own height and width and never to
"twice": encoders round odd sizes up, down, or neither. The learned ways double, and are cut; where twice is too little
(Inception's unpadded convolutions) the small map first gets zeros on the right and below, as in unpooling.

Three of the five have a second name, from the slides of a student project on faces (its code:
github.com/arahusky/Tensorflow-Segmentation): "naive demaxpool" is nearest, "fixed demaxpool" unpooling by switches, and
"learnable demaxpool" the learned 2x2 transposed convolution. This is known from a secondary source: the slides define
none of them. The first is the project's code; the other two are our reading of the code's history.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from segzoo._registry import unknown_upsample
from segzoo.models.layers.unpooling import Unpool

Upsample = Literal["bilinear", "nearest", "transposed", "upconv", "unpool"]

WAYS: tuple[Upsample, ...] = get_args(Upsample)
"""All of them. The class variable `upsamples` of a decoder says which it takes."""


class Interpolate(nn.Module):
    """Bilinear (align_corners=False) or nearest-neighbour interpolation ("naive demaxpool"); nothing to learn."""

    def __init__(self, mode: Literal["bilinear", "nearest"]) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        # align_corners is refused for nearest, even when it is False.
        return F.interpolate(
            x, like.shape[-2:], mode=self.mode, align_corners=False if self.mode == "bilinear" else None
        )

    def extra_repr(self) -> str:
        return self.mode


class Transposed(nn.Module):
    """A learned transposed convolution, kernel 4, stride 2, that starts as bilinear interpolation.

    FCN's upsampling (arXiv 1411.4038, section 3.3): dense from channel to channel, and only the kernel from a channel
    to itself is non-zero at the start.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
        with torch.no_grad():
            self.convolution.weight.zero_()
            self.convolution.weight[range(channels), range(channels)] = bilinear_kernel(4)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return _doubled(self.convolution, x, like)


class UpConv(nn.Module):
    """U-Net's up-convolution: a learned 2x2 transposed convolution, stride 2, that also sets the number of channels.

    arXiv 1505.04597, section 2. It starts at random. Also called "learnable demaxpool".
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(channels_in, channels_out, 2, stride=2)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return _doubled(self.convolution, x, like)


class Narrow(nn.Module):
    """A 1x1 convolution to another number of channels where the map is still small, then the way up."""

    def __init__(self, channels_in: int, channels_out: int, up: nn.Module) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels_in, channels_out, 1)
        self.up = up

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        y: Tensor = self.up(self.narrow(x), like)
        return y


def upsampling(how: Upsample, channels_in: int, channels_out: int) -> nn.Module:
    """The module for a name; called as up(x (N, channels_in, h, w), like) -> (N, channels_out, H, W).

    "unpool" needs channels_out to be the channels of `like`, whose switches it follows. All but "upconv" change the
    number of channels, where it changes, by a 1x1 convolution in front.

    Raises:
        UnknownNameError: there is no such way.
    """
    if how == "upconv":
        return UpConv(channels_in, channels_out)
    up: nn.Module
    match how:
        case "bilinear" | "nearest":
            up = Interpolate(how)
        case "transposed":
            up = Transposed(channels_out)
        case "unpool":
            up = Unpool()
        case _:
            raise unknown_upsample(str(how))
    return up if channels_in == channels_out else Narrow(channels_in, channels_out, up)


def _doubled(convolution: nn.ConvTranspose2d, x: Tensor, like: Tensor) -> Tensor:
    """A convolution that doubles, at the size of `like`."""
    height, width = like.shape[-2:]
    right, below = (width + 1) // 2 - x.shape[-1], (height + 1) // 2 - x.shape[-2]
    # With free sizes, a plain "if right or below" would make the exporter fix them; for most encoders both are known.
    if not (statically_known_true(right == 0) and statically_known_true(below == 0)):
        x = F.pad(x, (0, right, 0, below))
    y: Tensor = convolution(x)
    return y[..., :height, :width]


def bilinear_kernel(size: int) -> Tensor:
    """The (size, size) kernel whose transposed convolution at stride size // 2 interpolates bilinearly."""
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    line = 1 - (torch.arange(size) - centre).abs() / factor
    return line[:, None] * line[None, :]
