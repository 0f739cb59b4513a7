"""Masks of images larger than memory: overlapping tiles whose class probabilities are blended in one pass.

Near its edge a tile lacks context. The outer quarter of an overlap on either side is therefore left to the neighboring
tile, and over the middle half the probabilities cross-fade along a Hann ramp. If the receptive field is smaller than a
quarter of the overlap, tiled and whole-image masks are identical.

Tiles do not extend beyond the image, so pixels at its border have the same context as in the whole image. Tiles start
at multiples of the encoder's stride if the file permits: a network that halves the size five times is equivariant only
to shifts by 32 pixels, so with other offsets tiles would differ from the whole image everywhere, not only at seams.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.errors import OptionError

Floats = npt.NDArray[np.float32]
PredictTile = Callable[[npt.NDArray[Any]], Floats]
"""Maps a tile, pixels (H, W, C), to probabilities, float32 (K, H, W)."""

# Limit of the probabilities kept for tiles below. Up to here no tile is computed twice: it is what 21 classes, tiles of
# 1024 and the default overlap need for an image 12,000 pixels wide.
_KEPT_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels of the image.

    Attributes:
        start, stop: the network's input.
        first, last: the pixels that the tile contributes to.
        done: pixels before this are complete once this tile is added; from here to `last` the next tile adds to them.
        weight: the tile's weight at each pixel from first to last, float32, 0-1.
    """

    start: int
    stop: int
    first: int
    done: int
    last: int
    weight: Floats


def spans(length: int, tile: int, overlap: int, step: int = 1, fixed: bool = False, blended: bool = True) -> list[Span]:
    """Places tiles along an axis so that their weights sum to 1 at every pixel.

    Args:
        length: of the image, in pixels, at least 1.
        tile: of a tile, in pixels, at least 1. A shorter image is one tile.
        overlap: the minimum overlap of neighbors, from 0 to half the tile.
        step: tiles start at multiples of this, unless tile - overlap is smaller.
        fixed: whether every tile must have the full length. If so, the last tile may start anywhere; otherwise it
            starts at a multiple of `step` and is shorter by less than `step`.
        blended: whether neighbors cross-fade. If not, each pixel comes from one tile, cut in the middle of the overlap.
    """
    advance = tile - overlap
    advance = advance // step * step or advance
    starts = [0]
    while starts[-1] + tile < length:
        following = starts[-1] + advance
        if following + tile >= length:
            flush = length - tile
            following = flush if fixed else min(-(-flush // step) * step, following)
        starts.append(following)
    stops = [min(start + tile, length) for start in starts]
    width = min(overlap, advance) if blended else 0
    ramps = [_ramp(left, right, width) for left, right in zip(stops[:-1], starts[1:], strict=True)]
    result = []
    for index, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        first, full = ramps[index - 1] if index > 0 else (start, start)
        done, last = ramps[index] if index < len(ramps) else (stop, stop)
        weight = np.ones(last - first, np.float32)
        weight[: full - first] = _hann(full - first)
        weight[done - first :] = 1 - _hann(last - done)
        result.append(Span(start, stop, first, done, last, weight))
    return result


def as_size(value: Any, name: str, minimum: int) -> tuple[int, int]:
    """(height, width) from one number or two.

    Raises:
        OptionError: `value` is neither, or below `minimum`.
    """
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    numbers = [int(side) for side in pair if isinstance(side, int | np.integer) and not isinstance(side, bool)]
    if len(pair) != 2 or len(numbers) != 2 or min(numbers) < minimum:
        raise OptionError(f"{name} must be a number of pixels or (height, width), {minimum} or more; got {value!r}.")
    return numbers[0], numbers[1]


def check_overlap(tile: tuple[int, int], overlap: tuple[int, int] | None) -> None:
    """Raises OptionError if the overlap is above half the tile."""
    if overlap is not None and any(2 * shared > side for shared, side in zip(overlap, tile, strict=True)):
        raise OptionError(f"overlap must be at most half the tile; got {overlap} for tiles of {tile}.")


@dataclass(frozen=True)
class Grid:
    """The tiles of one image: their rows and their columns."""

    rows: list[Span]
    columns: list[Span]


def grid(
    size: tuple[int, int],
    tile: tuple[int, int],
    overlap: tuple[int, int] | None,
    step: int = 1,
    fixed: bool = False,
    context: int | None = None,
) -> Grid:
    """Places tiles on an image.

    Args:
        size: (height, width) of the image.
        overlap: the minimum overlap, at most half the tile. None is a quarter of the tile; or, if `context` is known,
            twice the context, with each pixel from the one tile that holds its whole context.
        step, fixed: as in `spans`.
        context: how many pixels on each side can influence a prediction; None if that is unknown.

    Raises:
        OptionError: the tile is not larger than the context on both of its sides.
    """
    blended = overlap is not None or context is None
    if overlap is None and context is not None:
        least = 2 * context + step
        if any(side < min(least, length) for side, length in zip(tile, size, strict=True)):
            raise OptionError(
                f"tile must be {least} or more for this model, whose predictions depend on {context} pixels on each "
                f"side; got {tile}."
            )
        overlap = (2 * context, 2 * context)
    shared = overlap or (tile[0] // 4, tile[1] // 4)
    rows, columns = (
        spans(length, side, both, step, fixed, blended) for length, side, both in zip(size, tile, shared, strict=True)
    )
    return Grid(rows, columns)


def blend(image: Any, predict_tile: PredictTile, classes: int, tiles: Grid) -> Iterator[tuple[slice, slice, Floats]]:
    """Yields the blended probabilities of every pixel of `image`, part by part. Each tile is read when it is needed.

    Memory holds the probabilities of one tile and, for each column of tiles, the rows that the tiles below add to. If
    those exceed 128 MiB, the image is processed in vertical strips, and the tiles on the boundary of two strips are
    computed twice.

    Args:
        image: any object that returns pixels (h, w, C) for image[a:b, c:d].
        predict_tile: the network.
        classes: number of probabilities per pixel.
        tiles: as returned by `grid`.

    Yields:
        rows and columns of the image, and their probabilities, float32 (K, h, w).
    """
    rows, columns = tiles.rows, tiles.columns
    for strip in strips(rows, columns, classes):
        kept: dict[int, Floats] = {}
        for row in rows:
            left: Floats | None = None
            for index in strip:
                column = columns[index]
                tile = np.ascontiguousarray(image[row.start : row.stop, column.start : column.stop])
                part = _weighted(predict_tile(tile), row, column)
                if left is not None:
                    part[:, :, : left.shape[2]] += left
                complete = column.done - column.first
                left = part[:, :, complete:].copy()
                if index == strip[0] and index > 0:
                    # Only its right edge is needed: the previous strip has computed the rest, with the tile before.
                    continue
                part = part[:, :, :complete]
                if (above := kept.pop(index, None)) is not None:
                    part[:, : above.shape[1]] += above
                ready = row.done - row.first
                if row.last > row.done:
                    kept[index] = part[:, ready:].copy()
                yield slice(row.first, row.done), slice(column.first, column.done), part[:, :ready]


def strips(rows: list[Span], columns: list[Span], classes: int) -> Iterator[range]:
    """Yields the columns of tiles that are processed in one pass from top to bottom.

    A strip begins with the last column of the previous one. It has as many columns as `_KEPT_BYTES` allows, at least
    two.
    """
    ramp = max(row.last - row.done for row in rows)
    start = stop = 0
    while stop < len(columns):
        width = 0
        while stop < len(columns):
            width += columns[stop].done - columns[stop].first
            if stop > start + 1 and 4 * classes * ramp * width > _KEPT_BYTES:
                break
            stop += 1
        yield range(start, stop)
        start = stop - 1


def _ramp(left_stop: int, right_start: int, overlap: int) -> tuple[int, int]:
    """The range over which two tiles cross-fade: around the middle of their overlap, half the requested overlap long.

    Not half of the actual overlap, which is larger at the last tile: the tile's two ramps would meet.
    """
    middle, half = (left_stop + right_start) // 2, overlap // 4
    return middle - half, middle + half


def _hann(length: int) -> Floats:
    """A ramp from 0 to 1, float32 (length). The ramp and its mirror image sum to 1."""
    return (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(length, 1))).astype(np.float32)


def _weighted(probabilities: Floats, row: Span, column: Span) -> Floats:
    part = probabilities[
        :, row.first - row.start : row.last - row.start, column.first - column.start : column.last - column.start
    ]
    part *= row.weight[:, None] * column.weight  # in place: nobody else holds this array
    return part
