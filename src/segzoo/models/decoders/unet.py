"""U-Net: upsample by one level, concatenate the encoder's map, convolve twice; repeat up to the shallowest map.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015,
arXiv 1505.04597, figure 1, right half.

Differences from the paper: convolutions keep the size, so that maps need no cropping and the mask has the image's size;
batch normalization replaces biases; there is no dropout. On an encoder other than the paper's, the expanding path is
narrower unless `decoder_channels` says otherwise, and ends at the encoder's shallowest map.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from segzoo.errors import OptionError, unknown
from segzoo.models.decoders.base import Decoder
from segzoo.models.features import Features
from segzoo.models.layers.conv import conv_block, head_conv
from segzoo.models.layers.upsampling import Upsample, upsampling


class UNet(Decoder):
    """The expanding path. The options from `project` on reproduce the U-Nets of segmentation-models-pytorch.

    Args:
        upsample: the upsampling mode, any of the five: "upconv" (the paper's learned 2x2 transposed convolution),
            "bilinear", "nearest", "transposed" (4x4, starts as bilinear) or "unpool" (by the pooling indices of the
            encoder's map, which every stage then needs).
        decoder_channels: channels at full size, doubled at each deeper level, up to those of the encoder's deepest map.
            None takes those of the encoder's full-size map, 64 in the paper and VGG, or 16 if there is no such map. A
            tuple gives the channels after each stage, deep to shallow, such as (256, 128, 64, 32, 16), and so the
            number of stages; they then also go up to levels at which the encoder has no map.
        project: whether upsampling also reduces the channels to those after the stage, as in the paper.
        stride1_skip: whether the encoder's full-size map is concatenated too, if there is one (VGG).
        center: layers on the deepest map: None, "convs" (two 3x3 convolutions) or "expand" (MobileNetV2's last layer,
            a 1x1 convolution to four times the channels).
        head_kernel_size: kernel size of the convolution that computes the logits; odd.
    """

    paper = "Ronneberger, Fischer, Brox: U-Net, arXiv 1505.04597"
    default_encoder = "unet"
    upsample_modes: ClassVar[tuple[str, ...]] = ("upconv", "bilinear", "nearest", "transposed", "unpool")

    def __init__(
        self,
        features: Features,
        num_classes: int,
        *,
        upsample: Upsample = "upconv",
        decoder_channels: int | tuple[int, ...] | None = None,
        project: bool = True,
        stride1_skip: bool = True,
        center: str | None = None,
        head_kernel_size: int = 1,
    ) -> None:
        super().__init__(features, num_classes)
        if head_kernel_size < 1 or head_kernel_size % 2 == 0:
            raise OptionError(f"head_kernel_size must be odd and at least 1, not {head_kernel_size}.")
        if upsample == "unpool" and not project:
            raise OptionError("upsample='unpool' needs project=True: pooling indices belong to the skip's channels.")
        self.center, channels = _center(center, features.channels[-1])
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        self.stages: list[tuple[int, int | None]] = []  # the level, and the index of the skip in the maps, if any
        for level, out_channels in _stages(features, decoder_channels):
            has_skip = level in features.levels and (level > 0 or stride1_skip)
            skip = features.channels_at(level) if has_skip else 0
            if upsample == "unpool" and not has_skip:
                raise OptionError(f"upsample='unpool' needs a skip connection at every stage, at level {level} too.")
            upsampled = skip if upsample == "unpool" else out_channels if project else channels
            self.stages.append((level, features.index(level) if has_skip else None))
            self.ups.append(upsampling(upsample, channels, upsampled))
            self.blocks.append(
                nn.Sequential(conv_block(upsampled + skip, out_channels), conv_block(out_channels, out_channels))
            )
            channels = out_channels
        self.head = head_conv(channels, num_classes, head_kernel_size)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = self.center(maps[-1])
        for (level, skip), up, block in zip(self.stages, self.ups, self.blocks, strict=True):
            if skip is None:
                x = block(up(x, self._empty(maps[-1], level)))
            else:
                x = block(torch.cat((up(x, maps[skip]), maps[skip]), 1))
        logits: Tensor = self.head(x)
        return logits

    def _empty(self, deepest: Tensor, level: int) -> Tensor:
        """A map without channels, of the size of a level at which the encoder has no map."""
        factor = 2 ** (self.features.levels[-1] - level)
        return deepest.new_empty((1, 0, deepest.shape[-2] * factor, deepest.shape[-1] * factor))


def _stages(features: Features, channels: int | tuple[int, ...] | None) -> list[tuple[int, int]]:
    """The level of each stage's output, and the channels after the stage."""
    deepest = features.levels[-1]
    if isinstance(channels, list | tuple):
        if not 1 <= len(channels) <= deepest or min(channels) < 1:
            raise OptionError(f"decoder_channels takes 1 to {deepest} numbers >= 1 on this encoder, not {channels}.")
        return list(zip(range(deepest - 1, -1, -1), channels, strict=False))
    if channels is not None and channels < 1:
        raise OptionError(f"decoder_channels must be at least 1, not {channels}.")
    channels = channels or (features.channels[0] if features.levels[0] == 0 else 16)
    return [(level, min(channels * 2**level, features.channels[-1])) for level in features.levels[-2::-1]]


def _center(name: str | None, channels: int) -> tuple[nn.Module, int]:
    """The layers on the deepest map, and the channels after them."""
    if name is None:
        return nn.Identity(), channels
    if name == "convs":
        return nn.Sequential(conv_block(channels, channels), conv_block(channels, channels)), channels
    if name == "expand":
        expand = conv_block(channels, 4 * channels, 1)
        expand[2] = nn.ReLU6(inplace=True)
        return expand, 4 * channels
    raise unknown("center", name, ["convs", "expand"], "It is None, 'convs' or 'expand'.")
