"""Reads image files, PIL images and arrays as uint8 pixels (H, W, C).

All of segzoo reads images through `read_image`, so that a rotated phone photo, a 16-bit scan and a palette GIF give the
same pixels in training, in `predict` and in the runtime. Throughout the package, "a list of images" is a list or a
tuple; an array is one image.
"""

import io
import os
import warnings
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from segzoo._io import similar_paths
from segzoo.data import pages
from segzoo.data.image_formats import ImageFormat, by_content, by_suffix, describe_skipped
from segzoo.data.open_image import open_image, pixel_limit, require_pixels, upright
from segzoo.errors import ImageError, did_you_mean
from segzoo.schema import whole_number

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {
        *(".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx"),
        *(".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp"),
    }
)
"""The file suffixes, in lower case, that `list_images` always accepts."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
Pixels = npt.NDArray[np.uint8]

ChannelOrder = Literal["RGB", "BGR"]

_Page = int | Literal["only"] | None
"""A page, from 1 up; the only one of a TIFF; or the first, with a warning if there are more."""


class HasArray(Protocol):
    """An object that numpy can convert, such as a torch tensor on the CPU."""

    def __array__(self) -> Any: ...


ImageLike = str | os.PathLike[str] | Image.Image | npt.NDArray[Any] | bytes | bytearray | BinaryIO | HasArray
"""What `read_image` accepts, and everything in segzoo that takes an image."""

_MAX_NAME = 255
"""Longest name of a file, in bytes, on nearly every system."""

_SIGNATURE = 132
"""Bytes from the beginning of a file that tell its format."""


def read_image(
    image: ImageLike,
    channels: int = 3,
    channel_order: ChannelOrder = "RGB",
    page: int | None = None,
    max_pixels: int | None = None,
) -> Pixels:
    """Reads one image as the pixels that a model takes.

    Files and PIL images are rotated according to their EXIF orientation. Of a file with several pages, such as a
    scanned TIFF or an animated GIF, one is read; a PIL image is read as it is. Gray, palette, 1-bit, CMYK, YCbCr and
    16-bit images are converted; 16-bit values are scaled (65535 -> 255), never clipped. Transparency is dropped, not
    blended onto a background, unless `channels` is 4.

    An array must already be uint8 (H, W, channels), or (H, W) gray, which is repeated for 3 channels.

    Args:
        image: a path, a PIL image, an array, a torch tensor like the array, the bytes of an image file, or a file that
            is open for reading bytes, which is read from its current position and stays open.
        channels: 1 for gray, 3 for RGB, 4 for RGBA; any other number works for arrays only.
        channel_order: "BGR" for arrays that OpenCV read, whose first three channels are then reversed.
        page: for files, the page of a TIFF, or the frame of an animated GIF, PNG, WebP or AVIF, from 1 up. None reads
            the first, with a UserWarning if there are more. Smaller versions of a page that a TIFF holds, and the
            previews in a photograph, are not pages.
        max_pixels: for files, the largest number of pixels that are decoded. None takes that of the environment
            variable SEGZOO_MAX_PIXELS, else 2**27. Pillow has a limit too, PIL.Image.MAX_IMAGE_PIXELS.

    Returns:
        uint8 (H, W, channels), 0-255, C-contiguous; it may share memory with the array passed in.

    Raises:
        ImageError: the file is missing, truncated, not an image, a decompression bomb, or has no pixels, or no such
            page; the image has float values or more than 16 bits, so its range is unknown; the array has another shape
            or dtype.
        OptionError: `page` is not a whole number from 1 up.
    """
    if page is not None:
        page = whole_number("page", page, 1)
    limit = pixel_limit() if max_pixels is None else max_pixels
    is_file = isinstance(image, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(image, "read")
    if page is not None and not is_file:
        raise ImageError("page= is for files. Of an open PIL image, call seek(page - 1) instead.")
    if isinstance(image, np.ndarray):
        return _from_array(image, channels, channel_order)
    # PIL images convert themselves to arrays too.
    is_array = hasattr(image, "__array__") and not isinstance(image, Image.Image)
    if channel_order != "RGB" and not is_array:
        raise ImageError("channel_order='BGR' is for arrays. Files and PIL images are always read as RGB.")
    if isinstance(image, Image.Image):
        return _from_pil(image, channels, _describe(image))
    if isinstance(image, str | os.PathLike):
        return _from_file(_checked(image), channels, page, limit)
    if isinstance(image, bytes | bytearray | memoryview):
        return _from_stream(io.BytesIO(image), channels, page, limit, f"The image of {len(image):,} bytes")
    if hasattr(image, "read"):
        return _from_file_object(image, channels, page, limit)
    if is_array:
        return _from_array(_to_array(image), channels, channel_order)
    raise ImageError(
        f"An image must be a path, a PIL image, an array, the bytes of a file or an open file, got "
        f"{type(image).__name__}."
    )


def read_only_page(path: Path, channels: int = 3) -> Pixels:
    """As `read_image`, for an image that has a mask: a TIFF with a second page is refused.

    Raises:
        ImageError: the file is a TIFF with several pages; or as `read_image`.
    """
    return _from_file(_checked(path), channels, "only", pixel_limit())


def list_images(path: "str | os.PathLike[str]") -> list[Path]:
    """The images at `path`: the file itself, or all images in the folder and its subfolders, sorted.

    In a folder, files with a suffix in `IMAGE_SUFFIXES` are images, and so are .heic, .heif and .jxl files if
    pillow-heif or pillow-jxl-plugin is installed. Hidden files and folders (leading dot) are skipped. A UserWarning
    names images in a format that is not read, such as camera raw.

    Raises:
        ImageError: `path` does not exist, or the folder contains no image.
    """
    images, skipped = scan(path)
    if skipped:
        warnings.warn(skipped, stacklevel=2)
    return images


def scan(path: "str | os.PathLike[str]") -> tuple[list[Path], str]:
    """What `list_images` returns, and sentences about the images that it leaves out, "" for none; it does not warn.

    Raises:
        ImageError: as `list_images`.
    """
    root = _checked(path)
    if root.is_file():
        return [root], ""
    if not root.is_dir():
        raise ImageError(
            f"There is no file or folder {str(root)!r}.{did_you_mean(similar_paths(root))} Check the path."
        )
    images: list[Path] = []
    others: list[Path] = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            file = Path(folder, name)
            if name.startswith("."):
                continue
            if file.suffix.lower() in IMAGE_SUFFIXES:
                images.append(file)
            elif (image_format := by_suffix(file)) is not None:
                (images if image_format.is_readable() else others).append(file)
    skipped = describe_skipped(others)
    if not images:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        advice = skipped or f"Supported suffixes: {suffixes}."
        raise ImageError(f"The folder {str(root)!r} holds no images that segzoo reads. {advice}")
    return sorted(images), skipped


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its name or by how it begins. Also true of damaged ones, and of those not read."""
    if path.suffix.lower() in IMAGE_SUFFIXES or by_suffix(path) is not None:
        return True
    try:
        with path.open("rb") as stream:
            if by_content(stream.read(_SIGNATURE)) is not None:
                return True
            with open_image(stream):
                return True
    except UnidentifiedImageError:
        return False
    except OSError:  # it cannot be opened, and whoever reads it says why
        return True
    except Exception:  # Pillow recognized it, and then met damage
        return True


def _checked(path: Any) -> Path:
    """The path, if it can be one."""
    if not isinstance(path, str | os.PathLike):
        raise ImageError(f"The path of an image must be a string or a Path, got {type(path).__name__}.")
    text = os.fspath(path)
    if not isinstance(text, str):
        raise ImageError("The path of an image must be a string, got bytes. Decode it with os.fsdecode.")
    if not text:
        raise ImageError("The path of the image is empty. Pass the path of a file.")
    names = text.replace(os.sep, "/").split("/")
    if "\0" in text or len(text) > 4096 or any(len(name.encode(errors="replace")) > _MAX_NAME for name in names):
        raise ImageError(f"{text[:60]!r}... is not a path: it has {len(text):,} characters, or a NUL. Check it.")
    return Path(path)


def _to_array(image: Any) -> "npt.NDArray[Any]":
    """The array of a tensor or of any other object that numpy can convert."""
    try:
        # A torch tensor may be on a GPU or require gradients.
        return np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    except Exception as error:  # whatever the object raises
        raise ImageError(
            f"The {type(image).__name__} cannot be converted to an array: {error}. Pass a uint8 array (H, W, channels)."
        ) from error


def _from_file(path: Path, channels: int, page: _Page, limit: int) -> Pixels:
    if path.is_dir():
        raise ImageError(f"{str(path)!r} is a folder. Pass one file, or the list from segzoo.data.images.list_images.")
    if not path.is_file():
        raise ImageError(f"There is no image file {str(path)!r}.{did_you_mean(similar_paths(path))} Check the path.")
    name = repr(str(path))
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{name} is empty (0 bytes). Download or copy the file again.")
        # Pass an open file, not its name. Given a name, Pillow 13.0 memory-maps uncompressed TIFFs, and garbles gray
        # ones with an orientation tag of 5 to 8, which rotates them by 90 degrees.
        with path.open("rb") as stream:
            return _from_stream(stream, channels, page, limit, name, by_suffix(path))
    except PermissionError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror}. Change its permissions.") from error


def _from_file_object(file: Any, channels: int, page: _Page, limit: int) -> Pixels:
    """Reads the rest of a file that somebody else opened; Pillow would start from its beginning."""
    name = f"The image in {getattr(file, 'name', type(file).__name__)!r}"
    try:
        data = file.read()
    except Exception as error:  # whatever the object raises
        raise ImageError(f"{name} cannot be read: {error}. Open the file again.") from error
    if not isinstance(data, bytes):
        raise ImageError(f"{name} is open in text mode. Open it with mode 'rb'.")
    if not data:
        raise ImageError(f"{name} has no bytes left. If it was read before, call its seek(0) first.")
    return _from_stream(io.BytesIO(data), channels, page, limit, name)


def _from_stream(
    stream: Any, channels: int, page: _Page, limit: int, name: str, named: ImageFormat | None = None
) -> Pixels:
    """Reads an image file that is open. `named` is the format that its suffix stands for."""
    unread = None
    several = False
    try:
        image_format = by_content(stream.read(_SIGNATURE)) or named
        stream.seek(0)
        if image_format is not None and not image_format.is_readable():  # before Pillow opens it: it registers a plugin
            unread = image_format.error(name)
            if image_format.misread:
                raise unread
        with open_image(stream) as image:
            pages.select(image, page if isinstance(page, int) else 1, name)
            require_pixels(image, name, limit)
            pixels = _from_pil(image, channels, name)
            # Only now: after a failed look at a damaged second page, Pillow would lose the orientation of the first.
            several = not isinstance(page, int) and pages.has_several(image)
            # An animation is labeled by its first frame; of a stack of scans, any page may be the one that was labeled.
            if several and page == "only" and image.format == "TIFF":
                raise ImageError(f"{name} has several pages, and one image is needed. Save the page as a file.")
    except ImageError:
        raise
    except UnidentifiedImageError:
        if unread is not None:
            raise unread from None
        raise ImageError(
            f"{name} is not an image that Pillow can read. Convert it to PNG or JPEG, "
            "or, if it should be an image, download it again."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{name} is too large to be opened safely: {error} If you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS."
        ) from error
    # On damaged files, Pillow's decoders raise OSError, SyntaxError, ValueError, EOFError, struct.error and others.
    except Exception as error:
        raise ImageError(f"{name} is damaged: {error}. Download or copy the file again.") from error
    if several:
        warnings.warn(f"{name} has several pages, of which the first is read. page= chooses another.", stacklevel=4)
    return pixels


def _from_pil(image: Image.Image, channels: int, name: str) -> Pixels:
    if channels not in _MODES:
        raise ImageError(
            f"{name} cannot be read as {channels} channels: files and PIL images give 1 (gray), 3 (RGB) or 4 (RGBA). "
            f"Pass a uint8 array of shape (H, W, {channels})."
        )
    if 0 in image.size:
        raise ImageError(f"{name} has no pixels: it is {image.width} x {image.height}. Pass another image.")
    try:
        image.load()
    except Exception as error:  # As in `_from_file`, a decoder may raise any exception on a damaged file.
        raise ImageError(f"{name} is truncated or damaged: {error}. Download or copy the file again.") from error
    pixels = np.asarray(_to_8_bits(upright(image), name).convert(_MODES[channels]))
    return np.ascontiguousarray(pixels if channels > 1 else pixels[..., None])


def _to_8_bits(image: Image.Image, name: str) -> Image.Image:
    """`image` in a mode with 8 bits per channel that Pillow converts to L, RGB and RGBA without loss or warning."""
    if image.mode == "F":
        raise ImageError(
            f"{name} holds floats, whose range is unknown. Scale it yourself and pass a uint8 array (H, W, C), 0-255."
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(
                f"{name} holds integers from {values.min()} to {values.max()}, more than 16 bits. "
                "Scale it yourself and pass a uint8 array (H, W, C), 0-255."
            )
        # Pillow's own convert("L") clips everything above 255 to white; 65535 / 257 is exactly 255.
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")  # P -> RGB warns if each palette entry has an alpha value.
    if image.mode in ("La", "LAB"):
        return image.convert("LA" if image.mode == "La" else "RGB")  # Pillow cannot convert either to L directly.
    return image


def _from_array(array: "npt.NDArray[Any]", channels: int, channel_order: ChannelOrder) -> Pixels:
    expected = f"uint8 (H, W, {channels}), 0-255" + (", or (H, W) gray" if channels in (1, 3) else "")
    actual = f"{array.dtype} {array.shape}"
    gray = array.ndim == 2 and channels in (1, 3)
    if array.dtype != np.uint8 or not (gray or (array.ndim == 3 and array.shape[2] == channels)):
        raise ImageError(f"An image array must be {expected}; got {actual}.{_advice(array, channels)}")
    if array.size == 0:
        raise ImageError(f"An image array must have pixels; got {actual}.")
    if gray:
        array = np.repeat(array[..., None], channels, axis=2)
    elif channel_order == "BGR" and channels > 1:
        array = np.concatenate((array[..., 2::-1], array[..., 3:]), axis=2)
    return np.ascontiguousarray(array)


def _advice(array: "npt.NDArray[Any]", channels: int) -> str:
    """How to convert an array of the wrong form; empty if that cannot be guessed."""
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
        steps.append("It looks like RGB: pass PIL.Image.fromarray(array), which `read_image` converts to gray.")
    if array.dtype.kind == "f":
        steps.append("Floats have no fixed range: if yours is 0-1, pass (array * 255).round().astype('uint8').")
    elif array.dtype != np.uint8:
        steps.append("Scale the values to 0-255 and pass array.astype('uint8').")
    return "".join(" " + step for step in steps)


def _describe(image: Image.Image) -> str:
    name = getattr(image, "filename", "")
    return repr(str(name)) if name else f"The PIL image (mode {image.mode!r}, {image.width} x {image.height})"
