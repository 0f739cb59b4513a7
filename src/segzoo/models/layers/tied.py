"""A convolution, and the transposed convolution that goes back by the same weights."""

import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.layers.conv import he_init


class SameConvolution(nn.Module):
    """TensorFlow's "same" convolution with a bias, of maps whose sides are multiples of the stride.

    (N, before, H, W) -> (N, channels, H / stride, W / stride). An odd border is wider on the right and at the bottom.
    """

    def __init__(self, before: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        fresh = nn.Conv2d(before, channels, kernel)
        he_init(fresh)
        assert fresh.bias is not None
        self.weight, self.bias = nn.Parameter(fresh.weight.detach()), nn.Parameter(fresh.bias.detach())
        self.kernel, self.stride = kernel, stride
        border = max(0, kernel - stride)
        self.border = (border // 2, border - border // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, self.border * 2), self.weight, self.bias, self.stride)


class Transpose(nn.Module):
    """The transpose of a `SameConvolution` with a bias of its own: (N, channels, h, w) -> (N, gives, h * stride, ...).

    Tied, `weight` is the convolution's own Parameter. It stands in the state dict once, under the convolution's name:
    there are no two entries that loading could part.
    """

    def __init__(self, of: SameConvolution, gives: int, *, tied: bool) -> None:
        super().__init__()
        self._of = (of,)  # in a tuple, so that it is no submodule of this one
        fresh = nn.ConvTranspose2d(of.weight.shape[0], gives, of.kernel)
        he_init(fresh)
        assert fresh.bias is not None
        self.bias = nn.Parameter(fresh.bias.detach())
        self.own: nn.Parameter | None
        self.register_parameter("own", None if tied else nn.Parameter(fresh.weight.detach()))

    @property
    def weight(self) -> nn.Parameter:
        """(channels, gives, kernel, kernel), which is the layout of a convolution back from `gives` to `channels`."""
        return self._of[0].weight if self.own is None else self.own

    def forward(self, x: Tensor) -> Tensor:
        (of,) = self._of
        height, width = (side * of.stride for side in x.shape[-2:])
        beyond = max(0, of.stride - of.kernel)
        x = F.conv_transpose2d(x, self.weight, self.bias, of.stride, of.border[0], beyond)
        return x[..., :height, :width]
