"""FCN-32s, FCN-16s, FCN-8s: class scores of the deepest map, upsampled and added to those of shallower maps.

Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR 2015, arXiv 1411.4038, figure 3.

Differences from the paper: fc6 keeps the size (padding 3), whereas the paper pads the image by 100 and crops;
upsampling is bilinear interpolation unless `upsample="transposed"` selects the paper's learned kernels (the last
upsampling is always fixed, as in the paper); the classifiers' weights start as N(0, 0.01). If the encoder's network has
no fc6 and fc7, the classifier is applied to the deepest map directly, as in the paper's GoogLeNet.
"""

from itertools import pairwise
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.decoders.base import Decoder
from segzoo.models.features import FC6FC7, Features
from segzoo.models.layers.conv import FCHead, head_conv
from segzoo.models.layers.upsampling import Interpolate, Upsample, upsampling


class _FCN(Decoder):
    """Abstract. Class scores at the deepest level and at each of the `skips`, fused by addition.

    Args:
        upsample: the upsampling mode between levels: "bilinear", "nearest", "transposed" (the paper's) or "upconv". Not
            "unpool": class scores are upsampled, and the pooling indices belong to the encoder's channels. Nothing is
            upsampled between two levels that dilation keeps at the same size.
        fc_head: (kernel size, channels) of fc6 and fc7, such as (7, 4096); None takes those of the encoder's network.
    """

    paper = "Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, arXiv 1411.4038"
    default_encoder = "vgg16"
    output_strides = (32, 16, 8)
    has_fc6_fc7 = True
    upsample_modes: ClassVar[tuple[str, ...]] = ("bilinear", "nearest", "transposed", "upconv")
    skips: ClassVar[tuple[int, ...]]
    """Levels whose scores are added, deep to shallow."""

    def __init__(
        self,
        features: Features,
        num_classes: int,
        *,
        upsample: Upsample = "bilinear",
        fc_head: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(features, num_classes)
        fc_head = fc_head or features.fc_head
        channels = features.channels_at(5)
        self.fc_head: nn.Module = nn.Identity()
        if fc_head:
            self.fc_head = FCHead(channels, *fc_head)
            channels = fc_head[1]
        self.classifier = head_conv(channels, num_classes)
        # VGG's pool4 has the channels of the map before it, one level up.
        shift = 1 if features.pre_pool else 0
        self.skip_classifiers = nn.ModuleList(
            head_conv(features.channels_at(k - shift), num_classes) for k in self.skips
        )
        # Between levels that dilation keeps at the same size, interpolation is the identity.
        strides = [features.strides[features.index(k)] for k in (5, *self.skips)]
        self.ups = nn.ModuleList(
            upsampling(upsample, num_classes, num_classes) if deep > shallow else Interpolate("bilinear")
            for deep, shallow in pairwise(strides)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        scores: Tensor = self.classifier(self.fc_head(maps[self.features.index(5)]))
        for level, classifier, up in zip(self.skips, self.skip_classifiers, self.ups, strict=True):
            skip = classifier(self._pooled(maps, level))
            scores = up(scores, skip) + skip
        return scores

    @property
    def head(self) -> nn.Conv2d:  # type: ignore[override]
        return cast(nn.Conv2d, self.skip_classifiers[-1]) if self.skips else self.classifier

    def load_fc6_fc7(self, weights: FC6FC7) -> bool:
        return isinstance(self.fc_head, FCHead) and self.fc_head.load(weights)

    def _pooled(self, maps: list[Tensor], level: int) -> Tensor:
        """The paper's pool3 or pool4: for VGG the pooled map of the next shallower level, else the level's own map."""
        if not self.features.pre_pool:
            return maps[self.features.index(level)]
        position = self.features.index(level)
        dilated = self.features.strides[position] == self.features.strides[position - 1]
        return maps[position - 1] if dilated else F.max_pool2d(maps[position - 1], 2)


class FCN32s(_FCN):
    """Scores of level 5 only.

    Nothing is upsampled between levels, so `upsample` has one value: the bilinear resizing to the image's size.
    """

    levels = (5,)
    upsample_modes = ("bilinear",)
    skips = ()


class FCN16s(_FCN):
    """Scores of levels 5 and 4."""

    levels = (4, 5)
    skips = (4,)


class FCN8s(_FCN):
    """Scores of levels 5, 4 and 3."""

    levels = (3, 4, 5)
    skips = (4, 3)
