"""SegNet: VGG16's 13 convolutions down, their mirror up by the pooling switches, no maps carried across.

Badrinarayanan, Kendall, Cipolla: SegNet, PAMI 2017, arXiv 1511.00561, figure 2; layers, names and input as in the
authors' segnet_train.prototxt (SegNet-Tutorial).

Pools round up: 360 x 480 becomes 23 x 30 and 12 x 15 at the bottom. The last convolution gives the logits, with neither
normalisation nor ReLU. The prototxt for PASCAL VOC has dropout besides, and that for SUN other numbers of classes.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.models.base import ModelConfig
from segzoo.models.layers.conv import he_init
from segzoo.models.layers.unpooling import Unpool
from segzoo.models.papers.vgg16 import VGG16, convolution, numbers

STAGES = (1, 2, 3, 4, 5)


class VGGSegNet(VGG16):
    """Abstract: image of 0-255, BGR, no mean subtracted -> logits of its size.

    Args:
        dropout: the stages, 1 to 5, with dropout after their pool and after their decoder's last convolution.
    """

    classes = 11

    def __init__(self, config: ModelConfig, dropout: tuple[int, ...]) -> None:
        super().__init__(config)
        for number in numbers():
            self.add_module(f"conv{number}_bn", nn.BatchNorm2d(self._width(number)))
        for stage in dropout:
            self.add_module(f"encdrop{stage}", nn.Dropout(0.5))
            self.add_module(f"decdrop{stage}", nn.Dropout(0.5))
        self.unpool = Unpool()
        width = self.widths[4]
        for number in mirrored():
            # The last of a stage gives what the switches of the next one have.
            narrower = self.widths[int(number[0]) - 2] if number.endswith("_1") else width
            self.add_module(f"conv{number}_D", convolution(width, narrower, 3, padding=1))
            self.add_module(f"conv{number}_D_bn", nn.BatchNorm2d(narrower))
            width = narrower
        self.conv1_1_D = nn.Conv2d(width, config.num_classes, 3, padding=1)
        he_init(self.conv1_1_D)

    def _width(self, number: str) -> int:
        return self.widths[int(number[0]) - 1]

    def convolve(self, number: str, x: Tensor) -> Tensor:
        """With its normalisation; "4_3" is the encoder's, "4_3_D" the decoder's."""
        y: Tensor = self.get_submodule(f"conv{number}_bn")(self.get_submodule(f"conv{number}")(x))
        return y.relu()

    def network(self, image: Tensor) -> Tensor:
        x, before_pools = image, []
        for stage in STAGES:
            before_pools.append(self.stage(stage, x))
            x = self._drop(f"encdrop{stage}", F.max_pool2d(before_pools[-1], 2, ceil_mode=True))
        for stage, like in zip(reversed(STAGES), reversed(before_pools), strict=True):
            x = self.unpool(x, like)
            for number in mirrored(stage):
                x = self.convolve(f"{number}_D", x)
            x = self._drop(f"decdrop{stage}", x)
        logits: Tensor = self.conv1_1_D(x)
        return logits

    def _drop(self, name: str, x: Tensor) -> Tensor:
        dropped: Tensor = self.get_submodule(name)(x) if hasattr(self, name) else x
        return dropped


def mirrored(stage: int | None = None) -> list[str]:
    """The decoder's convolutions with normalisation, "5_3" to "1_2"; or those of one stage."""
    return [number for number in reversed(numbers(stage)) if number != "1_1"]


class SegNet(VGGSegNet):
    """SegNet without dropout."""

    paper = "Badrinarayanan, Kendall, Cipolla: SegNet, arXiv 1511.00561"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, dropout=())
