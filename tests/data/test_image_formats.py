"""Images in formats that segzoo does not read are named, with what to do; plugins of Pillow make some readable."""

import io
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

import segzoo.data.image_formats as image_formats
from segzoo.data.datasets.base import pair_files
from segzoo.data.images import IMAGE_SUFFIXES, is_image, list_images, read_image, scan
from segzoo.errors import DataError, ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS).save(path, "PNG")
    return path


class StandIn(ImageFile.ImageFile):
    """A decoder like pillow-heif's: it opens whatever begins with HEIF's signature, as one red pixel."""

    format = "HEIF"

    def _open(self) -> None:
        self._size, self._mode = (1, 1), "RGB"
        self.tile = []

    def load(self) -> object:
        self.im = Image.new("RGB", (1, 1), (255, 0, 0)).im
        return super().load()


def register() -> None:
    Image.register_open("HEIF", StandIn, lambda start: start[4:8] == b"ftyp")
    Image.register_extensions("HEIF", [".heic", ".heif"])


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is registered is gone after the test, and no plugin is installed."""
    Image.init()
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "EXTENSION", dict(Image.EXTENSION))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    for module in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, module, None)  # the import then fails
    image_formats._load_plugin.cache_clear()
    yield
    image_formats._load_plugin.cache_clear()


HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(200)

FILES = {
    "a.heic": (HEIC, r"format that segzoo does not read \(HEIF\)\. Convert to JPEG or PNG.*pip install pillow-heif"),
    "phone.jpg": (HEIC, r"phone\.jpg' has a format that segzoo does not read \(HEIF\)"),
    "a.jxl": (b"\xff\x0a" + bytes(200), r"\(JPEG XL\).*pip install pillow-jxl-plugin"),
    "a.svg": (b'<?xml version="1.0"?><svg/>', r"\(vector graphics\)\. Render as PNG"),
    "a.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"\(vector graphics\)"),
    "a.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"a\.png' has.*\(vector graphics\)"),
    "a.psd": (b"8BPS\0\1" + bytes(200), r"\(layered image\)\. Export as PNG or TIFF"),
    "a.hdr": (b"#?RADIANCE\n", r"\(high dynamic range\)"),
    "a.dcm": (bytes(128) + b"DICM", r"\(DICOM\)"),
    "a.raf": (b"FUJIFILMCCD-RAW 0201", r"\(camera raw\)\. Develop to JPEG, PNG or TIFF"),
}


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("name", FILES)
def test_a_format_that_is_not_read_is_named(name: str, tmp_path: Path) -> None:
    content, message = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read_image(tmp_path / name)
    assert is_image(tmp_path / name)


def test_the_preview_in_a_raw_photograph_is_not_taken_for_the_picture(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / "a.dng")
    with Image.open(tmp_path / "a.dng") as preview:
        assert preview.size == (9, 8)  # Pillow would read it
    with pytest.raises(ImageError, match=r"camera raw"):
        read_image(tmp_path / "a.dng")


@pytest.mark.usefixtures("registry")
def test_bytes_and_open_files_are_recognized_too() -> None:
    for image in (HEIC, io.BytesIO(HEIC)):
        with pytest.raises(ImageError, match=r"\(HEIF\)"):
            read_image(image)


@pytest.mark.usefixtures("registry")
def test_a_folder_names_what_it_skips(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for name in ("notes.txt", "data.json", "a.mp4", ".hidden.heic", "b.dng", *(f"{i}.HEIC" for i in range(10))):
        (tmp_path / name).touch()
    with pytest.warns(UserWarning) as caught:
        assert list_images(tmp_path) == [tmp_path / "a.png"]
    assert [str(warning.message) for warning in caught] == [
        "Skipped 10 files in a format that segzoo does not read (HEIF): 0.HEIC, 1.HEIC, 2.HEIC and 7 more. Convert to "
        "JPEG or PNG, or run: pip install pillow-heif. Skipped 1 file in a format that segzoo does not read (camera "
        "raw): b.dng. Develop to JPEG, PNG or TIFF."
    ]
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match=r"holds no images that segzoo reads\. Skipped 10 files"):
        list_images(tmp_path)


def test_other_files_are_not_mentioned(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for name in ("notes.txt", "data.json", "a.mp4", ".hidden.heic", "b.npy"):
        (tmp_path / name).touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list_images(tmp_path) == [tmp_path / "a.png"]
    assert not is_image(tmp_path / "notes.txt")


@pytest.mark.usefixtures("registry")
def test_an_opener_that_the_user_registered_is_used(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(HEIC)
    register()
    assert read_image(tmp_path / "a.heic").tolist() == [[[255, 0, 0]]]
    assert read_image(HEIC).tolist() == [[[255, 0, 0]]]
    assert scan(tmp_path) == ([tmp_path / "a.heic"], "")


@pytest.mark.usefixtures("registry")
def test_an_installed_plugin_is_registered_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(HEIC)
    assert "HEIF" not in Image.OPEN
    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    assert list_images(tmp_path) == [tmp_path / "a.heic"]
    assert read_image(tmp_path / "a.heic").shape == (1, 1, 3)
    (tmp_path / "b.heic").write_bytes(b"no HEIF")
    with pytest.raises(ImageError, match="is not an image that Pillow can read"):  # and not: install pillow-heif
        read_image(tmp_path / "b.heic")


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("error", [ImportError("built for another Pillow"), RuntimeError("no codec")])
def test_a_plugin_that_fails_is_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=fail))
    (tmp_path / "a.heic").write_bytes(HEIC)
    with pytest.raises(ImageError, match=r"\(HEIF\)"):
        read_image(tmp_path / "a.heic")


def test_the_real_plugin_reads_its_format(tmp_path: Path) -> None:
    image_formats.by_suffix(tmp_path / "a.heic").is_readable()
    Image.fromarray(PIXELS).save(tmp_path / "a.heic")
    assert read_image(tmp_path / "a.heic").shape == PIXELS.shape
    assert list_images(tmp_path) == [tmp_path / "a.heic"]


def test_no_format_is_both_read_and_not_read() -> None:
    suffixes = [suffix for format in image_formats.FORMATS for suffix in format.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert IMAGE_SUFFIXES.isdisjoint(suffixes)


def test_data_sets_say_which_image_is_not_read(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    for name in ("a", "b"):
        save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "images" / "b.dng").touch()
    with pytest.raises(DataError, match=r"images contains no image of that name\. Skipped 1 file.*b\.dng"):
        pair_files(tmp_path / "images", tmp_path / "masks")
    save(tmp_path / "images" / "b.png")  # a raw photograph next to the developed one
    assert [item.name for item in pair_files(tmp_path / "images", tmp_path / "masks")] == ["a", "b"]
