"""U-Net: up one level, put the encoder's map beside it, convolve twice; again until the shallowest map.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015,
arXiv 1505.04597, figure 1, right half.

What differs from the paper: convolutions keep the size, so that maps need no cropping and the mask has the image's
size; batch normalisation instead of biases; no dropout. On another encoder than the paper's own the expanding path is
narrower unless `width` says otherwise, and ends at the encoder's shallowest map.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from segzoo.decoders.base import Decoder
from segzoo.errors import OptionError
from segzoo.features import Features
from segzoo.layers.conv import conv_block, score_layer
from segzoo.layers.upsampling import Upsample, upsampling


class UNet(Decoder):
    """The expanding path.

    Args:
        upsample: the way up: "upconv" (the paper's learned 2x2 transposed convolution), "bilinear", "nearest",
            "transposed" (4x4, starts bilinear) or "unpool" (the switches of the encoder's map).
        width: channels at full size, doubled at each level below, never more than the encoder's deepest map has. None
            takes those of the encoder's full-size map, 64 in the paper and VGG, and 16 where there is no such map.
    """

    paper = "Ronneberger, Fischer, Brox: U-Net, arXiv 1505.04597"
    encoder = "unet"
    upsamples: ClassVar[tuple[str, ...]] = ("upconv", "bilinear", "nearest", "transposed", "unpool")

    def __init__(
        self, features: Features, num_classes: int, *, upsample: Upsample = "upconv", width: int | None = None
    ) -> None:
        super().__init__(features, num_classes)
        if width is not None and width < 1:
            raise OptionError(f"width is at least 1, not {width}.")
        width = width or (features.channels[0] if features.levels[0] == 0 else 16)
        *skips, channels = features.channels
        self.ups = nn.ModuleList()
        self.blocks = nn.ModuleList()
        for level, skip in zip(features.levels[-2::-1], skips[::-1], strict=True):
            wide = min(width * 2**level, features.channels[-1])
            # Switches belong to the channels of the map that they were taken from.
            raised = skip if upsample == "unpool" else wide
            self.ups.append(upsampling(upsample, channels, raised))
            self.blocks.append(nn.Sequential(conv_block(raised + skip, wide), conv_block(wide, wide)))
            channels = wide
        self.score = score_layer(channels, num_classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        *skips, x = maps
        for up, block, skip in zip(self.ups, self.blocks, skips[::-1], strict=True):
            x = block(torch.cat((skip, up(x, skip)), 1))
        logits: Tensor = self.score(x)
        return logits
