"""The contract between an encoder and a decoder.

An encoder's forward takes (N, C, H, W) and returns a list of (N, channels, height, width) maps, shallow to deep, one
for each entry of its `Features`. A decoder's forward takes that list. Neither knows anything else of the other.
"""

from dataclasses import dataclass

from torch import Tensor

HiddenWeights = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(weight, bias) of a classifier's hidden layers as convolutions: (4096, 512, 7, 7), (4096, 4096, 1, 1) in VGG."""


@dataclass(frozen=True)
class Features:
    """What an encoder returns, shallow to deep.

    Maps are named by level, not by position: the level is the number of times the plain network has halved the image,
    so level 0 is full size and level 5 is 1/32. A family starts where it starts (VGG at level 0, ResNet at 1, ConvNeXt
    at 2), and a decoder loops over what is there.
    """

    levels: tuple[int, ...]
    """Halvings in the plain network. Still 3, 4, 5 when an output stride of 8 keeps all three at 1/8."""

    channels: tuple[int, ...]
    """Channels of each map."""

    strides: tuple[int, ...]
    """What really happened: 8 at level 5 when output_stride=8."""

    before_pool: bool = False
    """True where each map stands just before a 2x2 max-pool (VGG, U-Net's own path): pooling it *is* the next step."""

    classifier: tuple[int, int] | None = None
    """(kernel, channels) of the hidden layers of the network's own classifier, where it has some: (7, 4096) for VGG."""

    def index(self, level: int) -> int:
        """The position of a level's map in the list.

        Raises:
            ValueError: there is no map at this level.
        """
        return self.levels.index(level)

    def width(self, level: int) -> int:
        """The channels of a level's map; ValueError where there is none."""
        return self.channels[self.index(level)]
