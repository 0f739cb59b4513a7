"""VGG16's thirteen convolutions under their Caffe names: the encoder of FCN, SegNet, DeconvNet and DeepLab.

Simonyan and Zisserman, arXiv 1409.1556, table 1, column D.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from segzoo.models.encoders import create_encoder
from segzoo.models.encoders.fc6_fc7 import fc6_fc7_weights
from segzoo.models.features import FC6FC7
from segzoo.models.layers.conv import fill, he_init
from segzoo.models.papers.base import Paper
from segzoo.spec import ModelSpec

DEPTHS = (2, 2, 3, 3, 3)
"""Number of convolutions in each stage."""


class VGG16(Paper):
    """Abstract: the layers conv1_1 to conv5_3. Subclasses define the pools."""

    stage_channels: ClassVar[tuple[int, ...]] = (64, 128, 256, 512, 512)
    """Output channels of each stage."""

    channel_order = "BGR"

    def __init__(self, spec: ModelSpec, *, first_padding: int = 1, stage5_dilation: int = 1) -> None:
        """`first_padding` applies to conv1_1, `stage5_dilation` to conv5_1, conv5_2 and conv5_3."""
        super().__init__(spec)
        in_channels = spec.in_channels
        for suffix in suffixes():
            stage = int(suffix[0])
            dilation = stage5_dilation if stage == 5 else 1
            padding = first_padding if suffix == "1_1" else dilation
            out_channels = self.stage_channels[stage - 1]
            self.add_module(f"conv{suffix}", convolution(in_channels, out_channels, 3, padding, dilation))
            in_channels = out_channels

    def stage(self, stage: int, x: Tensor) -> Tensor:
        """Applies the convolutions of a stage (1 to 5), without its pool."""
        for suffix in suffixes(stage):
            x = self.convolve(suffix, x)
        return x

    def convolve(self, suffix: str, x: Tensor) -> Tensor:
        """Applies one convolution ("4_3") and the layers between it and the next."""
        y: Tensor = self.get_submodule(f"conv{suffix}")(x)
        return y.relu()

    def start_from(self, weights: str) -> bool:
        encoder = create_encoder("vgg16", in_channels=self.spec.in_channels, weights=weights)
        convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
        for suffix, layer in zip(suffixes(), convolutions, strict=True):
            self.get_submodule(f"conv{suffix}").load_state_dict(layer.state_dict())
        if self.spec.channel_order == "BGR":
            first = self.get_parameter("conv1_1.weight")
            with torch.no_grad():
                first.copy_(first.flip(1))
        self.set_normalization(encoder.mean, encoder.std)
        return self._fill_fc6_fc7(encoder.name, weights)

    def _fill_fc6_fc7(self, encoder: str, weights: str) -> bool:
        """Loads fc6 and fc7 if the network has them; False if the weights contain none that fit."""
        return True


class VGG16Classifier(VGG16):
    """Abstract: VGG16 with fc7. Subclasses define fc6, whose size differs between papers."""

    fc_channels: ClassVar[int] = 4096
    """Output channels of fc6 and fc7."""

    fc6: nn.Conv2d
    fc7: nn.Conv2d

    def __init__(self, spec: ModelSpec, *, first_padding: int = 1, stage5_dilation: int = 1) -> None:
        super().__init__(spec, first_padding=first_padding, stage5_dilation=stage5_dilation)
        self.fc7 = convolution(self.fc_channels, self.fc_channels, 1)

    def _fill_fc6_fc7(self, encoder: str, weights: str) -> bool:
        classifier = fc6_fc7_weights(encoder, weights, self.stage_channels[-1])
        return classifier is not None and fill((self.fc6, self.fc7), self.subsample_fc6_fc7(classifier))

    def subsample_fc6_fc7(self, weights: FC6FC7) -> FC6FC7:
        """Reduces ImageNet's fc6 (4096, 512, 7, 7) and fc7 (4096, 4096, 1, 1) to this network's shapes."""
        return weights


def suffixes(stage: int | None = None) -> list[str]:
    """Suffixes of the layer names, "1_1", "1_2", "2_1" to "5_3"; or those of one stage."""
    stages = range(1, 6) if stage is None else (stage,)
    return [f"{stage}_{number}" for stage in stages for number in range(1, DEPTHS[stage - 1] + 1)]


def convolution(in_channels: int, out_channels: int, kernel: int, padding: int = 0, dilation: int = 1) -> nn.Conv2d:
    """A convolution with a bias, as all of VGG's are, in He initialization."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation)
    he_init(layer)
    return layer
