"""Opens image files for everything in segzoo: in the formats that it reads, of a bounded size, and upright.

Pillow tries every format that it knows, whatever the file is called, and for PostScript it starts Ghostscript.
"""

import os
from typing import BinaryIO

from PIL import Image

from segzoo.data.image_formats import FORMATS
from segzoo.errors import ImageError, OptionError

MAX_PIXELS = 2**27
"""The largest number of pixels of an image that is predicted whole, unless the environment says otherwise."""

MAX_PIXELS_VARIABLE = "SEGZOO_MAX_PIXELS"

_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP")
"""Pillow's names of the formats that it reads by itself."""

_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(stream: BinaryIO) -> Image.Image:
    """An image file that Pillow has recognized; no pixel is decoded yet. Use it in a `with` statement.

    Raises:
        PIL.UnidentifiedImageError: the file has none of the formats that segzoo reads.
        Exception: whatever else Pillow raises of a damaged file.
    """
    Image.init()  # registers Pillow's own formats; those of plugins are registered by `ImageFormat.is_readable`
    own = [name for name in _FORMATS if name in Image.OPEN]  # Pillow may have been built without one
    return Image.open(stream, formats=own + [name for format in FORMATS for name in format.registered()])


def pixel_limit() -> int:
    """`MAX_PIXELS`, or the number in the environment variable SEGZOO_MAX_PIXELS.

    Raises:
        OptionError: the variable is not a whole number from 1 up.
    """
    value = os.environ.get(MAX_PIXELS_VARIABLE, "")
    if not value:
        return MAX_PIXELS
    if not (value.isascii() and value.isdigit() and len(value) < 20 and int(value)):
        raise OptionError(f"{MAX_PIXELS_VARIABLE} must be a whole number of pixels from 1 up, not {value[:60]!r}.")
    return int(value)


def require_pixels(image: Image.Image, name: str, limit: int) -> None:
    """Checks the size of an open image before its pixels are decoded.

    Raises:
        ImageError: it has more pixels than `limit`; `name` is what the message calls it.
    """
    pixels = image.width * image.height
    if pixels > limit:
        raise ImageError(
            f"{name} is {image.width:,} x {image.height:,}, {pixels:,} pixels; at most {limit:,} are opened. Predict "
            f"it in tiles (tile=1024, --tile 1024), scale it down, or set {MAX_PIXELS_VARIABLE}={pixels} if there is "
            "memory for it."
        )


def upright(image: Image.Image) -> Image.Image:
    """The image, loaded, and rotated by its EXIF orientation."""
    image.load()  # first, since it rotates a TIFF and removes its orientation
    # Not ImageOps.exif_transpose, which rewrites the remaining EXIF and fails if any other part of it is damaged. An
    # image with unreadable EXIF is treated as one without orientation.
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:
        return image
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image
