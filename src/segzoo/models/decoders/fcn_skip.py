"""FCN-32s, FCN-16s, FCN-8s: score the deepest map, add the scores of shallower ones on the way up.

Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR 2015, arXiv 1411.4038, figure 3.

What differs from the paper: fc6 keeps the size (pad 3) where the paper pads the image by 100 and crops; upsampling is
bilinear interpolation unless `upsample="transposed"` asks for the paper's learned kernels (the last step is always
fixed, as in the paper); scores start at N(0, 0.01). With an encoder that has no hidden classifier layers there is no
fc6 or fc7 to make convolutional, and the deepest map is scored directly, as the paper does with GoogLeNet.
"""

from itertools import pairwise
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.decoders.base import Decoder
from segzoo.models.features import Features, HiddenWeights
from segzoo.models.layers.conv import HiddenLayers, score_layer
from segzoo.models.layers.upsampling import Interpolate, Upsample, upsampling


class _FCN(Decoder):
    """Scores at the deepest level and at each of the `skips`, fused by addition. Abstract.

    Args:
        upsample: the way from one level to the next: "bilinear", "nearest", "transposed" (the paper's) or "upconv". Not
            "unpool": what goes up is scores, one map a class, and the encoder's switches belong to its own channels.
            Where dilation has brought two levels to one size there is no way up between them.
        hidden: (kernel, channels) of fc6 and fc7, such as (7, 4096); None takes what the encoder's classifier has.
    """

    paper = "Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, arXiv 1411.4038"
    encoder = "vgg16"
    output_strides = (32, 16, 8)
    has_hidden = True
    upsamples: ClassVar[tuple[str, ...]] = ("bilinear", "nearest", "transposed", "upconv")
    skips: ClassVar[tuple[int, ...]]
    """Levels of the added scores, deep to shallow."""

    def __init__(
        self,
        features: Features,
        num_classes: int,
        *,
        upsample: Upsample = "bilinear",
        hidden: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(features, num_classes)
        kernel_channels = hidden or features.classifier
        channels = features.width(5)
        self.hidden: nn.Module = nn.Identity()
        if kernel_channels:
            self.hidden = HiddenLayers(channels, *kernel_channels)
            channels = kernel_channels[1]
        self.score = score_layer(channels, num_classes)
        # VGG's pool4 has the channels of the map before it, one level up.
        shift = 1 if features.before_pool else 0
        self.skip_scores = nn.ModuleList(score_layer(features.width(k - shift), num_classes) for k in self.skips)
        # Levels that dilation has brought to one size need no way up from one to the next.
        strides = [features.strides[features.index(k)] for k in (5, *self.skips)]
        self.ups = nn.ModuleList(
            upsampling(upsample, num_classes, num_classes) if deep > shallow else Interpolate("bilinear")
            for deep, shallow in pairwise(strides)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        scores: Tensor = self.score(self.hidden(maps[self.features.index(5)]))
        for level, score, up in zip(self.skips, self.skip_scores, self.ups, strict=True):
            skip = score(self._pooled(maps, level))
            scores = up(scores, skip) + skip
        return scores

    @property
    def last(self) -> nn.Conv2d:
        return cast(nn.Conv2d, self.skip_scores[-1]) if self.skips else self.score

    def load_hidden(self, weights: HiddenWeights) -> bool:
        return isinstance(self.hidden, HiddenLayers) and self.hidden.load(weights)

    def _pooled(self, maps: list[Tensor], level: int) -> Tensor:
        """The paper's pool3 and pool4: for VGG the pooled map of the level before, else the level's own map."""
        if not self.features.before_pool:
            return maps[self.features.index(level)]
        position = self.features.index(level)
        dilated = self.features.strides[position] == self.features.strides[position - 1]
        return maps[position - 1] if dilated else F.max_pool2d(maps[position - 1], 2)


class FCN32s(_FCN):
    """One score, on the deepest map.

    There is no step from level to level, so `upsample` has one value: the bilinear resizing to the image's size.
    """

    levels = (5,)
    upsamples = ("bilinear",)
    skips = ()


class FCN16s(_FCN):
    """Scores of levels 5 and 4."""

    levels = (4, 5)
    skips = (4,)


class FCN8s(_FCN):
    """Scores of levels 5, 4 and 3."""

    levels = (3, 4, 5)
    skips = (4, 3)
