"""U-Net's contracting path as an encoder.

Ronneberger, Fischer, Brox: U-Net, MICCAI 2015, arXiv 1505.04597, figure 1, left half.

Differences from the paper: convolutions keep the size (padding 1; the paper has none), batch normalization replaces
their biases, and there is no dropout on the deepest map.
"""

from torch import Tensor, nn

from segzoo.models.encoders.base import Encoder
from segzoo.models.features import Features
from segzoo.models.layers.conv import conv_block
from segzoo.models.layers.dilation import dilate


class UNetEncoder(Encoder):
    """Two 3x3 convolutions at each of five levels, 64 to 1024 channels, a 2x2 max pool between them."""

    def __init__(self, in_channels: int, output_stride: int = 32) -> None:
        super().__init__()
        channels = (64, 128, 256, 512, 1024)
        self.name = "unet"
        self.in_channels = in_channels
        strides = tuple(min(2**level, output_stride) for level in range(5))
        self.features = Features((0, 1, 2, 3, 4), channels, strides, pre_pool=True)
        self.size_divisibility = 16
        # There are no pretrained weights that expect another normalization: 0-255 becomes -1 to 1.
        self.mean = self.std = (0.5,) * in_channels
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.MaxPool2d(2) if level else nn.Identity(), conv_block(before, after), conv_block(after, after)
            )
            for level, (before, after) in enumerate(zip((in_channels, *channels[:-1]), channels, strict=True))
        )
        if output_stride < 16:
            dilate(self, in_channels, output_stride)

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = [image]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]
