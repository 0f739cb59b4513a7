"""VGG16's thirteen convolutions, by their names in Caffe, which FCN, SegNet, DeconvNet and DeepLab begin with.

Simonyan and Zisserman, arXiv 1409.1556, table 1, column D.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from segzoo.models.base import ModelConfig
from segzoo.models.encoders import create_encoder
from segzoo.models.encoders.classifier import hidden_weights
from segzoo.models.features import HiddenWeights
from segzoo.models.layers.conv import fill, he_init
from segzoo.models.papers.base import Paper

DEPTHS = (2, 2, 3, 3, 3)
"""Convolutions of each stage."""


class VGG16(Paper):
    """Abstract: conv1_1 to conv5_3, each a layer by that name. Pools are those of whoever derives from it."""

    widths: ClassVar[tuple[int, ...]] = (64, 128, 256, 512, 512)
    """Channels of each stage."""

    channel_order = "BGR"

    def __init__(self, config: ModelConfig, *, first_padding: int = 1, last_dilation: int = 1) -> None:
        """`first_padding` is conv1_1's, `last_dilation` that of conv5_1 to conv5_3."""
        super().__init__(config)
        width = config.in_channels
        for number in numbers():
            stage = int(number[0])
            dilation = last_dilation if stage == 5 else 1
            padding = first_padding if number == "1_1" else dilation
            self.add_module(f"conv{number}", convolution(width, self.widths[stage - 1], 3, padding, dilation))
            width = self.widths[stage - 1]

    def stage(self, stage: int, x: Tensor) -> Tensor:
        """The convolutions of a stage (1 to 5), up to its pool."""
        for number in numbers(stage):
            x = self.convolve(number, x)
        return x

    def convolve(self, number: str, x: Tensor) -> Tensor:
        """One convolution ("4_3"), and what stands between it and the next."""
        y: Tensor = self.get_submodule(f"conv{number}")(x)
        return y.relu()

    def start_from(self, weights: str) -> bool:
        encoder = create_encoder("vgg16", in_channels=self.config.in_channels, weights=weights)
        theirs = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
        for number, layer in zip(numbers(), theirs, strict=True):
            self.get_submodule(f"conv{number}").load_state_dict(layer.state_dict())
        if self.channel_order == "BGR":
            first = self.get_parameter("conv1_1.weight")
            with torch.no_grad():
                first.copy_(first.flip(1))
        self.mean, self.std = encoder.mean, encoder.std
        return self._start_hidden(encoder.name, weights)

    def _start_hidden(self, encoder: str, weights: str) -> bool:
        """Where there are hidden layers; False where the weights have none that fit."""
        return True


class VGG16Classifier(VGG16):
    """Abstract: fc6 and fc7 besides; fc6, which is of another size in each paper, is whoever's derives from it."""

    hidden: ClassVar[int] = 4096
    """Channels of fc6 and fc7."""

    fc6: nn.Conv2d
    fc7: nn.Conv2d

    def __init__(self, config: ModelConfig, *, first_padding: int = 1, last_dilation: int = 1) -> None:
        super().__init__(config, first_padding=first_padding, last_dilation=last_dilation)
        self.fc7 = convolution(self.hidden, self.hidden, 1)

    def _start_hidden(self, encoder: str, weights: str) -> bool:
        classifier = hidden_weights(encoder, weights, self.widths[-1])
        return classifier is not None and fill((self.fc6, self.fc7), self.thinned(classifier))

    def thinned(self, weights: HiddenWeights) -> HiddenWeights:
        """What of ImageNet's fc6 (4096, 512, 7, 7) and fc7 (4096, 4096, 1, 1) goes into this network's."""
        return weights


def numbers(stage: int | None = None) -> list[str]:
    """ "1_1", "1_2", "2_1" and so on to "5_3"; or those of one stage."""
    stages = range(1, 6) if stage is None else (stage,)
    return [f"{one}_{number}" for one in stages for number in range(1, DEPTHS[one - 1] + 1)]


def convolution(channels_in: int, channels_out: int, kernel: int, padding: int = 0, dilation: int = 1) -> nn.Conv2d:
    """With a bias, as all of VGG's."""
    layer = nn.Conv2d(channels_in, channels_out, kernel, padding=padding, dilation=dilation)
    he_init(layer)
    return layer
