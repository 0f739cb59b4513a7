"""U-Net: valid convolutions, 572 x 572 pixels in and 388 x 388 out, and the border mirrored.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015,
arXiv 1505.04597, figure 1. Layers have the names of the authors' phseg_v5.prototxt, with `_` for `-`.

`paper/unet` is the figure. `paper/unet_caffe` is the network that the authors released, which differs from the figure:
a ReLU follows each up-convolution, and the last up-convolution keeps its 128 channels.

Known from secondary sources only, two ports of the released file that agree: those two differences, the names, the
order of what is joined (from below first), and where the dropout stands: after level 3, on the way across too, and
after level 4. The paper says "at the end of the contracting path". Its figure draws what comes across first; with
weights trained from the start the order is no difference.

Known of the input: one gray channel. Neither the paper nor a port says how its values are scaled; here 0 to 1.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.models.base import ModelConfig
from segzoo.models.papers.overlap_tile import OverlapTile, check_size

CHANNELS = (64, 128, 256, 512, 1024)
CROPS = (88, 40, 16, 4)
"""Pixels cut off each side of what comes across, from level 0 down."""


class _UNet(OverlapTile):
    """Gray image of 0-1 -> logits of its size; `network` takes 16k + 60 pixels a side and gives 184 fewer."""

    paper = "Ronneberger, Fischer, Brox: U-Net, arXiv 1505.04597"
    classes = 2
    channels = 1
    pixel_mean = (0.0,)
    pixel_scale = 255.0

    up_relu: ClassVar[bool]
    """Whether a ReLU follows each up-convolution."""

    last_up: ClassVar[int]
    """Channels of the last up-convolution."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        before = config.in_channels
        for level, channels in enumerate(CHANNELS):
            self.add_module(f"conv_d{level}a_b", _convolution(before, channels))
            self.add_module(f"conv_d{level}b_c", _convolution(channels, channels))
            before = channels
        below = "d4c"
        for level, channels in reversed(list(enumerate(CHANNELS[:4]))):
            up = self.last_up if level == 0 else channels
            upconv = nn.ConvTranspose2d(before, up, 2, stride=2)
            self.add_module(f"upconv_{below}_u{level}a", _initialised(upconv, before))
            self.add_module(f"conv_u{level}b_c", _convolution(up + channels, channels))
            self.add_module(f"conv_u{level}c_d", _convolution(channels, channels))
            before, below = channels, f"u{level}d"
        self.conv_u0d_score = _initialised(nn.Conv2d(64, config.num_classes, 1), 64)
        self.dropout = nn.Dropout(0.5)

    def network(self, image: Tensor) -> Tensor:
        """Image (N, in_channels, 16k + 60, 16m + 60) -> logits of its inner pixels, 184 fewer on each axis.

        Raises:
            ImageError: another size.
        """
        check_size(image)
        x, across = image, []
        for level in range(5):
            x = F.max_pool2d(x, 2) if level else x
            x = self._relu(f"conv_d{level}b_c", self._relu(f"conv_d{level}a_b", x))
            x = self.dropout(x) if level >= 3 else x
            across.append(x)
        below = "d4c"
        for level in (3, 2, 1, 0):
            name, crop = f"upconv_{below}_u{level}a", CROPS[level]
            x = self._relu(name, x) if self.up_relu else self.get_submodule(name)(x)
            x = torch.cat((x, across[level][..., crop:-crop, crop:-crop]), 1)
            x = self._relu(f"conv_u{level}c_d", self._relu(f"conv_u{level}b_c", x))
            below = f"u{level}d"
        logits: Tensor = self.conv_u0d_score(x)
        return logits

    def _relu(self, name: str, x: Tensor) -> Tensor:
        return F.relu(self.get_submodule(name)(x), inplace=True)


class UNet(_UNet):
    """The paper's figure 1."""

    up_relu = False
    last_up = 64


class UNetCaffe(_UNet):
    """The network that the authors released, phseg_v5."""

    up_relu = True
    last_up = 128


def _convolution(before: int, channels: int) -> nn.Module:
    return _initialised(nn.Conv2d(before, channels, 3), 9 * before)


def _initialised(layer: nn.Conv2d | nn.ConvTranspose2d, inputs: int) -> nn.Module:
    """Weights N(0, sqrt(2 / inputs)) as section 3 has them, with the values that one output value is made of."""
    nn.init.normal_(layer.weight, std=math.sqrt(2 / inputs))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
