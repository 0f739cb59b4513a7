"""Pictures of masks: colors, an indexed PNG, an overlay on the image with a legend.

A mask is any integer array (H, W) of class ids.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from segzoo._arguments import explained
from segzoo._io import atomic_write
from segzoo.classes import ClassSet, Color
from segzoo.errors import ImageError

_BACKGROUND = (255, 255, 255)
_TEXT = (31, 35, 40)
_MUTED = (101, 109, 118)
_MAX_ROWS = 12
_MAX_NAME_LENGTH = 24


@explained
def colorize(mask: "npt.NDArray[Any]", classes: ClassSet) -> npt.NDArray[np.uint8]:
    """Paints each pixel in the color of its class.

    Args:
        mask: integers (H, W). Ids outside `classes`, which includes its `ignore_index`, become black.
        classes: the palette.

    Returns:
        uint8 RGB (H, W, 3), 0-255.

    Raises:
        ImageError: `mask` is not (H, W) integers.
    """
    _check_mask(mask)
    table = np.zeros((len(classes) + 1, 3), np.uint8)
    table[:-1] = classes.palette
    inside = (mask >= 0) & (mask < len(classes))
    colored: npt.NDArray[np.uint8] = table[np.where(inside, mask, len(classes)).astype(np.intp)]
    return colored


def save_mask(path: "str | os.PathLike[str]", mask: "npt.NDArray[Any]", classes: ClassSet) -> None:
    """Writes one mask, as `save_masks` does.

    Args:
        path: the file to write: .png, .tif or .tiff.
        mask: integers (H, W), 0-65,535. Ids outside `classes` are kept, and shown in black.
        classes: the palette.

    Raises:
        ImageError: as `save_masks`.
    """
    save_masks(path, [mask], classes)


@explained
def save_masks(path: "str | os.PathLike[str]", masks: "Sequence[npt.NDArray[Any]]", classes: ClassSet) -> None:
    """Writes masks as the pages of one image file: viewers show colors, and pixel values are the class ids.

    The file is written under a temporary name, then renamed, so that it is complete or absent.

    Args:
        path: the file to write: .png for one mask, .tif or .tiff for any number.
        masks: integers (H, W), 0-65,535. Pages are 8-bit with a palette if all ids are below 256 and one mask is
            written; of several, each is 0 and 1, and shows 1 in the color of the class of its number. Otherwise they
            are 16-bit gray.
        classes: the palette. Ids outside it are kept, and shown in black.

    Raises:
        ImageError: a mask is not (H, W) integers in 0-65,535, `path` has another suffix, or its folder does not exist.
            It is also a ValueError.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    for mask in masks:
        _check_mask(mask)
        if mask.min() < 0 or mask.max() > 65535:
            raise ImageError(
                f"An image file holds class ids 0-65,535, but this mask's range from {mask.min()} to {mask.max()}. "
                "Save it with numpy.save."
            )
    if suffix not in (".png", ".tif", ".tiff"):
        raise ImageError(f"Masks are written as PNG or TIFF, which keep ids exact; name the file {path.stem}.png.")
    if suffix == ".png" and len(masks) > 1:
        raise ImageError(f"A PNG holds one mask, not {len(masks)}; name the file {path.stem}.tif.")
    if not path.parent.is_dir():
        raise ImageError(f"There is no folder {str(path.parent)!r} to write {path.name!r} into. Create it first.")
    palettes = [classes.palette[:256]] if len(masks) == 1 else [((0, 0, 0), color) for color in classes.palette]
    first, *others = (_indexed(mask, colors) for mask, colors in zip(masks, palettes, strict=True))
    format_options: dict[str, Any] = {"optimize": False} if suffix == ".png" else {"compression": "tiff_deflate"}
    if others:
        format_options |= {"save_all": True, "append_images": others}
    with atomic_write(path) as draft:
        first.save(draft, format="PNG" if suffix == ".png" else "TIFF", **format_options)


@explained
def overlay(
    image: npt.NDArray[np.uint8],
    mask: "npt.NDArray[Any]",
    classes: ClassSet,
    opacity: float = 0.5,
    legend: bool = True,
) -> Image.Image:
    """Blends the colors of a mask into the image and adds a legend of the classes that occur.

    Class boundaries are drawn in the full color of the class. Pixels whose id is outside `classes` show the image
    unchanged. The legend lists swatch, name and share of all pixels, largest first. It lists 12 classes, and a 13th if
    that is the last one; a final row counts the others. It is placed to the right of the image if it fits the image's
    height, otherwise below.

    Args:
        image: uint8 RGB (H, W, 3), 0-255.
        mask: integers (H, W), of the image's size.
        classes: the names and colors of the classes.
        opacity: 0 shows only the image, 1 only the colors.
        legend: whether to draw the legend; without it the result is W x H.

    Returns:
        an RGB picture whose top left W x H is the image.

    Raises:
        ImageError: wrong shape or dtype, or an opacity outside 0-1.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"The image of an overlay must be uint8 RGB (H, W, 3); got {image.dtype} {image.shape}.")
    _check_mask(mask)
    if mask.shape != image.shape[:2]:
        raise ImageError(
            f"The mask is {mask.shape}, but the image is {image.shape[:2]} (H, W). "
            "Pass the image that the mask was predicted from."
        )
    if not 0 <= opacity <= 1:
        raise ImageError(f"opacity must be 0-1, got {opacity}.")
    original = Image.fromarray(np.ascontiguousarray(image))
    colored = Image.fromarray(colorize(mask, classes))
    picture = Image.blend(original, colored, opacity)
    if opacity > 0:
        picture.paste(colored, mask=_alpha(_edges(mask, max(1, round(min(mask.shape) / 500)))))
    picture.paste(original, mask=_alpha((mask < 0) | (mask >= len(classes))))
    return _with_legend(picture, _shares(mask, classes), classes) if legend else picture


def _check_mask(mask: Any) -> None:
    if not isinstance(mask, np.ndarray):
        raise ImageError(f"A mask must be an array of integers (H, W), got {type(mask).__name__}.")
    if mask.ndim != 2 or mask.dtype.kind not in "iu" or mask.size == 0:
        raise ImageError(f"A mask must be integers (H, W), not empty; got {mask.dtype} {mask.shape}.")


def _indexed(mask: "npt.NDArray[Any]", colors: Sequence[Color]) -> Image.Image:
    if mask.max() > 255:
        return Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint16))
    image = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint8)).convert("L")
    # All 256 entries: Pillow packs fewer than 17 colors into 4 bits per pixel, which some readers get wrong.
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = colors
    image.putpalette(palette.tobytes())
    return image


def _alpha(selected: npt.NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(selected.astype(np.uint8) * 255)


def _edges(mask: "npt.NDArray[Any]", width: int) -> npt.NDArray[np.bool_]:
    """Pixels within `width` rows or columns of another class."""
    edges = np.zeros(mask.shape, np.bool_)
    for step in range(1, width + 1):
        across = mask[:, step:] != mask[:, :-step]
        down = mask[step:] != mask[:-step]
        edges[:, step:] |= across
        edges[:, :-step] |= across
        edges[step:] |= down
        edges[:-step] |= down
    return edges


def _shares(mask: "npt.NDArray[Any]", classes: ClassSet) -> list[tuple[int, float]]:
    """(class id, share of all pixels 0-1) of the classes that occur, largest first."""
    ids, counts = np.unique(mask, return_counts=True)
    shares = [(int(i), int(count) / mask.size) for i, count in zip(ids, counts, strict=True) if 0 <= i < len(classes)]
    return sorted(shares, key=lambda pair: -pair[1])


def percent(share: float) -> str:
    """A share of pixels, 0-1, in percent; a class that occurs is not rounded to 0.0 %."""
    return "<0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def _with_legend(picture: Image.Image, shares: list[tuple[int, float]], classes: ClassSet) -> Image.Image:
    if not shares:
        return picture
    size = max(11, round(min(picture.size) / 30))
    font = ImageFont.load_default(size=size)
    # "and N more" takes a row too, so it replaces two classes or more.
    shown = shares if len(shares) <= _MAX_ROWS + 1 else shares[:_MAX_ROWS]
    rows: list[tuple[Color | None, str, str]] = []
    for index, share in shown:
        name = classes.names[index]
        name = name if len(name) <= _MAX_NAME_LENGTH else name[: _MAX_NAME_LENGTH - 1] + "\N{HORIZONTAL ELLIPSIS}"
        rows.append((classes.palette[index], name, percent(share)))
    if len(shares) > len(shown):
        rows.append((None, f"and {len(shares) - len(shown)} more", ""))

    swatch = round(size * 1.15)
    line = round(size * 1.75)
    gap = round(size * 0.65)
    margin = round(size * 1.1)
    names = round(max(font.getlength(name) for _, name, _ in rows))
    numbers = round(max(font.getlength(number) for _, _, number in rows))
    column = swatch + gap + names + 2 * gap + numbers

    to_the_right = len(rows) * line + 2 * margin <= picture.height
    columns = 1 if to_the_right else max(1, min(len(rows), picture.width // (column + 2 * margin)))
    height = -(-len(rows) // columns)
    columns = -(-len(rows) // height)  # The rows may fill fewer columns than fit.
    panel = (columns * column + (columns - 1) * 2 * margin + 2 * margin, height * line + 2 * margin)
    if to_the_right:
        canvas = Image.new("RGB", (picture.width + panel[0], picture.height), _BACKGROUND)
        left, top = picture.width + margin, (picture.height - height * line) // 2
    else:
        canvas = Image.new("RGB", (max(picture.width, panel[0]), picture.height + panel[1]), _BACKGROUND)
        left, top = margin, picture.height + margin
    canvas.paste(picture, (0, 0))

    draw = ImageDraw.Draw(canvas)
    for row, (color, name, number) in enumerate(rows):
        x = left + row // height * (column + 2 * margin)
        middle = top + row % height * line + line // 2
        if color is not None:
            box = (x, middle - swatch // 2, x + swatch - 1, middle - swatch // 2 + swatch - 1)
            # The outline makes a white swatch visible on the white background.
            draw.rounded_rectangle(box, radius=swatch // 5, fill=color, outline=_MUTED, width=max(1, swatch // 16))
        draw.text((x + swatch + gap, middle), name, fill=_TEXT if color else _MUTED, font=font, anchor="lm")
        draw.text((x + column, middle), number, fill=_MUTED, font=font, anchor="rm")
    return canvas
