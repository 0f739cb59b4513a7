"""SegNet: VGG16's 13 convolutions and their mirror image, upsampled by pooling indices, without skip connections.

Badrinarayanan, Kendall, Cipolla: SegNet, PAMI 2017, arXiv 1511.00561, figure 2. Layers, names and input follow the
authors' segnet_train.prototxt (SegNet-Tutorial).

Pools round up: 360 x 480 becomes 23 x 30 and then 12 x 15 at the deepest level. The last convolution computes the
logits, without batch normalization or ReLU. The prototxt for PASCAL VOC adds dropout, and the one for SUN has different
numbers of classes.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.models.layers.conv import he_init
from segzoo.models.layers.unpooling import Unpool
from segzoo.models.papers.vgg16 import VGG16, convolution, suffixes
from segzoo.spec import ModelSpec

STAGES = (1, 2, 3, 4, 5)


class VGGSegNet(VGG16):
    """Abstract: takes BGR pixels of 0-255, no mean subtracted; logits at image size.

    Args:
        dropout: stages, 1 to 5, with dropout after their pool and after the last convolution of their decoder.
    """

    default_num_classes = 11

    def __init__(self, spec: ModelSpec, dropout: tuple[int, ...]) -> None:
        super().__init__(spec)
        for suffix in suffixes():
            self.add_module(f"conv{suffix}_bn", nn.BatchNorm2d(self.stage_channels[int(suffix[0]) - 1]))
        for stage in dropout:
            self.add_module(f"encdrop{stage}", nn.Dropout(0.5))
            self.add_module(f"decdrop{stage}", nn.Dropout(0.5))
        self.unpool = Unpool()
        channels = self.stage_channels[4]
        for suffix in decoder_suffixes():
            # The last layer of a stage has as many channels as the next stage's pooling indices.
            out_channels = self.stage_channels[int(suffix[0]) - 2] if suffix.endswith("_1") else channels
            self.add_module(f"conv{suffix}_D", convolution(channels, out_channels, 3, padding=1))
            self.add_module(f"conv{suffix}_D_bn", nn.BatchNorm2d(out_channels))
            channels = out_channels
        self.conv1_1_D = nn.Conv2d(channels, spec.num_classes, 3, padding=1)
        he_init(self.conv1_1_D)

    def convolve(self, suffix: str, x: Tensor) -> Tensor:
        """Convolution, batch normalization, ReLU; "4_3" is the encoder's, "4_3_D" the decoder's."""
        y: Tensor = self.get_submodule(f"conv{suffix}_bn")(self.get_submodule(f"conv{suffix}")(x))
        return y.relu()

    def network(self, image: Tensor) -> Tensor:
        x, pre_pools = image, []
        for stage in STAGES:
            pre_pools.append(self.stage(stage, x))
            x = self._drop(f"encdrop{stage}", F.max_pool2d(pre_pools[-1], 2, ceil_mode=True))
        for stage, ref in zip(reversed(STAGES), reversed(pre_pools), strict=True):
            x = self.unpool(x, ref)
            for suffix in decoder_suffixes(stage):
                x = self.convolve(f"{suffix}_D", x)
            x = self._drop(f"decdrop{stage}", x)
        logits: Tensor = self.conv1_1_D(x)
        return logits

    def _drop(self, name: str, x: Tensor) -> Tensor:
        dropped: Tensor = self.get_submodule(name)(x) if hasattr(self, name) else x
        return dropped


def decoder_suffixes(stage: int | None = None) -> list[str]:
    """Suffixes of the decoder's convolutions with batch normalization, "5_3" to "1_2"; or those of one stage."""
    return [suffix for suffix in reversed(suffixes(stage)) if suffix != "1_1"]


class SegNet(VGGSegNet):
    """SegNet without dropout: takes BGR pixels of 0-255, no mean subtracted; logits at image size."""

    paper = "Badrinarayanan, Kendall, Cipolla: SegNet, arXiv 1511.00561"

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, dropout=())
