"""Image files, PIL images and arrays -> uint8 pixels of one layout, (H, W, C).

Floor 0. Whatever the rest of segzoo sees has passed through `read_image`, so that a phone's sideways photograph, a
16-bit scan and a palette GIF mean the same thing at training, at `predict` and in the runtime. Throughout the package
"a list of images" is a list or a tuple; an array is one image.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from segzoo.errors import ImageError

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""The file name endings, in lower case, that `list_images` takes for images."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Pixels = npt.NDArray[np.uint8]

ImageLike = str | os.PathLike[str] | Image.Image | npt.NDArray[Any]
"""What `read_image` reads; everything in segzoo that takes an image takes these."""


def read_image(image: ImageLike, channels: int = 3) -> Pixels:
    """Reads one image as the pixels a model takes.

    Files and PIL images are turned upright by their EXIF orientation; of an animation the first frame is taken.
    Gray, palette, 1-bit, CMYK, YCbCr and 16-bit pictures are converted; 16 bits are scaled (65535 -> 255), never cut
    off. Transparency is dropped, not blended onto a background, unless `channels` is 4.

    An array must have its final form already: uint8 (H, W, channels), or (H, W) gray, which is repeated for 3 channels.

    Args:
        image: a path, a PIL image or an array.
        channels: 1 gives gray, 3 RGB, 4 RGBA; any other count is for arrays only.

    Returns:
        uint8 (H, W, channels), 0-255, C-contiguous; it may share its memory with an array that was passed in.

    Raises:
        ImageError: the file is missing, truncated, no image, a decompression bomb, or has no pixels; a float image, or
            one of more than 16 bits, whose range cannot be known; an array of another shape or dtype.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image, channels)
    if isinstance(image, Image.Image):
        return _from_pil(image, channels, _describe(image))
    if isinstance(image, str | os.PathLike):
        if not os.fspath(image):
            raise ImageError("The path of the image is empty. Pass a file's.")
        return _from_file(Path(image), channels)
    raise ImageError(
        f"An image is a path, a PIL image or a numpy array, got {type(image).__name__}."
        + (" Convert it with numpy.asarray(...)." if hasattr(image, "__array__") else "")
    )


def list_images(path: "str | os.PathLike[str]") -> list[Path]:
    """The images at `path`: the file itself, or every image in the folder and the folders below it, sorted.

    Files are known by `IMAGE_SUFFIXES`; hidden files and folders (a leading dot) are left out.

    Raises:
        ImageError: nothing is at `path`, or the folder holds no image.
    """
    root = Path(path)
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise ImageError(f"There is no file or folder {str(root)!r}. Check the path.")
    found = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        found += [
            Path(folder, name)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    if not found:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ImageError(f"The folder {str(root)!r} holds no images. Files with these endings are taken: {endings}.")
    return sorted(found)


def _from_file(path: Path, channels: int) -> Pixels:
    if path.is_dir():
        raise ImageError(f"{str(path)!r} is a folder. Pass one file, or the list from segzoo.data.images.list_images.")
    if not path.is_file():
        raise ImageError(f"There is no image file {str(path)!r}. Check the path.")
    what = repr(str(path))
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{what} is empty (0 bytes). Fetch or copy the file again.")
        # An open file, not its name: by name Pillow 13.0 maps uncompressed TIFFs into memory, and garbles those in gray
        # that an orientation tag of 5 to 8 turns on their side.
        with path.open("rb") as stream, Image.open(stream) as opened:
            return _from_pil(opened, channels, what)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(
            f"{what} is not an image that Pillow can read. Convert it to PNG or JPEG, "
            "or, if its name promises an image, fetch it again."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{what} is too large to be opened safely: {error} If you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS."
        ) from error
    except PermissionError as error:
        raise ImageError(f"{what} may not be read: {error.strerror}. Change its permissions.") from error
    # Pillow's decoders raise whatever broken bytes lead to: OSError, SyntaxError, ValueError, EOFError, struct.error.
    except Exception as error:
        raise ImageError(f"{what} is damaged: {error}. Fetch or copy the file again.") from error


def _from_pil(image: Image.Image, channels: int, what: str) -> Pixels:
    if channels not in _MODES:
        raise ImageError(
            f"{what} cannot be read as {channels} channels: files and PIL images give 1 (gray), 3 (RGB) or 4 (RGBA). "
            f"Pass a uint8 array of shape (H, W, {channels})."
        )
    if 0 in image.size:
        raise ImageError(f"{what} has no pixels: it is {image.width} x {image.height}. Pass another image.")
    try:
        image.load()
    except Exception as error:  # As in `_from_file`: a decoder may raise anything on broken bytes.
        raise ImageError(f"{what} is truncated or damaged: {error}. Fetch or copy the file again.") from error
    pixels = np.asarray(_eight_bits(_upright(image), what).convert(_MODES[channels]))
    return np.ascontiguousarray(pixels if channels > 1 else pixels[..., None])


def _upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it writes the remaining EXIF anew, and fails on photographs whose EXIF is broken
    # somewhere else. A picture with unreadable EXIF is a picture without orientation. Pillow turns TIFFs on load.
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _eight_bits(image: Image.Image, what: str) -> Image.Image:
    """`image` in a mode of 8 bits a channel that Pillow converts to L, RGB and RGBA without loss or warning."""
    if image.mode == "F":
        raise ImageError(
            f"{what} holds floats, whose range is unknown. Scale it yourself and pass a uint8 array (H, W, C), 0-255."
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ImageError(
                f"{what} holds integers from {wide.min()} to {wide.max()}, more than 16 bits. "
                "Scale it yourself and pass a uint8 array (H, W, C), 0-255."
            )
        # Pillow's own convert("L") cuts everything above 255 to white; 65535 / 257 is 255 exactly.
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")  # P -> RGB warns where the palette has an alpha for each entry.
    if image.mode in ("La", "LAB"):
        return image.convert("LA" if image.mode == "La" else "RGB")  # Neither goes to L in one step.
    return image


def _from_array(array: "npt.NDArray[Any]", channels: int) -> Pixels:
    wanted = f"uint8 (H, W, {channels}), 0-255" + (", or (H, W) gray" if channels in (1, 3) else "")
    given = f"{array.dtype} {array.shape}"
    gray = array.ndim == 2 and channels in (1, 3)
    if array.dtype != np.uint8 or not (gray or (array.ndim == 3 and array.shape[2] == channels)):
        raise ImageError(f"An image array must be {wanted}; got {given}.{_advice(array, channels)}")
    if array.size == 0:
        raise ImageError(f"An image array must have pixels; got {given}.")
    if gray:
        array = np.repeat(array[..., None], channels, axis=2)
    return np.ascontiguousarray(array)


def _advice(array: "npt.NDArray[Any]", channels: int) -> str:
    """What turns an array that was refused into one that is taken; empty when that is anyone's guess."""
    steps = []
    if array.ndim == 4:
        steps.append("It looks like a batch: pass list(array).")
    elif array.ndim == 3 and array.shape[0] == channels != array.shape[2]:
        steps.append("It looks like channels first: pass array.transpose(1, 2, 0).")
    elif array.ndim == 3 and array.shape[2] == 1 and channels == 3:
        steps.append("It looks like gray: pass array[..., 0].")
    elif array.ndim == 3 and array.shape[2] == 4 and channels == 3:
        steps.append("It looks like RGBA: pass array[..., :3].")
    elif array.ndim == 3 and array.shape[2] == 3 and channels == 1:
        steps.append("It looks like RGB: pass PIL.Image.fromarray(array), which is converted to gray.")
    if array.dtype.kind == "f":
        steps.append("Floats have no fixed range: if yours is 0-1, pass (array * 255).round().astype('uint8').")
    elif array.dtype != np.uint8:
        steps.append("Scale the values to 0-255 and pass array.astype('uint8').")
    return "".join(" " + step for step in steps)


def _describe(image: Image.Image) -> str:
    name = getattr(image, "filename", "")
    return repr(str(name)) if name else f"The PIL image (mode {image.mode!r}, {image.width} x {image.height})"
