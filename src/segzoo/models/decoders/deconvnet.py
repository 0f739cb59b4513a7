"""DeconvNet: VGG16's classifier as convolutions, then unpooling and "deconvolution" up to full size.

Noh, Hong, Han: Learning Deconvolution Network for Semantic Segmentation, ICCV 2015, arXiv 1505.04366, figure 2; layers
as in the authors' released prototxt.

Differences from the paper: fc6 and its mirror keep the size (padding 3), so that any image size works; the paper takes
only 224 x 224. On an encoder without such a classifier, fc6 is a 3x3 convolution to 1024 channels (DeepLab's reduced
form), the pooling indices are those of 2x2 windows of its maps, and the path ends at its shallowest map.
"""

from typing import ClassVar

from torch import Tensor, nn

from segzoo.models.decoders.base import Decoder
from segzoo.models.features import FC6FC7, Features
from segzoo.models.layers.conv import check_fc_head, conv_block, fill, head_conv
from segzoo.models.layers.mirror import mirrored_stages
from segzoo.models.layers.upsampling import Upsample, upsampling


class DeconvNet(Decoder):
    """fc6, fc7, their mirror, and the deconvolution network.

    Args:
        upsample: the upsampling mode, any of the five. "unpool" is the paper's; "bilinear", "nearest", "transposed" and
            "upconv" are for comparison.
        fc_head: (kernel size, channels) of fc6 and fc7; None takes those of the encoder's classifier, or (3, 1024).
    """

    paper = "Noh, Hong, Han: Learning Deconvolution Network, arXiv 1505.04366"
    default_encoder = "vgg16_bn"
    has_fc6_fc7 = True
    upsample_modes: ClassVar[tuple[str, ...]] = ("unpool", "bilinear", "nearest", "transposed", "upconv")

    def __init__(
        self,
        features: Features,
        num_classes: int,
        *,
        upsample: Upsample = "unpool",
        fc_head: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(features, num_classes)
        kernel, channels = fc_head or features.fc_head or (3, 1024)
        check_fc_head(kernel, channels)
        stages = mirrored_stages(features)
        self.fc6 = conv_block(features.channels[-1], channels, kernel, bias=True)
        self.fc7 = conv_block(channels, channels, 1, bias=True)
        self.fc6_deconv = conv_block(channels, stages[0].channels, kernel, bias=True, transposed=True)
        # A stage's output has as many channels as the next stage's pooling indices, so upsampling keeps the number.
        self.ups = nn.ModuleList(upsampling(upsample, stage.channels, stage.channels) for stage in stages)
        self.stages = nn.ModuleList(
            nn.Sequential(*(conv_block(*pair, bias=True, transposed=True) for pair in stage.convolutions))
            for stage in stages
        )
        self.head = head_conv(stages[-1].channels, num_classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        *refs, x = maps
        x = self.fc6_deconv(self.fc7(self.fc6(x)))
        for up, stage, ref in zip(self.ups, self.stages, refs[::-1], strict=True):
            x = stage(up(x, ref))
        logits: Tensor = self.head(x)
        return logits

    def load_fc6_fc7(self, weights: FC6FC7) -> bool:
        return fill((self.fc6[0], self.fc7[0]), weights)
