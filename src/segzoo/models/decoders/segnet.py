"""SegNet: unpool by the encoder's own switches, convolve; a mirror of VGG16, with no maps carried across.

Badrinarayanan, Kendall, Cipolla: SegNet, PAMI 2017, arXiv 1511.00561, figure 2; layers as in the authors'
segnet_train.prototxt.

What differs from the paper: nothing on vgg16_bn, whose maps stand just before its pools. On another encoder the
switches are the maxima of 2x2 windows of its maps (segzoo's extension), a 1x1 convolution first brings the deepest map
to the channels of the map above it, and the path ends at the encoder's shallowest map.
"""

from typing import ClassVar, cast

from torch import Tensor, nn

from segzoo.models.decoders.base import Decoder
from segzoo.models.features import Features
from segzoo.models.layers.conv import conv_block, score_layer
from segzoo.models.layers.mirror import mirrored
from segzoo.models.layers.upsampling import Upsample, upsampling


class SegNet(Decoder):
    """The decoding half.

    Args:
        upsample: all five ways. "unpool" ("fixed demaxpool") is the paper; "bilinear" and "transposed" are like its own
            baselines; "nearest" ("naive demaxpool") and "upconv" ("learnable demaxpool") are for comparison.
    """

    paper = "Badrinarayanan, Kendall, Cipolla: SegNet, arXiv 1511.00561"
    encoder = "vgg16_bn"
    upsamples: ClassVar[tuple[str, ...]] = ("unpool", "bilinear", "nearest", "transposed", "upconv")

    def __init__(self, features: Features, num_classes: int, *, upsample: Upsample = "unpool") -> None:
        super().__init__(features, num_classes)
        channels = features.channels[-1]
        self.ups = nn.ModuleList()
        self.stages = nn.ModuleList()
        for stage in mirrored(features):
            self.ups.append(upsampling(upsample, channels, stage.channels))
            blocks: list[nn.Module] = [conv_block(*pair, bias=True) for pair in stage.convolutions]
            channels = stage.convolutions[-1][1]
            if stage.last:
                # The very last convolution gives the scores: 3x3, with neither normalisation nor ReLU.
                blocks[-1] = score_layer(channels, num_classes, kernel=3)
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, maps: list[Tensor]) -> Tensor:
        *likes, x = maps
        for up, stage, like in zip(self.ups, self.stages, likes[::-1], strict=True):
            x = stage(up(x, like))
        return x

    @property
    def last(self) -> nn.Conv2d:
        return cast(nn.Conv2d, cast(nn.Sequential, self.stages[-1])[-1])
