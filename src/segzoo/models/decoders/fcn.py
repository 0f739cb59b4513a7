"""The dilated FCN of torchvision: a small head on the deepest map of an encoder at output stride 8.

Long, Shelhamer, Darrell, arXiv 1411.4038, in the form of torchvision's fcn_resnet50 and fcn_resnet101, whose weights
fit: 3x3 convolution to a quarter of the channels, batch normalization, ReLU, dropout 0.1, 1x1 convolution.

Differences from the paper: no skip connections and no fc6/fc7; dilation keeps the resolution instead.
"""

from typing import cast

from torch import Tensor, nn

from segzoo.models.decoders.base import Decoder
from segzoo.models.features import Features


class FCN(Decoder):
    """One head. There is no option `upsample`: the decoder uses a single map, and the model resizes the logits
    bilinearly, as torchvision does.

    Args:
        auxiliary: whether there is a second head, on the next shallower level, for the training loss only.
    """

    paper = "Long, Shelhamer, Darrell: Fully Convolutional Networks, arXiv 1411.4038, as in torchvision"
    default_encoder = "resnet50"
    output_strides = (8, 16, 32)

    def __init__(self, features: Features, num_classes: int, *, auxiliary: bool = False) -> None:
        super().__init__(features, num_classes)
        self.classifier = _classifier(features.channels[-1], num_classes)
        self.aux_classifier = _classifier(features.channels[-2], num_classes) if auxiliary else None

    def forward(self, maps: list[Tensor]) -> Tensor:
        logits: Tensor = self.classifier(maps[-1])
        return logits

    @property
    def head(self) -> nn.Conv2d:  # type: ignore[override]
        return cast(nn.Conv2d, self.classifier[-1])

    def auxiliary(self, maps: list[Tensor]) -> Tensor | None:
        return None if self.aux_classifier is None else self.aux_classifier(maps[-2])


def _classifier(channels: int, num_classes: int) -> nn.Sequential:
    # In torchvision's order, so that the parameters have the same names.
    return nn.Sequential(
        nn.Conv2d(channels, channels // 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels // 4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.1),
        nn.Conv2d(channels // 4, num_classes, 1),
    )
