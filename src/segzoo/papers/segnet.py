"""SegNet: VGG16's 13 convolutions down, their mirror up by the pooling switches, no maps carried across.

Badrinarayanan, Kendall, Cipolla: SegNet, PAMI 2017, arXiv 1511.00561, figure 2; layers, names and input as in the
authors' segnet_train.prototxt (SegNet-Tutorial).

Pools round up: 360 x 480 becomes 23 x 30 and 12 x 15 at the bottom. The last convolution gives the logits, with neither
normalisation nor ReLU. The prototxt for PASCAL VOC has dropout besides, and that for SUN other numbers of classes.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.layers.conv import he_init
from segzoo.layers.unpooling import Unpool
from segzoo.model import ModelConfig
from segzoo.papers.base import Paper

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions of VGG16's stages."""


class VGGSegNet(Paper):
    """Abstract: image of 0-255, BGR, no mean subtracted -> logits of its size.

    Args:
        dropout: the stages, 1 to 5, with dropout after their pool and after their decoder's last convolution.
    """

    classes = 11
    channel_order = "BGR"

    def __init__(self, config: ModelConfig, dropout: tuple[int, ...]) -> None:
        super().__init__(config)
        self.unpool = Unpool()
        before = config.in_channels
        for stage, (channels, depth) in enumerate(STAGES, 1):
            for number in range(1, depth + 1):
                self._add(f"conv{stage}_{number}", before, channels)
                before = channels
            if stage in dropout:
                self.add_module(f"encdrop{stage}", nn.Dropout(0.5))
                self.add_module(f"decdrop{stage}", nn.Dropout(0.5))
        for stage, (channels, depth) in reversed(list(enumerate(STAGES, 1))):
            for number in range(depth, 1, -1):
                self._add(f"conv{stage}_{number}_D", channels, channels)
            if stage > 1:
                self._add(f"conv{stage}_1_D", channels, STAGES[stage - 2][0])
        self.conv1_1_D = nn.Conv2d(64, config.num_classes, 3, padding=1)
        he_init(self.conv1_1_D)

    def _add(self, name: str, before: int, channels: int) -> None:
        """A convolution with a bias, and its normalisation."""
        convolution = nn.Conv2d(before, channels, 3, padding=1)
        he_init(convolution)
        self.add_module(name, convolution)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(channels))

    def network(self, image: Tensor) -> Tensor:
        x, before_pools = image, []
        for stage, (_, depth) in enumerate(STAGES, 1):
            for number in range(1, depth + 1):
                x = self._block(f"conv{stage}_{number}", x)
            before_pools.append(x)
            x = self._drop(f"encdrop{stage}", F.max_pool2d(x, 2, ceil_mode=True))
        for stage, (_, depth) in reversed(list(enumerate(STAGES, 1))):
            x = self.unpool(x, before_pools[stage - 1])
            for number in range(depth, 1 if stage == 1 else 0, -1):
                x = self._block(f"conv{stage}_{number}_D", x)
            x = self._drop(f"decdrop{stage}", x)
        logits: Tensor = self.conv1_1_D(x)
        return logits

    def _block(self, name: str, x: Tensor) -> Tensor:
        return F.relu(self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x)), inplace=True)

    def _drop(self, name: str, x: Tensor) -> Tensor:
        dropped: Tensor = self.get_submodule(name)(x) if hasattr(self, name) else x
        return dropped


class SegNet(VGGSegNet):
    """SegNet without dropout."""

    paper = "Badrinarayanan, Kendall, Cipolla: SegNet, arXiv 1511.00561"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, dropout=())
