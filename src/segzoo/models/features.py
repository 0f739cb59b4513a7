"""The contract between an encoder and a decoder.

An encoder's forward takes (N, C, H, W) and returns a list of maps (N, channels, height, width), shallow to deep, one
for each entry of its `Features`. A decoder's forward takes that list. Neither knows anything else about the other.
"""

from dataclasses import dataclass

from torch import Tensor

FC6FC7 = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(weight, bias) of a classifier's two hidden layers as convolutions: (4096, 512, 7, 7), (4096, 4096, 1, 1) in VGG."""


@dataclass(frozen=True)
class Features:
    """What an encoder returns, shallow to deep.

    Maps are identified by level, not by position. The level is how many times the network without dilation has halved
    the image: level 0 is full size, level 5 is 1/32. The first level depends on the family (VGG 0, ResNet 1, ConvNeXt
    2), and a decoder loops over the levels that exist.
    """

    levels: tuple[int, ...]
    """Halvings without dilation. Still 3, 4, 5 if an output stride of 8 keeps all three at 1/8."""

    channels: tuple[int, ...]
    """Channels of each map."""

    strides: tuple[int, ...]
    """Actual stride of each map: 8 at level 5 if output_stride=8."""

    pre_pool: bool = False
    """Whether each map is taken just before a 2x2 max pool (VGG, U-Net's encoder), so that its pooling indices can be
    recomputed."""

    fc_head: tuple[int, int] | None = None
    """(kernel size, channels) of the hidden layers of the network's classifier: (7, 4096) for VGG; None without any."""

    def index(self, level: int) -> int:
        """The index of a level's map in the list.

        Raises:
            ValueError: there is no map at this level.
        """
        return self.levels.index(level)

    def channels_at(self, level: int) -> int:
        """The channels of a level's map; raises ValueError if there is none."""
        return self.channels[self.index(level)]
