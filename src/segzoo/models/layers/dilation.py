"""Reduces the output stride of any convolutional network: strides become 1, and the layers after them are dilated.

Chen et al., arXiv 1412.7062, section 2.1 (the "hole algorithm"): removing a subsampling step and dilating the kernels
after it computes the same values as before on the old grid, and new ones in between. So for every network that `dilate`
accepts, dilated[..., ::s, ::s] == plain, with s = 32 / output_stride. Tests check this for many networks.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from segzoo.errors import PairingError


def dry_run(net: nn.Module, in_channels: int, size: int) -> list[Tensor]:
    """Runs `net` on a square image on the meta device, whatever device its weights are on: shapes, no arithmetic."""
    weights = {name: t.to("meta") for name, t in [*net.named_parameters(), *net.named_buffers()]}
    image = torch.empty(1, in_channels, size, size, device="meta")
    training = net.training
    try:
        with torch.no_grad():
            maps: list[Tensor] = functional_call(net.eval(), weights, (image,))
    finally:
        net.train(training)
    return list(maps)


def dilate(net: nn.Module, in_channels: int, output_stride: int, size: int = 256) -> None:
    """Changes `net` in place so that no map is smaller than 1/output_stride of the image.

    A dry run measures the stride at the input of each convolution and pool, in the order of execution, not of
    registration. If the stride at a layer's output would exceed `output_stride`, the layer's own stride becomes 1. If
    the stride at its input exceeds it too, the layer is dilated by the ratio of the two.

    Args:
        in_channels: channels of the image.
        output_stride: 8 or 16.
        size: height and width of the dry run's image.

    Raises:
        PairingError: a layer cannot be dilated so that the old values stay; `net` is then unchanged.
    """
    strides: dict[nn.Module, int] = {}

    def measure(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # Rounded in the logarithm: xception's unpadded stem turns 256 into 125, which counts as half.
        strides.setdefault(module, 2 ** round(math.log2(size / inputs[0].shape[-1])))

    types = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    hooks = [m.register_forward_pre_hook(measure) for m in net.modules() if isinstance(m, types)]
    try:
        dry_run(net, in_channels, size)
    finally:
        for hook in hooks:
            hook.remove()

    names = {module: name for name, module in net.named_modules()}
    changes: list[tuple[nn.Module, int]] = []
    for module, stride in strides.items():
        kernel, own_stride = _pair(module.kernel_size)[0], _pair(module.stride)[0]
        if stride * own_stride <= output_stride:
            continue
        if (not isinstance(module, nn.MaxPool2d) and kernel % 2 == 0) or isinstance(module, nn.AvgPool2d):
            raise PairingError(
                f"layer {names[module]!r} ({type(module).__name__} with a {kernel}x{kernel} kernel) cannot be dilated"
            )
        changes.append((module, max(1, stride // output_stride)))
    for module, dilation in changes:
        if isinstance(module, nn.Conv2d):
            _dilate_convolution(module, dilation)
        else:
            assert isinstance(module, nn.MaxPool2d)
            net.set_submodule(names[module], DilatedMaxPool(module, dilation))


def _dilate_convolution(convolution: nn.Conv2d, dilation: int) -> None:
    convolution.stride = (1, 1)
    if convolution.kernel_size == (1, 1):
        return  # no effect but on the last bits: a dilated 1x1 convolution makes the library choose another kernel
    convolution.dilation = tuple(d * dilation for d in convolution.dilation)
    if isinstance(convolution.padding, tuple):
        convolution.padding = tuple(p * dilation for p in convolution.padding)


class DilatedMaxPool(nn.Module):
    """A dilated max pool at stride 1; the map keeps its size.

    nn.MaxPool2d cannot do this: it rejects a padding of more than half the kernel, and pads symmetrically.
    """

    def __init__(self, pool: nn.MaxPool2d, dilation: int) -> None:
        super().__init__()
        self.kernel, padding = _pair(pool.kernel_size)[0], _pair(pool.padding)[0]
        self.dilation = dilation
        before, after = padding * dilation, (self.kernel - 1 - padding) * dilation
        self.padding = (before, after, before, after)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, self.padding, value=-math.inf), self.kernel, stride=1, dilation=self.dilation)


def _pair(value: object) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)
