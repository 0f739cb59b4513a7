"""SegNet: unpool by the encoder's pooling indices and convolve; a mirror of VGG16, without skip connections.

Badrinarayanan, Kendall, Cipolla: SegNet, PAMI 2017, arXiv 1511.00561, figure 2; layers as in the authors'
segnet_train.prototxt.

Differences from the paper: none on vgg16_bn, whose maps are taken just before its pools. On another encoder the pooling
indices are those of 2x2 windows of its maps (segzoo's extension), a 1x1 convolution first brings the deepest map to the
channels of the next shallower map, and the path ends at the encoder's shallowest map.
"""

from typing import ClassVar, cast

from torch import Tensor, nn

from segzoo.models.decoders.base import Decoder
from segzoo.models.features import Features
from segzoo.models.layers.conv import conv_block, head_conv
from segzoo.models.layers.mirror import mirrored_stages
from segzoo.models.layers.upsampling import Upsample, upsampling


class SegNet(Decoder):
    """The decoder network.

    Args:
        upsample: the upsampling mode, any of the five. "unpool" ("fixed demaxpool") is the paper's; "bilinear" and
            "transposed" resemble its baselines; "nearest" ("naive demaxpool") and "upconv" ("learnable demaxpool") are
            for comparison.
    """

    paper = "Badrinarayanan, Kendall, Cipolla: SegNet, arXiv 1511.00561"
    default_encoder = "vgg16_bn"
    upsample_modes: ClassVar[tuple[str, ...]] = ("unpool", "bilinear", "nearest", "transposed", "upconv")

    def __init__(self, features: Features, num_classes: int, *, upsample: Upsample = "unpool") -> None:
        super().__init__(features, num_classes)
        channels = features.channels[-1]
        self.ups = nn.ModuleList()
        self.stages = nn.ModuleList()
        for stage in mirrored_stages(features):
            self.ups.append(upsampling(upsample, channels, stage.channels))
            blocks: list[nn.Module] = [conv_block(*pair, bias=True) for pair in stage.convolutions]
            channels = stage.convolutions[-1][1]
            if stage.last:
                # The very last convolution is the head: 3x3, with neither normalization nor ReLU.
                blocks[-1] = head_conv(channels, num_classes, kernel=3)
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, maps: list[Tensor]) -> Tensor:
        *refs, x = maps
        for up, stage, ref in zip(self.ups, self.stages, refs[::-1], strict=True):
            x = stage(up(x, ref))
        return x

    @property
    def head(self) -> nn.Conv2d:  # type: ignore[override]
        return cast(nn.Conv2d, cast(nn.Sequential, self.stages[-1])[-1])
