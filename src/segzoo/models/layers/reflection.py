"""Mirrored borders of any width, also where the image is smaller than the border."""

import torch
from torch import Tensor


def reflection(length: int, before: int, after: int, device: torch.device | str = "cpu") -> Tensor:
    """Which pixel of an axis each of the positions -before to length + after - 1 shows, when both ends are mirrors.

    The outermost pixel is not repeated: of 0 1 2, three before are 1 2 1 and three after 1 0 1. An image of one pixel
    shows that one everywhere. torch's own reflection is refused where the border is as long as the axis.

    Returns:
        int64 (before + length + after), each 0 to length - 1.
    """
    places = torch.arange(-before, length + after, device=device).abs()
    # A tensor and not a number: onnxruntime computes numbers from sizes on the CPU, and would copy one to the GPU.
    # It is clamped as a tensor too, since the exporter takes every size for 2 or more, and simplifies max(0, 1) away.
    period = torch.arange(2 * length - 2, 2 * length - 1, device=device).clamp(min=1)
    places = places % period
    return torch.minimum(places, period - places)


def mirrored_border(image: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """(N, C, H, W) with so many mirrored rows above and below, and so many columns on the left and on the right."""
    height, width = image.shape[-2:]
    image = image.index_select(-2, reflection(height, *rows, image.device))
    return image.index_select(-1, reflection(width, *columns, image.device))
