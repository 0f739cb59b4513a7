"""Convolution blocks, initialized so that training from scratch works."""

from collections.abc import Iterable

import torch
from torch import nn

from segzoo.errors import OptionError
from segzoo.models.features import FC6FC7


def conv_block(
    channels_in: int, channels_out: int, kernel: int = 3, *, bias: bool = False, transposed: bool = False
) -> nn.Sequential:
    """Convolution that keeps the size, batch normalization, ReLU.

    Args:
        bias: whether the convolution has a bias. The normalization makes it redundant, but SegNet and DeconvNet have it
            and their published parameter counts include it.
        transposed: whether the convolution is transposed, DeconvNet's "deconvolution". At stride 1 this equals a
            convolution with the kernel flipped and the channels swapped.
    """
    convolution = (nn.ConvTranspose2d if transposed else nn.Conv2d)(
        channels_in, channels_out, kernel, padding=kernel // 2, bias=bias
    )
    he_init(convolution)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


def he_init(convolution: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Initializes as He et al., arXiv 1502.01852: variance survives a ReLU. U-Net, SegNet and torchvision use it."""
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


def head_conv(channels: int, num_classes: int, kernel: int = 1) -> nn.Conv2d:
    """The convolution that computes the logits. Weights start as N(0, 0.01), as in DeepLab, and biases at zero.

    FCN starts the weights at zero and reports that random values are no better; but with zero weights all gradients
    below the head are zero in the first step.
    """
    head = nn.Conv2d(channels, num_classes, kernel, padding=kernel // 2)
    nn.init.normal_(head.weight, std=0.01)
    assert head.bias is not None
    nn.init.zeros_(head.bias)
    return head


def check_fc_head(kernel: int, channels: int) -> None:
    """Checks that fc6 and fc7 of this size would have weights and keep the size of the map.

    Raises:
        OptionError: the kernel size is even, or either number is below 1.
    """
    if kernel % 2 == 0 or min(kernel, channels) < 1:
        raise OptionError(
            f"fc_head must be (kernel size, channels), an odd number and at least 1, not {kernel, channels}."
        )


class FCHead(nn.Sequential):
    """A classifier's hidden layers as convolutions: fc6 (kernel x kernel), fc7 (1 x 1), each with ReLU and dropout.

    The size stays: (N, channels_in, H, W) -> (N, channels, H, W). Long, Shelhamer and Darrell, arXiv 1411.4038, section
    3.1, without their padding by 100.
    """

    def __init__(self, channels_in: int, kernel: int, channels: int, *, dilation: int = 1) -> None:
        check_fc_head(kernel, channels)
        fc6 = nn.Conv2d(channels_in, channels, kernel, padding=kernel // 2 * dilation, dilation=dilation)
        fc7 = nn.Conv2d(channels, channels, 1)
        he_init(fc6)
        he_init(fc7)
        super().__init__()
        # Dropout of single values, not of entire channels, as Caffe's layer applies it to a convolution's output.
        for name, layer in {"fc6": fc6, "fc7": fc7}.items():
            self.add_module(name, layer)
            self.add_module(f"relu{name[-1]}", nn.ReLU(inplace=True))
            self.add_module(f"dropout{name[-1]}", nn.Dropout(0.5))

    def load(self, weights: FC6FC7) -> bool:
        """Copies a classifier's weights and biases. If a shape differs, returns False and changes nothing."""
        return fill((self.get_submodule("fc6"), self.get_submodule("fc7")), weights)


def fill(layers: Iterable[nn.Module], weights: FC6FC7) -> bool:
    """Copies weights and biases into convolutions. If a shape differs, returns False and changes nothing."""
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
