"""DeconvNet: through VGG16's classifier, made convolutional, then back up by unpooling and "deconvolution".

Noh, Hong, Han: Learning Deconvolution Network for Semantic Segmentation, ICCV 2015, arXiv 1505.04366, figure 2; layers
as in the authors' released prototxt.

What differs from the paper: fc6 and its mirror keep the size (pad 3), so that any image size works where the paper
takes 224 x 224 only. On an encoder without a classifier of this kind, fc6 is 3x3 to 1024 channels (what DeepLab
reduces it to), the switches are the maxima of 2x2 windows of its maps, and the path ends at its shallowest map.
"""

from typing import ClassVar

from torch import Tensor, nn

from segzoo.models.decoders.base import Decoder
from segzoo.models.features import Features, HiddenWeights
from segzoo.models.layers.conv import check_hidden, conv_block, fill, score_layer
from segzoo.models.layers.mirror import mirrored
from segzoo.models.layers.upsampling import Upsample, upsampling


class DeconvNet(Decoder):
    """fc6, fc7, their mirror, and the deconvolution network.

    Args:
        upsample: all five ways. "unpool" is the paper; "bilinear", "nearest", "transposed" and "upconv" are for
            comparison.
        hidden: (kernel, channels) of fc6 and fc7; None takes what the encoder's classifier has, or (3, 1024).
    """

    paper = "Noh, Hong, Han: Learning Deconvolution Network, arXiv 1505.04366"
    encoder = "vgg16_bn"
    has_hidden = True
    upsamples: ClassVar[tuple[str, ...]] = ("unpool", "bilinear", "nearest", "transposed", "upconv")

    def __init__(
        self,
        features: Features,
        num_classes: int,
        *,
        upsample: Upsample = "unpool",
        hidden: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(features, num_classes)
        kernel, channels = hidden or features.classifier or (3, 1024)
        check_hidden(kernel, channels)
        plan = mirrored(features)
        self.fc6 = conv_block(features.channels[-1], channels, kernel, bias=True)
        self.fc7 = conv_block(channels, channels, 1, bias=True)
        self.fc6_deconv = conv_block(channels, plan[0].channels, kernel, bias=True, transposed=True)
        # Each stage hands on the channels that the next one's switches have, so no way up has to change them.
        self.ups = nn.ModuleList(upsampling(upsample, stage.channels, stage.channels) for stage in plan)
        self.stages = nn.ModuleList(
            nn.Sequential(*(conv_block(*pair, bias=True, transposed=True) for pair in stage.convolutions))
            for stage in plan
        )
        self.score = score_layer(plan[-1].channels, num_classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        *likes, x = maps
        x = self.fc6_deconv(self.fc7(self.fc6(x)))
        for up, stage, like in zip(self.ups, self.stages, likes[::-1], strict=True):
            x = stage(up(x, like))
        logits: Tensor = self.score(x)
        return logits

    def load_hidden(self, weights: HiddenWeights) -> bool:
        return fill((self.fc6[0], self.fc7[0]), weights)
