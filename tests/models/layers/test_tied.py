import copy

import pytest
import torch
from torch.nn import functional as F

from segzoo.models.layers.tied import SameConvolution, Transpose

SHAPES = [(5, 2), (5, 1), (7, 2), (3, 3), (2, 4), (4, 1)]
"""Kernel size and stride."""


@pytest.mark.parametrize(("kernel", "stride"), SHAPES)
def test_the_transpose_restores_the_size(kernel: int, stride: int) -> None:
    convolution = SameConvolution(3, 8, kernel, stride)
    image = torch.rand(1, 3, 6 * stride, 5 * stride)
    small = convolution(image)
    assert small.shape == (1, 8, 6, 5)
    assert Transpose(convolution, 3, tied=True)(small).shape == image.shape


@pytest.mark.parametrize(("kernel", "stride"), SHAPES)
def test_it_is_the_transpose_of_the_convolution(kernel: int, stride: int) -> None:
    """<A x, y> = <x, A' y>, without the biases."""
    convolution = SameConvolution(3, 8, kernel, stride).double()
    transpose = Transpose(convolution, 3, tied=True).double()
    with torch.no_grad():
        convolution.bias.zero_()
        transpose.bias.zero_()
        x, y = torch.rand(1, 3, 4 * stride, 3 * stride).double(), torch.rand(1, 8, 4, 3).double()
        torch.testing.assert_close((convolution(x) * y).sum(), (x * transpose(y)).sum())


@pytest.mark.parametrize(("kernel", "before", "after"), [(5, 1, 2), (7, 2, 3), (3, 0, 1)])
def test_odd_padding_has_the_extra_pixel_on_the_right_and_at_the_bottom(kernel: int, before: int, after: int) -> None:
    convolution = SameConvolution(1, 1, kernel, 2)
    image = torch.rand(1, 1, 8, 8)
    expected = F.conv2d(F.pad(image, (before, after, before, after)), convolution.weight, convolution.bias, stride=2)
    torch.testing.assert_close(convolution(image), expected, rtol=0, atol=0)


def test_a_copy_is_tied_to_its_own_convolution() -> None:
    convolution = SameConvolution(3, 8, 5, 2)
    both = torch.nn.ModuleList([convolution, Transpose(convolution, 3, tied=True)])
    first, second = copy.deepcopy(both)
    assert second.weight is first.weight and first.weight is not convolution.weight
