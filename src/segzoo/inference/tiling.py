"""Label maps of images larger than memory: overlapping tiles, their class probabilities blended, one pass.

Two neighbouring tiles share an overlap. Near its own edge a tile lacks context, so the outer quarter of the overlap on
either side is left to the neighbour, and over the middle half the probabilities cross-fade along a Hann ramp. A network
that looks no further than a quarter of the overlap gives exactly what it gives on the whole image.

At the image's edge a tile ends where the image ends, so that a pixel there has all the context there is. Tiles start at
multiples of the encoder's stride wherever the file lets them: a network that halves five times is equal under shifts of
32 pixels only, and tiles laid otherwise would differ from the whole image everywhere, not just at seams.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.errors import SegzooError

Floats = npt.NDArray[np.float32]
Scorer = Callable[[npt.NDArray[np.uint8]], Floats]
"""One tile, uint8 (H, W, C), to the probability of each class, float32 (K, H, W)."""

# What the blending may hold back for tiles that are still to come. Within it no tile is computed twice: it is what
# 21 classes, tiles of 1024 and the default overlap need for an image 12,000 pixels wide.
_HELD_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels of the image.

    Attributes:
        start, stop: what the network sees.
        first, last: what it gives a part of the answer for.
        done: up to here the answer is whole once this tile is added; from here to `last` the next one adds to it.
        weight: the tile's part, float32 (last - first), 0-1.
    """

    start: int
    stop: int
    first: int
    done: int
    last: int
    weight: Floats


def spans(length: int, tile: int, overlap: int, step: int = 1, fixed: bool = False) -> list[Span]:
    """Lays tiles along an axis so that the weights add up to 1 at every pixel.

    Args:
        length: of the image, in pixels, from 1 up.
        tile: of a tile, in pixels, from 1 up; an image that is shorter is one tile.
        overlap: the least that neighbours share, from 0 to half the tile.
        step: tiles start at multiples of this, where that leaves them an advance.
        fixed: whether each tile must have its whole length; the last one then starts wherever that puts it, and else
            it starts at a multiple of `step`, and is shorter by less than that.
    """
    advance = tile - overlap
    advance = advance // step * step or advance
    starts = [0]
    while starts[-1] + tile < length:
        following = starts[-1] + advance
        if following + tile >= length:
            inwards = length - tile
            following = inwards if fixed else min(-(-inwards // step) * step, following)
        starts.append(following)
    stops = [min(start + tile, length) for start in starts]
    ramps = [_ramp(left, right, min(overlap, advance)) for left, right in zip(stops[:-1], starts[1:], strict=True)]
    result = []
    for place, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        first, full = ramps[place - 1] if place > 0 else (start, start)
        done, last = ramps[place] if place < len(ramps) else (stop, stop)
        weight = np.ones(last - first, np.float32)
        weight[: full - first] = _hann(full - first)
        weight[done - first :] = 1 - _hann(last - done)
        result.append(Span(start, stop, first, done, last, weight))
    return result


def sides(value: int | tuple[int, int], what: str, least: int) -> tuple[int, int]:
    """A height and a width from one number or two.

    Raises:
        SegzooError: it is neither, or below `least`.
    """
    pair = (value, value) if isinstance(value, int) else value
    if (
        not isinstance(pair, tuple | list)
        or len(pair) != 2
        or not all(isinstance(side, int) and not isinstance(side, bool) and side >= least for side in pair)
    ):
        raise SegzooError(f"{what} is a number of pixels or a (height, width), from {least} up; got {value!r}.")
    return pair[0], pair[1]


def lay(
    size: tuple[int, int],
    tile: tuple[int, int],
    overlap: int | tuple[int, int] | None,
    step: int,
    fixed: bool,
) -> tuple[list[Span], list[Span]]:
    """The rows and columns of tiles for an image of `size`, (height, width).

    Args:
        overlap: None is a quarter of the tile.
        step, fixed: as in `spans`.

    Raises:
        SegzooError: the overlap is below 0, or above half the tile.
    """
    shared = (tile[0] // 4, tile[1] // 4) if overlap is None else sides(overlap, "overlap", 0)
    if any(2 * one > whole for one, whole in zip(shared, tile, strict=True)):
        raise SegzooError(f"overlap is at most half the tile; got {shared} for tiles of {tile}.")
    rows, columns = (
        spans(length, whole, one, step, fixed) for length, whole, one in zip(size, tile, shared, strict=True)
    )
    return rows, columns


def blend(
    image: Any,
    out: npt.NDArray[Any],
    scorer: Scorer,
    classes: int,
    rows: list[Span],
    columns: list[Span],
) -> None:
    """Writes the label of every pixel of `image` into `out`, tile by tile, each read from `image` when its turn comes.

    Beyond `image` and `out` it holds one tile's probabilities and, of each column of tiles, the rows that the tiles
    below will add to; where those come to more than 128 MiB, the image is done in vertical strips, and the tiles on
    the boundary between two strips are computed twice.

    Args:
        image: anything that gives uint8 (h, w, C) for image[a:b, c:d].
        out: anything that takes (h, w) class ids at out[a:b, c:d].
        scorer: the network.
        classes: how many probabilities a pixel has.
        rows, columns: the tiles, as `spans` lays them.
    """
    for strip in strips(rows, columns, classes):
        held: dict[int, Floats] = {}
        for row in rows:
            side: Floats | None = None
            for place in strip:
                column = columns[place]
                tile = np.ascontiguousarray(image[row.start : row.stop, column.start : column.stop])
                part = _weighted(scorer(tile), row, column)
                if side is not None:
                    part[:, :, : side.shape[2]] += side
                whole = column.done - column.first
                side = part[:, :, whole:].copy()
                if place == strip[0] and place > 0:
                    # Its left part lacks the tile before it, which belongs, with this one, to the strip before.
                    continue
                part = part[:, :, :whole]
                if (above := held.pop(place, None)) is not None:
                    part[:, : above.shape[1]] += above
                ready = row.done - row.first
                if row.last > row.done:
                    held[place] = part[:, ready:].copy()
                out[row.first : row.done, column.first : column.done] = part[:, :ready].argmax(0)


def strips(rows: list[Span], columns: list[Span], classes: int) -> Iterator[range]:
    """The columns of tiles that are done in one pass from top to bottom.

    A strip begins with the last column of the one before. It has as many as `_HELD_BYTES` allow, and two at the least.
    """
    ramp = max(row.last - row.done for row in rows)
    start = stop = 0
    while stop < len(columns):
        width = 0
        while stop < len(columns):
            width += columns[stop].done - columns[stop].first
            if stop > start + 1 and 4 * classes * ramp * width > _HELD_BYTES:
                break
            stop += 1
        yield range(start, stop)
        start = stop - 1


def _ramp(left_stop: int, right_start: int, overlap: int) -> tuple[int, int]:
    """Where two tiles cross-fade: around the middle of what they share, over half of the overlap asked for.

    Half, and no more where the last tile overlaps by more than was asked for: its ramps would run into each other.
    """
    middle, half = (left_stop + right_start) // 2, overlap // 4
    return middle - half, middle + half


def _hann(length: int) -> Floats:
    """A ramp from 0 to 1, float32 (length), that with its mirror image adds up to 1."""
    return (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(length, 1))).astype(np.float32)


def _weighted(scores: Floats, row: Span, column: Span) -> Floats:
    part = scores[
        :, row.first - row.start : row.last - row.start, column.first - column.start : column.last - column.start
    ]
    part *= row.weight[:, None] * column.weight  # in place: the scorer keeps no hold of what it gave
    return part
