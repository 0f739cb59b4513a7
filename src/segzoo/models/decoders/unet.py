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

from segzoo.errors import OptionError, unknown
from segzoo.models.decoders.base import Decoder
from segzoo.models.features import Features
from segzoo.models.layers.conv import conv_block, score_layer
from segzoo.models.layers.upsampling import Upsample, upsampling


class UNet(Decoder):
    """The expanding path. All options but the first two are there for the U-Nets of segmentation-models-pytorch.

    Args:
        upsample: the way up, all five: "upconv" (the paper's learned 2x2 transposed convolution), "bilinear",
            "nearest", "transposed" (4x4, starts bilinear) or "unpool" (the switches of the encoder's map, which each
            step needs).
        width: channels at full size, doubled at each level below, never more than the encoder's deepest map has. None
            takes those of the encoder's full-size map, 64 in the paper and VGG, and 16 where there is no such map.
            Or the channels after each step up, deep to shallow, such as (256, 128, 64, 32, 16): there are as many steps
            then, also to levels where the encoder has no map.
        narrow: whether the way up also narrows what it brings up to the channels after the step, as the paper's does.
        join_full_size: whether the encoder's map at full size is put beside too, where there is one (VGG).
        bridge: layers on the deepest map before the way up: None, "convs" (two 3x3 convolutions) or "expand"
            (MobileNetV2's last layer, a 1x1 convolution to four times the channels).
        kernel: of the convolution that gives the scores; odd.
    """

    paper = "Ronneberger, Fischer, Brox: U-Net, arXiv 1505.04597"
    encoder = "unet"
    upsamples: ClassVar[tuple[str, ...]] = ("upconv", "bilinear", "nearest", "transposed", "unpool")

    def __init__(
        self,
        features: Features,
        num_classes: int,
        *,
        upsample: Upsample = "upconv",
        width: int | tuple[int, ...] | None = None,
        narrow: bool = True,
        join_full_size: bool = True,
        bridge: str | None = None,
        kernel: int = 1,
    ) -> None:
        super().__init__(features, num_classes)
        if kernel < 1 or kernel % 2 == 0:
            raise OptionError(f"kernel is odd and at least 1, not {kernel}.")
        if upsample == "unpool" and not narrow:
            raise OptionError("upsample='unpool' needs narrow=True: switches belong to the channels of the map beside.")
        self.bridge, channels = _bridge(bridge, features.channels[-1])
        self.ups = nn.ModuleList()
        self.blocks = nn.ModuleList()
        self.steps: list[tuple[int, int | None]] = []  # the level, and the position of the map beside, if there is one
        for level, wide in _steps(features, width):
            beside = level in features.levels and (level > 0 or join_full_size)
            skip = features.width(level) if beside else 0
            if upsample == "unpool" and not beside:
                raise OptionError(f"upsample='unpool' needs a map beside each step, at level {level} too.")
            raised = skip if upsample == "unpool" else wide if narrow else channels
            self.steps.append((level, features.index(level) if beside else None))
            self.ups.append(upsampling(upsample, channels, raised))
            self.blocks.append(nn.Sequential(conv_block(raised + skip, wide), conv_block(wide, wide)))
            channels = wide
        self.score = score_layer(channels, num_classes, kernel)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = self.bridge(maps[-1])
        for (level, beside), up, block in zip(self.steps, self.ups, self.blocks, strict=True):
            if beside is None:
                x = block(up(x, self._empty(maps[-1], level)))
            else:
                x = block(torch.cat((up(x, maps[beside]), maps[beside]), 1))
        logits: Tensor = self.score(x)
        return logits

    def _empty(self, deepest: Tensor, level: int) -> Tensor:
        """A map without channels, of the size that a level has where the encoder has no map."""
        times = 2 ** (self.features.levels[-1] - level)
        return deepest.new_empty((1, 0, deepest.shape[-2] * times, deepest.shape[-1] * times))


def _steps(features: Features, width: int | tuple[int, ...] | None) -> list[tuple[int, int]]:
    """The level that each step goes up to, and the channels after it."""
    deepest = features.levels[-1]
    if isinstance(width, list | tuple):
        if not 1 <= len(width) <= deepest or min(width) < 1:
            raise OptionError(f"width has 1 to {deepest} numbers on this encoder, each at least 1, not {width}.")
        return list(zip(range(deepest - 1, -1, -1), width, strict=False))
    if width is not None and width < 1:
        raise OptionError(f"width is at least 1, not {width}.")
    width = width or (features.channels[0] if features.levels[0] == 0 else 16)
    return [(level, min(width * 2**level, features.channels[-1])) for level in features.levels[-2::-1]]


def _bridge(kind: str | None, channels: int) -> tuple[nn.Module, int]:
    """The layers on the deepest map, and the channels after them."""
    match kind:
        case None:
            return nn.Identity(), channels
        case "convs":
            return nn.Sequential(conv_block(channels, channels), conv_block(channels, channels)), channels
        case "expand":
            expand = conv_block(channels, 4 * channels, 1)
            expand[2] = nn.ReLU6(inplace=True)
            return expand, 4 * channels
    raise unknown("bridge", kind, ["convs", "expand"], "It is None, 'convs' or 'expand'.")
