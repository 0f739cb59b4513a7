"""A convolution, and its transpose with the same weights."""

import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.layers.conv import he_init


class SameConvolution(nn.Module):
    """TensorFlow's "same" convolution with a bias, for maps whose height and width are multiples of the stride.

    (N, in_channels, H, W) -> (N, channels, H / stride, W / stride). If the padding is odd, the extra pixel is on the
    right and at the bottom.
    """

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        initial = nn.Conv2d(in_channels, channels, kernel)
        he_init(initial)
        assert initial.bias is not None
        self.weight, self.bias = nn.Parameter(initial.weight.detach()), nn.Parameter(initial.bias.detach())
        self.kernel, self.stride = kernel, stride
        border = max(0, kernel - stride)
        self.border = (border // 2, border - border // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, self.border * 2), self.weight, self.bias, self.stride)


class Transpose(nn.Module):
    """The transpose of a `SameConvolution`, with a separate bias.

    (N, channels, h, w) -> (N, out_channels, h * stride, w * stride). If `tied`, `weight` is the Parameter of the
    convolution. The state dict holds it once, under the convolution's name, so that loading cannot untie the two.
    """

    def __init__(self, of: SameConvolution, out_channels: int, *, tied: bool) -> None:
        super().__init__()
        self._of = (of,)  # in a tuple, so that it is not registered as a submodule
        initial = nn.ConvTranspose2d(of.weight.shape[0], out_channels, of.kernel)
        he_init(initial)
        assert initial.bias is not None
        self.bias = nn.Parameter(initial.bias.detach())
        self.own: nn.Parameter | None
        self.register_parameter("own", None if tied else nn.Parameter(initial.weight.detach()))

    @property
    def weight(self) -> nn.Parameter:
        """(channels, out_channels, kernel, kernel): the layout of a convolution from `out_channels` to `channels`."""
        return self._of[0].weight if self.own is None else self.own

    def forward(self, x: Tensor) -> Tensor:
        (of,) = self._of
        height, width = (size * of.stride for size in x.shape[-2:])
        output_padding = max(0, of.stride - of.kernel)
        x = F.conv_transpose2d(x, self.weight, self.bias, of.stride, of.border[0], output_padding)
        return x[..., :height, :width]
