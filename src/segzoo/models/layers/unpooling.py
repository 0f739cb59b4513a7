"""Unpooling: each value returns to the position where a 2x2 max pool had its maximum, with zeros elsewhere.

Zeiler and Fergus, arXiv 1311.2901, call the positions switches; SegNet (arXiv 1511.00561), which calls them pooling
indices, and DeconvNet (arXiv 1505.04366) decode with them. "Fixed demaxpool" is probably this, according to the
secondary source that `upsampling.py` names.

The pooling indices are recomputed from the map before the pool, so that encoders need not return them. For VGG, whose
maps are taken just before each pool, they are exactly the indices of the network's own pooling. For any other encoder
they are segzoo's extension of the idea: the maxima of 2x2 windows of its maps.

There are three implementations, bit-identical on anything but NaN, as the tests check:
- torch's max_unpool2d, the fastest;
- scatter, under torch.use_deterministic_algorithms, which max_unpool2d does not support;
- comparisons and a pixel shuffle, in an exported graph: onnxruntime has no CUDA kernel for MaxUnpool, and TensorRT does
  not support pooling indices.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Unpool(nn.Module):
    """`unpool` as a module: x (N, C, h, w), ref (N, C, H, W) -> (N, C, H, W)."""

    def forward(self, x: Tensor, ref: Tensor) -> Tensor:
        return unpool(x, ref)


def unpool(x: Tensor, ref: Tensor) -> Tensor:
    """Puts each value of `x` where the 2x2 max pool of `ref` has its maximum (the first, if equal), zeros elsewhere.

    Args:
        x: (N, C, h, w), where h is H/2 rounded up or down, and w likewise.
        ref: (N, C, H, W), the map before pooling; it gets no gradient.

    Returns:
        (N, C, H, W)
    """
    height, width = ref.shape[-2:]
    h, w = (height + 1) // 2, (width + 1) // 2
    # If the encoder rounds down, there is no value for an odd last row. It gets zeros, as in max_unpool2d.
    x = F.pad(x, (0, w - x.shape[-1], 0, h - x.shape[-2]))
    ref = ref.detach()
    if torch.compiler.is_exporting():
        return _by_comparison(x, ref, h, w)
    _, indices = F.max_pool2d(ref, 2, ceil_mode=True, return_indices=True)
    if torch.are_deterministic_algorithms_enabled():
        return _by_scatter(x, indices, height, width)
    return F.max_unpool2d(x, indices, [2, 2], [2, 2], output_size=[height, width])


def _by_scatter(x: Tensor, indices: Tensor, height: int, width: int) -> Tensor:
    zeros = x.new_zeros(*x.shape[:2], height * width)
    return zeros.scatter(2, indices.flatten(2), x.flatten(2)).reshape(*x.shape[:2], height, width)


def _by_comparison(x: Tensor, ref: Tensor, h: int, w: int) -> Tensor:
    # All sizes derive from one h and one w: with strided slices, the exporter cannot prove that the quarters match.
    height, width = ref.shape[-2:]
    ref = F.pad(ref, (0, 2 * w - width, 0, 2 * h - height), value=-math.inf)
    windows = ref.unflatten(-1, (w, 2)).unflatten(-3, (h, 2))  # type: ignore[no-untyped-call]  # (N, C, h, 2, w, 2)
    a, b, c, d = (windows.select(-3, i).select(-1, j) for i in (0, 1) for j in (0, 1))
    in_upper, left_above, left_below = torch.maximum(a, b) >= torch.maximum(c, d), a >= b, c >= d
    upper, lower = torch.where(in_upper, x, 0), torch.where(in_upper, 0, x)
    quarters = (
        torch.where(left_above, upper, 0),
        torch.where(left_above, 0, upper),
        torch.where(left_below, lower, 0),
        torch.where(left_below, 0, lower),
    )
    y = F.pixel_shuffle(torch.stack(quarters, 2).flatten(1, 2), 2)
    # Not y[..., :height, :width]: torch 2.11 does not see that height <= 2 * h, and traces an unknown size.
    return y.narrow(-2, 0, height).narrow(-1, 0, width)
