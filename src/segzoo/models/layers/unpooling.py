"""Unpooling by switches: values go back to where a 2x2 max-pool took its maximum from, zeros elsewhere.

Zeiler and Fergus, arXiv 1311.2901; SegNet (arXiv 1511.00561) and DeconvNet (arXiv 1505.04366) decode with it. "Fixed
demaxpool" is probably this: a secondary source, which `upsampling.py` names.

The switches are recomputed from the map before the pool, so that an encoder need not hand them over. For VGG, whose
maps stand just before each pool, they are bit for bit the switches of the network's own pooling; for any other encoder
they are segzoo's extension of the idea: the maxima of its 2x2 windows.

One operation, three spellings, equal bit for bit on anything but NaN (tests hold them so):
- torch's own max_unpool2d, the fastest;
- scatter, where torch.use_deterministic_algorithms asks for what max_unpool2d refuses;
- comparisons and a pixel shuffle, in an exported graph: onnxruntime has no CUDA kernel for MaxUnpool, and TensorRT
  knows no pooling indices.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Unpool(nn.Module):
    """(N, C, h, w), like (N, C, H, W) -> (N, C, H, W), where h is H/2 rounded either way, and w alike."""

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return unpool(x, like)


def unpool(x: Tensor, like: Tensor) -> Tensor:
    """Puts each value of `x` where the 2x2 max-pool of `like` has its maximum (the first of equals), zeros elsewhere.

    Args:
        x: (N, C, h, w), with h = H/2 rounded up or down, and w alike.
        like: (N, C, H, W), the map as it was before pooling; no gradient goes into it.

    Returns:
        (N, C, H, W)
    """
    height, width = like.shape[-2:]
    h, w = (height + 1) // 2, (width + 1) // 2
    # An encoder that rounds down has no value for an odd last row: it gets zero, which is what max_unpool2d gives.
    x = F.pad(x, (0, w - x.shape[-1], 0, h - x.shape[-2]))
    like = like.detach()
    if torch.compiler.is_exporting():
        return _by_comparison(x, like, h, w)
    _, switches = F.max_pool2d(like, 2, ceil_mode=True, return_indices=True)
    if torch.are_deterministic_algorithms_enabled():
        return _by_scatter(x, switches, height, width)
    return F.max_unpool2d(x, switches, [2, 2], [2, 2], output_size=[height, width])


def _by_scatter(x: Tensor, switches: Tensor, height: int, width: int) -> Tensor:
    zeros = x.new_zeros(*x.shape[:2], height * width)
    return zeros.scatter(2, switches.flatten(2), x.flatten(2)).reshape(*x.shape[:2], height, width)


def _by_comparison(x: Tensor, like: Tensor, h: int, w: int) -> Tensor:
    # Every size comes from one h and one w: with strided slices, the exporter cannot prove the four quarters equal.
    height, width = like.shape[-2:]
    like = F.pad(like, (0, 2 * w - width, 0, 2 * h - height), value=-math.inf)
    rows = like.unflatten(-1, (w, 2)).unflatten(-3, (h, 2))  # type: ignore[no-untyped-call]  # (N, C, h, 2, w, 2)
    a, b, c, d = (rows.select(-3, i).select(-1, j) for i in (0, 1) for j in (0, 1))
    in_upper, left_above, left_below = torch.maximum(a, b) >= torch.maximum(c, d), a >= b, c >= d
    upper, lower = torch.where(in_upper, x, 0), torch.where(in_upper, 0, x)
    quarters = (
        torch.where(left_above, upper, 0),
        torch.where(left_above, 0, upper),
        torch.where(left_below, lower, 0),
        torch.where(left_below, 0, lower),
    )
    return F.pixel_shuffle(torch.stack(quarters, 2).flatten(1, 2), 2)[..., :height, :width]
