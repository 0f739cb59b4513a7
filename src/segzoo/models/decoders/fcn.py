"""The dilated FCN of torchvision: a small head on the deepest map of an encoder at output stride 8.

Long, Shelhamer, Darrell, arXiv 1411.4038, in the form of torchvision's fcn_resnet50 and fcn_resnet101, whose weights
fit it: 3x3 convolution to a quarter of the channels, batch normalisation, ReLU, dropout 0.1, 1x1 convolution.

What differs from the paper: no skips and no fc6/fc7; dilation keeps the resolution instead.
"""

from typing import cast

from torch import Tensor, nn

from segzoo.models.decoders.base import Decoder
from segzoo.models.features import Features


class FCN(Decoder):
    """One head; with `auxiliary=True` a second one on the level above, for the loss in training only.

    No choice of the way up: nothing goes from level to level, and the model resizes the logits bilinearly, as
    torchvision does.
    """

    paper = "Long, Shelhamer, Darrell: Fully Convolutional Networks, arXiv 1411.4038, as in torchvision"
    encoder = "resnet50"
    output_strides = (8, 16, 32)

    def __init__(self, features: Features, num_classes: int, *, auxiliary: bool = False) -> None:
        super().__init__(features, num_classes)
        self.head = _head(features.channels[-1], num_classes)
        self.auxiliary_head = _head(features.channels[-2], num_classes) if auxiliary else None

    def forward(self, maps: list[Tensor]) -> Tensor:
        logits: Tensor = self.head(maps[-1])
        return logits

    @property
    def last(self) -> nn.Conv2d:
        return cast(nn.Conv2d, self.head[-1])

    def auxiliary(self, maps: list[Tensor]) -> Tensor | None:
        return None if self.auxiliary_head is None else self.auxiliary_head(maps[-2])


def _head(channels: int, num_classes: int) -> nn.Sequential:
    # The order and so the key names are torchvision's.
    return nn.Sequential(
        nn.Conv2d(channels, channels // 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels // 4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.1),
        nn.Conv2d(channels // 4, num_classes, 1),
    )
