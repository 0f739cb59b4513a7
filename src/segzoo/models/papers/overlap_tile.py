"""U-Net's overlap-tile strategy: seamless masks of any image from a network of valid convolutions.

Ronneberger, Fischer, Brox: U-Net, arXiv 1505.04597, section 2 and figure 2. The network predicts only pixels whose
entire context, 92 pixels on each side, is available; beyond the border the image is mirrored. So tiles need no
blending: two tiles predict the same for a pixel that both cover, if tiles start at multiples of 16, the total stride of
the four pools. `Predictor` cuts such tiles for any model whose spec states its context.
"""

from torch import Tensor

from segzoo.errors import ImageError
from segzoo.models.layers.reflection import mirrored_border
from segzoo.models.papers.base import Paper

BORDER = 92
"""Pixels that the valid convolutions remove on each side."""


class OverlapTile(Paper):
    """Abstract: `network` takes sides of 16k + 60 pixels, at least 188, and returns sides that are 184 shorter."""

    size_divisibility = 16
    context = 96  # BORDER, rounded up to the stride of the pools

    def forward_padded(self, image: Tensor, auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        rows, columns = ((BORDER, _output_side(side) - side + BORDER) for side in image.shape[-2:])
        return self.network(mirrored_border(image, rows, columns)), None


def check_size(image: Tensor) -> None:
    """Checks that every pool of the network can halve its input.

    Raises:
        ImageError: a side is not 16k + 60, or is below 188.
    """
    height, width = image.shape[-2:]
    if height < 188 or width < 188 or (height - 60) % 16 or (width - 60) % 16:
        valid = " x ".join(str(_output_side(max(side - 2 * BORDER, 1)) + 2 * BORDER) for side in (height, width))
        raise ImageError(
            f"U-Net's valid convolutions need sides of 16k + 60 pixels, at least 188, such as {valid}, not "
            f"{height} x {width}. model(image) and model.predict mirror the borders and take any size."
        )


def _output_side(side: int) -> int:
    """Smallest output side of the network, 16k + 4, that covers `side` pixels."""
    return (side + 11) // 16 * 16 + 4
