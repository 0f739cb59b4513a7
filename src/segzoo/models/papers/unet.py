"""U-Net: valid convolutions that take 572 x 572 pixels and predict 388 x 388, with mirrored borders.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015,
arXiv 1505.04597, figure 1. Layers have the names of the authors' phseg_v5.prototxt, with `_` for `-`.

`paper/unet` is the figure. `paper/unet_caffe` is the network that the authors released, which differs from the figure:
a ReLU follows each up-convolution, and the last up-convolution keeps its 128 channels.

Known from secondary sources only, two ports of the released file that agree: those two differences, the names, the
order of concatenation (upsampled map first), and the position of dropout: after level 3, skip connection included, and
after level 4. The paper says "at the end of the contracting path". Its figure draws the skip connection first; if
weights are trained from scratch, the order makes no difference.

The input is one gray channel. Neither the paper nor a port states how its values are scaled; here they are 0 to 1.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.models.papers.overlap_tile import OverlapTile, check_size
from segzoo.spec import ModelSpec

CHANNELS = (64, 128, 256, 512, 1024)
CROPS = (88, 40, 16, 4)
"""Pixels cropped from each side of the skip connections, from level 0 down."""


class _UNet(OverlapTile):
    """Takes gray pixels of 0-1; logits at image size. `network` takes 16k + 60 pixels a side and returns 184 fewer."""

    paper = "Ronneberger, Fischer, Brox: U-Net, arXiv 1505.04597"
    default_num_classes = 2
    default_in_channels = 1
    pixel_mean = (0.0,)
    pixel_scale = 255.0

    up_relu: ClassVar[bool]
    """Whether a ReLU follows each up-convolution."""

    last_up_channels: ClassVar[int]
    """Output channels of the last up-convolution."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        in_channels = spec.in_channels
        for level, channels in enumerate(CHANNELS):
            self.add_module(f"conv_d{level}a_b", _convolution(in_channels, channels))
            self.add_module(f"conv_d{level}b_c", _convolution(channels, channels))
            in_channels = channels
        below = "d4c"
        for level, channels in reversed(list(enumerate(CHANNELS[:4]))):
            up_channels = self.last_up_channels if level == 0 else channels
            upconv = nn.ConvTranspose2d(in_channels, up_channels, 2, stride=2)
            self.add_module(f"upconv_{below}_u{level}a", _initialized(upconv, in_channels))
            self.add_module(f"conv_u{level}b_c", _convolution(up_channels + channels, channels))
            self.add_module(f"conv_u{level}c_d", _convolution(channels, channels))
            in_channels, below = channels, f"u{level}d"
        self.conv_u0d_score = _initialized(nn.Conv2d(64, spec.num_classes, 1), 64)
        self.dropout = nn.Dropout(0.5)

    def network(self, image: Tensor) -> Tensor:
        """Image (N, in_channels, 16k + 60, 16m + 60) -> logits of its central pixels, 184 fewer on each axis.

        Raises:
            ImageError: the image has another size.
        """
        check_size(image)
        x, skips = image, []
        for level in range(5):
            x = F.max_pool2d(x, 2) if level else x
            x = self._relu(f"conv_d{level}b_c", self._relu(f"conv_d{level}a_b", x))
            x = self.dropout(x) if level >= 3 else x
            skips.append(x)
        below = "d4c"
        for level in (3, 2, 1, 0):
            name, crop = f"upconv_{below}_u{level}a", CROPS[level]
            x = self._relu(name, x) if self.up_relu else self.get_submodule(name)(x)
            x = torch.cat((x, skips[level][..., crop:-crop, crop:-crop]), 1)
            x = self._relu(f"conv_u{level}c_d", self._relu(f"conv_u{level}b_c", x))
            below = f"u{level}d"
        logits: Tensor = self.conv_u0d_score(x)
        return logits

    def _relu(self, name: str, x: Tensor) -> Tensor:
        return F.relu(self.get_submodule(name)(x), inplace=True)


class UNet(_UNet):
    """The paper's figure 1: takes gray pixels of 0-1; logits at image size."""

    up_relu = False
    last_up_channels = 64


class UNetCaffe(_UNet):
    """The network that the authors released, phseg_v5: takes gray pixels of 0-1; logits at image size."""

    up_relu = True
    last_up_channels = 128


def _convolution(in_channels: int, out_channels: int) -> nn.Module:
    return _initialized(nn.Conv2d(in_channels, out_channels, 3), 9 * in_channels)


def _initialized(layer: nn.Conv2d | nn.ConvTranspose2d, fan_in: int) -> nn.Module:
    """Weights from N(0, sqrt(2 / fan_in)), section 3; fan_in is the number of inputs of one output value."""
    nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_in))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
