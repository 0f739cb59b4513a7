"""U-Net's overlap-tile strategy: any image, seamlessly, by a network whose valid convolutions shrink what they see.

Ronneberger, Fischer, Brox: U-Net, arXiv 1505.04597, section 2 and figure 2. The network gives labels only where it has
all the context that it looks at, 92 pixels on each side; beyond the image's border the image is mirrored. So tiles need
no blending: what two tiles say of one pixel is the same, as long as tiles begin at multiples of 16, the pixels that the
four pools bring down to one.
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
"""Pixels that the valid convolutions take off each side."""


class OverlapTile(Paper):
    """Abstract: `network` takes 16k + 60 pixels on each side, 188 the least, and gives the inner 184 fewer."""

    def scores(self, image: Tensor, auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        rows, columns = ((BORDER, _given(side) - side + BORDER) for side in image.shape[-2:])
        return self.network(mirrored_border(image, rows, columns)), None

    @overload  # a str is a sequence of str to the type checker
    def predict(self, image: ImageLike, *, tile: int | None = None) -> NDArray[Any]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, image: Sequence[ImageLike], *, tile: int | None = None) -> list[NDArray[Any]]: ...
    def predict(
        self, image: ImageLike | Sequence[ImageLike], *, tile: int | None = None, **others: Any
    ) -> NDArray[Any] | list[NDArray[Any]]:
        """As `SegmentationModel.predict`, and in tiles where the image is too large for the memory.

        Args:
            tile: what the network sees at once, pixels of a side: 572 in the paper, 16k + 60 and at least 204; None
                takes the whole image. The labels are the same, but for rounding.

        Raises:
            OptionError: another size of tile, or another option.
            ImageError: as `SegmentationModel.predict`.
        """
        check_predict_options(self.config.decoder, others)
        if tile is None:
            return super().predict(image)
        if type(tile) is not int or tile < 204 or (tile - 60) % 16:
            raise OptionError(f"tile is 16k + 60 pixels and at least 204, such as 204, 380 or 572, not {tile!r}.")
        if isinstance(image, list | tuple):
            return [self.predict(one, tile=tile) for one in image]
        self.warn_of_new_head()
        pixels = torch.tensor(read_image(image, self.config.in_channels))  # type: ignore[arg-type]
        with evaluating(self), torch.inference_mode():
            result: NDArray[Any] = self._tiled(pixels, tile - 2 * BORDER - 4).numpy()
        return result

    def _tiled(self, pixels: Tensor, advance: int) -> Tensor:
        """Labels (H, W), a square of `advance` pixels at a time."""
        height, width = pixels.shape[:2]
        rows, columns = (reflection(side, BORDER, BORDER + 15) for side in (height, width))
        device = next(self.parameters()).device
        found: list[Tensor] = []
        for top in range(0, height, advance):
            strip: list[Tensor] = []
            high = min(advance, height - top)
            seen = pixels[rows[top : top + _given(high) + 2 * BORDER]]
            for left in range(0, width, advance):
                wide = min(advance, width - left)
                window = seen[:, columns[left : left + _given(wide) + 2 * BORDER]]
                labels = self.labels_of(self.network(self.normalise(window[None].to(device))))
                strip.append(labels[0, :high, :wide].cpu())
            found.append(torch.cat(strip, 1))
        return torch.cat(found)


def check_size(image: Tensor) -> None:
    """Refuses what a pool of the network could not halve.

    Raises:
        ImageError: a side is not 16k + 60, or below 188.
    """
    height, width = image.shape[-2:]
    if height < 188 or width < 188 or (height - 60) % 16 or (width - 60) % 16:
        near = " x ".join(str(_given(max(side - 2 * BORDER, 1)) + 2 * BORDER) for side in (height, width))
        raise ImageError(
            f"U-Net's valid convolutions take sides of 16k + 60 pixels from 188 up, such as {near}, not "
            f"{height} x {width}. model(image) and model.predict mirror the borders and take any size."
        )


def _given(side: int) -> int:
    """The least side that the network can give, 16k + 4, for so many pixels or more."""
    return (side + 11) // 16 * 16 + 4
