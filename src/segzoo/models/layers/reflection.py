"""Mirrored borders of any size, even larger than the image."""

import torch
from torch import Tensor


def reflection(length: int, before: int, after: int, device: torch.device | str = "cpu") -> Tensor:
    """The index of the pixel shown at each of the positions -before to length + after - 1, with mirrors at both ends.

    The outermost pixel is not repeated: for 0 1 2, the three before are 1 2 1 and the three after 1 0 1. An axis of one
    pixel shows that pixel everywhere. torch's own reflection fails if the border is as long as the axis.

    Returns:
        int64 (before + length + after), each 0 to length - 1.
    """
    positions = torch.arange(-before, length + after, device=device).abs()
    # A tensor, not a number: onnxruntime computes numbers from sizes on the CPU and would copy this one to the GPU.
    # Clamped as a tensor too: the exporter assumes that every size is at least 2, and would simplify a max away.
    period = torch.arange(2 * length - 2, 2 * length - 1, device=device).clamp(min=1)
    positions = positions % period
    return torch.minimum(positions, period - positions)


def mirrored_border(image: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Extends (N, C, H, W) by mirrored `rows` (above, below) and `columns` (left, right)."""
    height, width = image.shape[-2:]
    image = image.index_select(-2, reflection(height, *rows, image.device))
    return image.index_select(-1, reflection(width, *columns, image.device))
