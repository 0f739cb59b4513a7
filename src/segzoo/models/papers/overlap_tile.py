"""U-Net's overlap-tile strategy: seamless masks of any image from a network of valid convolutions.

Ronneberger, Fischer, Brox: U-Net, arXiv 1505.04597, section 2 and figure 2. The network predicts only pixels whose
entire context, 92 pixels on each side, is available; beyond the border the image is mirrored. So tiles need no
blending: two tiles predict the same for a pixel that both cover, if tiles start at multiples of 16, the total stride of
the four pools.
"""

from collections.abc import Sequence
from typing import Any, overload

import torch
from numpy.typing import NDArray
from torch import Tensor

from segzoo._registry import check_predict_options
from segzoo.data.images import ImageLike, read_image
from segzoo.errors import ImageError, OptionError
from segzoo.models.base import evaluating
from segzoo.models.layers.reflection import mirrored_border, reflection
from segzoo.models.papers.base import Paper

BORDER = 92
"""Pixels that the valid convolutions remove on each side."""


class OverlapTile(Paper):
    """Abstract: `network` takes sides of 16k + 60 pixels, at least 188, and returns sides that are 184 shorter."""

    def forward_padded(self, image: Tensor, auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        rows, columns = ((BORDER, _output_side(side) - side + BORDER) for side in image.shape[-2:])
        return self.network(mirrored_border(image, rows, columns)), None

    @overload  # a str is a sequence of str to the type checker
    def predict(self, image: ImageLike, *, tile: int | None = None) -> NDArray[Any]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, image: Sequence[ImageLike], *, tile: int | None = None) -> list[NDArray[Any]]: ...
    def predict(
        self, image: ImageLike | Sequence[ImageLike], *, tile: int | None = None, **others: Any
    ) -> NDArray[Any] | list[NDArray[Any]]:
        """As `SegmentationModel.predict`, with tiling for images too large for memory.

        Args:
            tile: side of the square that the network takes at once, pixels: 16k + 60 and at least 204; 572 in the
                paper. None takes the whole image. The mask is the same up to rounding.

        Raises:
            OptionError: an invalid tile size, or an unknown option.
            ImageError: as `SegmentationModel.predict`.
        """
        check_predict_options(self.spec.decoder, others)
        if tile is None:
            return super().predict(image)
        if type(tile) is not int or tile < 204 or (tile - 60) % 16:
            raise OptionError(f"tile must be 16k + 60 pixels and at least 204, such as 204, 380 or 572, not {tile!r}.")
        if isinstance(image, list | tuple):
            return [self.predict(item, tile=tile) for item in image]
        self.warn_of_new_head()
        pixels = torch.tensor(read_image(image, self.spec.in_channels))  # type: ignore[arg-type]
        with evaluating(self), torch.inference_mode():
            result: NDArray[Any] = self._predict_tiles(pixels, tile - 2 * BORDER - 4).numpy()
        return result

    def _predict_tiles(self, pixels: Tensor, step: int) -> Tensor:
        """Mask (H, W), computed in squares of `step` pixels."""
        height, width = pixels.shape[:2]
        rows, columns = (reflection(side, BORDER, BORDER + 15) for side in (height, width))
        device = next(self.parameters()).device
        strips: list[Tensor] = []
        for top in range(0, height, step):
            strip: list[Tensor] = []
            tile_height = min(step, height - top)
            context = pixels[rows[top : top + _output_side(tile_height) + 2 * BORDER]]
            for left in range(0, width, step):
                tile_width = min(step, width - left)
                window = context[:, columns[left : left + _output_side(tile_width) + 2 * BORDER]]
                mask = self.to_mask(self.network(self.normalize(window[None].to(device))))
                strip.append(mask[0, :tile_height, :tile_width].cpu())
            strips.append(torch.cat(strip, 1))
        return torch.cat(strips)


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
