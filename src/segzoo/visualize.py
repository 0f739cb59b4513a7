"""Label maps for the eye: colours, an indexed PNG, an overlay on the photograph with its legend.

Floor 0. A label map is any integer array (H, W) of class ids.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from segzoo._io import written_aside
from segzoo.classes import Colour, LabelSet
from segzoo.errors import ImageError

_PAPER = (255, 255, 255)
_INK = (31, 35, 40)
_FAINT = (101, 109, 118)
_ROWS = 12
_LETTERS = 24


def colourise(labels: "npt.NDArray[Any]", label_set: LabelSet) -> npt.NDArray[np.uint8]:
    """Each pixel in the colour of its class.

    Args:
        labels: integers (H, W); ids outside `label_set`, the ignored one among them, become black.
        label_set: the names and colours of the classes.

    Returns:
        uint8 RGB (H, W, 3), 0-255.

    Raises:
        ImageError: `labels` is not (H, W) integers.
    """
    _check_labels(labels)
    table = np.zeros((len(label_set) + 1, 3), np.uint8)
    table[:-1] = label_set.colours
    inside = (labels >= 0) & (labels < len(label_set))
    coloured: npt.NDArray[np.uint8] = table[np.where(inside, labels, len(label_set)).astype(np.intp)]
    return coloured


def save_mask(path: "str | os.PathLike[str]", labels: "npt.NDArray[Any]", label_set: LabelSet) -> None:
    """Writes a label map as an 8-bit PNG with a palette: viewers show colours, and pixel values are the class ids.

    The file appears whole or not at all: it is written beside its place, then renamed.

    Args:
        path: where to; the ending is .png.
        labels: integers (H, W), 0-255; ids outside `label_set` keep their value and are shown black.
        label_set: the colours of the palette.

    Raises:
        ImageError: `labels` is not (H, W) integers in 0-255, `path` ends otherwise, or its folder does not exist. It
            is a ValueError too.
    """
    path = Path(path)
    _check_labels(labels)
    if labels.min() < 0 or labels.max() > 255:
        raise ImageError(
            f"A PNG palette holds class ids 0-255; these labels go from {labels.min()} to {labels.max()}. "
            "Save them with numpy.save."
        )
    if path.suffix.lower() != ".png":
        raise ImageError(f"A mask is written as PNG, which keeps class ids exact; name it {path.stem}.png.")
    if not path.parent.is_dir():
        raise ImageError(f"There is no folder {str(path.parent)!r} to write {path.name!r} into. Create it first.")
    image = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8)).convert("L")
    # A full palette, since Pillow packs fewer than 17 colours into 4 bits a pixel, which some readers get wrong.
    palette = np.zeros((256, 3), np.uint8)
    colours = label_set.colours[:256]
    palette[: len(colours)] = colours
    image.putpalette(palette.tobytes())
    with written_aside(path) as draft:
        image.save(draft, format="PNG", optimize=False)


def overlay(
    image: npt.NDArray[np.uint8],
    labels: "npt.NDArray[Any]",
    label_set: LabelSet,
    opacity: float = 0.5,
    legend: bool = True,
) -> Image.Image:
    """The classes' colours laid over the photograph, with a legend of the classes that occur.

    Each class is edged in its full colour. Pixels whose id is outside `label_set` show the photograph as it is. The
    legend gives swatch, name and share of all pixels, largest first, at most 12 classes; it stands at the right of the
    picture where the picture is tall enough for it, and below otherwise.

    Args:
        image: uint8 RGB (H, W, 3), 0-255.
        labels: integers (H, W), the same H and W.
        label_set: the names and colours of the classes.
        opacity: 0 shows the photograph alone, 1 the colours alone.
        legend: whether to draw the legend; without it the result is W x H.

    Returns:
        an RGB picture; the photograph's pixels are its top left W x H.

    Raises:
        ImageError: another shape or dtype, or an opacity outside 0-1.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"The image under an overlay must be uint8 RGB (H, W, 3); got {image.dtype} {image.shape}.")
    _check_labels(labels)
    if labels.shape != image.shape[:2]:
        raise ImageError(
            f"The labels are {labels.shape} and the image is {image.shape[:2]} (H, W). "
            "Pass the image that the labels were predicted from."
        )
    if not 0 <= opacity <= 1:
        raise ImageError(f"An opacity is 0-1, got {opacity}.")
    photograph = Image.fromarray(np.ascontiguousarray(image))
    coloured = Image.fromarray(colourise(labels, label_set))
    picture = Image.blend(photograph, coloured, opacity)
    if opacity > 0:
        picture.paste(coloured, mask=_mask(_edges(labels, max(1, round(min(labels.shape) / 500)))))
    picture.paste(photograph, mask=_mask((labels < 0) | (labels >= len(label_set))))
    return _with_legend(picture, _shares(labels, label_set), label_set) if legend else picture


def _check_labels(labels: "npt.NDArray[Any]") -> None:
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or labels.size == 0:
        raise ImageError(f"A label map must be integers (H, W) with pixels; got {labels.dtype} {labels.shape}.")


def _mask(where: npt.NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(where.astype(np.uint8) * 255)


def _edges(labels: "npt.NDArray[Any]", width: int) -> npt.NDArray[np.bool_]:
    """The pixels of each class that have another class within `width` to the right or below, or left or above."""
    edges = np.zeros(labels.shape, np.bool_)
    for step in range(1, width + 1):
        across = labels[:, step:] != labels[:, :-step]
        down = labels[step:] != labels[:-step]
        edges[:, step:] |= across
        edges[:, :-step] |= across
        edges[step:] |= down
        edges[:-step] |= down
    return edges


def _shares(labels: "npt.NDArray[Any]", label_set: LabelSet) -> list[tuple[int, float]]:
    """(class id, part of all pixels 0-1) of the classes that occur, largest first."""
    ids, counts = np.unique(labels, return_counts=True)
    found = [
        (int(i), int(count) / labels.size) for i, count in zip(ids, counts, strict=True) if 0 <= i < len(label_set)
    ]
    return sorted(found, key=lambda pair: -pair[1])


def _percent(share: float) -> str:
    percent = 100 * share
    # Rounding must not turn a class that occurs into 0.0 %.
    return "<0.1 %" if percent < 0.1 else f"{percent:.1f} %"


def _with_legend(picture: Image.Image, shares: list[tuple[int, float]], label_set: LabelSet) -> Image.Image:
    if not shares:
        return picture
    short = min(picture.size)
    size = max(11, round(short / 30))
    font = ImageFont.load_default(size=size)
    # No more rows than 12, the "and N more" among them only when it stands for two classes or more.
    shown = shares if len(shares) <= _ROWS + 1 else shares[:_ROWS]
    rows: list[tuple[Colour | None, str, str]] = []
    for index, share in shown:
        name = label_set.names[index]
        name = name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
        rows.append((label_set.colours[index], name, _percent(share)))
    if len(shares) > len(shown):
        rows.append((None, f"and {len(shares) - len(shown)} more", ""))

    swatch = round(size * 1.15)
    line = round(size * 1.75)
    gap = round(size * 0.65)
    margin = round(size * 1.1)
    names = round(max(font.getlength(name) for _, name, _ in rows))
    numbers = round(max(font.getlength(number) for _, _, number in rows))
    column = swatch + gap + names + 2 * gap + numbers

    beside = len(rows) * line + 2 * margin <= picture.height
    columns = 1 if beside else max(1, min(len(rows), picture.width // (column + 2 * margin)))
    height = -(-len(rows) // columns)
    columns = -(-len(rows) // height)  # Rows that fill fewer columns than fit: no empty one at the right.
    panel = (columns * column + (columns - 1) * 2 * margin + 2 * margin, height * line + 2 * margin)
    if beside:
        canvas = Image.new("RGB", (picture.width + panel[0], picture.height), _PAPER)
        left, top = picture.width + margin, (picture.height - height * line) // 2
    else:
        canvas = Image.new("RGB", (max(picture.width, panel[0]), picture.height + panel[1]), _PAPER)
        left, top = margin, picture.height + margin
    canvas.paste(picture, (0, 0))

    draw = ImageDraw.Draw(canvas)
    for place, (colour, name, number) in enumerate(rows):
        x = left + place // height * (column + 2 * margin)
        middle = top + place % height * line + line // 2
        if colour is not None:
            box = (x, middle - swatch // 2, x + swatch - 1, middle - swatch // 2 + swatch - 1)
            # The outline is what shows a white swatch on white paper.
            draw.rounded_rectangle(box, radius=swatch // 5, fill=colour, outline=_FAINT, width=max(1, swatch // 16))
        draw.text((x + swatch + gap, middle), name, fill=_INK if colour else _FAINT, font=font, anchor="lm")
        draw.text((x + column, middle), number, fill=_FAINT, font=font, anchor="rm")
    return canvas
