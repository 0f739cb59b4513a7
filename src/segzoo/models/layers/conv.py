"""Convolution blocks, initialised so that training from scratch works."""

from collections.abc import Iterable

import torch
from torch import nn

from segzoo.errors import OptionError
from segzoo.models.features import HiddenWeights


def conv_block(
    channels_in: int, channels_out: int, kernel: int = 3, *, bias: bool = False, transposed: bool = False
) -> nn.Sequential:
    """Convolution that keeps the size, batch normalisation, ReLU.

    Args:
        bias: a bias before the normalisation that makes it redundant: SegNet and DeconvNet have one, and the published
            parameter counts include it.
        transposed: a transposed convolution, DeconvNet's "deconvolution"; at stride 1 it is a convolution with the
            kernel flipped and the channels swapped.
    """
    convolution = (nn.ConvTranspose2d if transposed else nn.Conv2d)(
        channels_in, channels_out, kernel, padding=kernel // 2, bias=bias
    )
    he_init(convolution)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


def he_init(convolution: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """He et al., arXiv 1502.01852: keeps the variance through a ReLU; U-Net, SegNet and torchvision start like this."""
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


def score_layer(channels: int, num_classes: int, kernel: int = 1) -> nn.Conv2d:
    """The convolution that gives the class scores: N(0, 0.01), as DeepLab starts it.

    FCN starts it at zero and reports that random values do no better; zero would keep every gradient below it at zero
    for the first step.
    """
    score = nn.Conv2d(channels, num_classes, kernel, padding=kernel // 2)
    nn.init.normal_(score.weight, std=0.01)
    assert score.bias is not None
    nn.init.zeros_(score.bias)
    return score


def check_hidden(kernel: int, channels: int) -> None:
    """Refuses a size of hidden layers that would change the size of the map, or have no weights.

    Raises:
        OptionError: an even kernel, or less than one channel.
    """
    if kernel % 2 == 0 or min(kernel, channels) < 1:
        raise OptionError(
            f"hidden is (kernel, channels), an odd kernel and a channel at least, not {kernel, channels}."
        )


class HiddenLayers(nn.Sequential):
    """A classifier's hidden layers made convolutional: fc6 (kernel x kernel), fc7 (1 x 1), each with ReLU and dropout.

    Maps keep their size: (N, channels_in, H, W) -> (N, channels, H, W). Long, Shelhamer and Darrell, arXiv 1411.4038,
    section 3.1, without their padding by 100.
    """

    def __init__(self, channels_in: int, kernel: int, channels: int, *, dilation: int = 1) -> None:
        check_hidden(kernel, channels)
        fc6 = nn.Conv2d(channels_in, channels, kernel, padding=kernel // 2 * dilation, dilation=dilation)
        fc7 = nn.Conv2d(channels, channels, 1)
        he_init(fc6)
        he_init(fc7)
        super().__init__()
        # Dropout of single values, not of whole maps: what Caffe's layer does to a convolution's output.
        for name, layer in {"fc6": fc6, "fc7": fc7}.items():
            self.add_module(name, layer)
            self.add_module(f"relu{name[-1]}", nn.ReLU(inplace=True))
            self.add_module(f"dropout{name[-1]}", nn.Dropout(0.5))

    def load(self, weights: HiddenWeights) -> bool:
        """Takes a classifier's; False, and nothing changed, where the shapes differ."""
        return fill((self.get_submodule("fc6"), self.get_submodule("fc7")), weights)


def fill(layers: Iterable[nn.Module], weights: HiddenWeights) -> bool:
    """Copies weights and biases into convolutions; False, and nothing changed, where a shape differs."""
    pairs = [
        (own, value)
        for layer, (weight, bias) in zip(layers, weights, strict=True)
        for own, value in ((layer.get_parameter("weight"), weight), (layer.get_parameter("bias"), bias))
    ]
    if any(own.shape != value.shape for own, value in pairs):
        return False
    with torch.no_grad():
        for own, value in pairs:
            own.copy_(value)
    return True
