"""Image files are opened by format, of a bounded size and upright: images and masks alike."""

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from segzoo.classes import ClassSet
from segzoo.data.dataset import Item, SegmentationData
from segzoo.data.images import is_image, read_image
from segzoo.data.open_image import MAX_PIXELS, open_image, pixel_limit
from segzoo.errors import DataError, ImageError, OptionError

IDS = np.arange(12, dtype=np.uint8).reshape(3, 4)
CLASSES = ClassSet.generic(12)


def png(path: Path, width: int, height: int) -> Path:
    """A file of one black image that is far smaller than its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_rotated_as_its_image(suffix: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, mask = tmp_path / f"image.{suffix}", tmp_path / f"mask.{suffix}"
    colors = np.repeat(IDS[..., None], 3, 2) * 20
    lossless = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(colors).save(image, exif=exif, **lossless)
    # WebP has no gray images: the mask has colors.
    classes = CLASSES
    if suffix == "webp":
        classes = ClassSet(CLASSES.names, tuple(tuple(color) for color in colors.reshape(-1, 3).tolist()))
        Image.fromarray(colors).save(mask, exif=exif, **lossless)
    else:
        Image.fromarray(IDS).save(mask, exif=exif)
    sample = SegmentationData([Item("a", image, mask)], classes)[0]
    assert sample.mask.shape == ((3, 4) if orientation < 5 else (4, 3))
    np.testing.assert_array_equal(sample.image[..., 0], sample.mask * 20)
    assert (sample.mask[0, 0] == 0) == (orientation in (1, 5))


def test_an_image_with_too_many_pixels_is_refused_before_they_are_decoded(tmp_path: Path) -> None:
    """In a process with little memory: 13,000 x 13,000 pixels in 164 kB took 22 GB to predict."""
    bomb = png(tmp_path / "bomb.png", 13_000, 13_000)
    assert bomb.stat().st_size < 200_000
    program = f"""
import resource
resource.setrlimit(resource.RLIMIT_DATA, (2**28, 2**28))
from segzoo.data.images import read_image
from segzoo.errors import ImageError
try:
    read_image({str(bomb)!r})
except ImageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "is 13,000 x 13,000, 169,000,000 pixels; at most 134,217,728 are opened" in done.stdout
    assert "--tile 1024" in done.stdout and "SEGZOO_MAX_PIXELS=169000000" in done.stdout


def test_the_limit_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = png(tmp_path / "a.png", 40, 30)
    assert pixel_limit() == MAX_PIXELS == 2**27
    assert read_image(path, max_pixels=1200).shape == (30, 40, 3)
    with pytest.raises(ImageError, match="at most 1,199 are opened"):
        read_image(path.read_bytes(), max_pixels=1199)
    monkeypatch.setenv("SEGZOO_MAX_PIXELS", "1199")
    data = SegmentationData([Item("a", path, path)], CLASSES)
    with pytest.raises(ImageError, match="at most 1,199 are opened"):
        data[0]
    with pytest.raises(ImageError, match=r"The mask .*a\.png is 40 x 30"):
        data.mask(0)
    monkeypatch.setenv("SEGZOO_MAX_PIXELS", "many")
    with pytest.raises(OptionError, match="SEGZOO_MAX_PIXELS must be a whole number"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize("start", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\n%!PS\n"])
def test_postscript_is_never_given_to_ghostscript(
    name: str, start: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    path = tmp_path / name
    path.write_bytes(start + b"%%EndComments\nshowpage\n" + bytes(200))
    with pytest.raises(ImageError):
        read_image(path)
    with pytest.raises((DataError, ImageError)):
        SegmentationData([Item("a", path, path)], CLASSES).mask(0)


@pytest.mark.parametrize("format", ["PCX", "ICO", "SGI", "XBM", "EPS", "FITS", "MPEG"])
def test_formats_that_are_not_listed_are_not_opened(format: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if format in ("FITS", "MPEG"):
        path.write_bytes({"FITS": b"SIMPLE  =                    T", "MPEG": b"\x00\x00\x01\xb3\x01\x00\x10"}[format])
    else:
        mode = "1" if format == "XBM" else "RGB"
        Image.new(mode, (16, 16)).save(path, format=format)
    with path.open("rb") as stream, pytest.raises(UnidentifiedImageError):
        open_image(stream)
    with pytest.raises(ImageError):
        read_image(path)


def test_text_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,area\n")
    assert not is_image(tmp_path / "a.csv")
