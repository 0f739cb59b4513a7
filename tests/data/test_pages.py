"""Files with several pages: one is read, nobody is left to guess which, and a mask never has a second one."""

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segzoo.classes import ClassSet
from segzoo.data import pages
from segzoo.data.dataset import Item, SegmentationData
from segzoo.data.images import read_image, read_only_page
from segzoo.data.masks import read_mask
from segzoo.errors import DataError, ImageError, OptionError

COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
CLASSES = ClassSet(("a", "b"), ((0, 0, 0), (255, 0, 0)))


def write(path: Path, sizes: tuple[tuple[int, int], ...] = ((8, 6),) * 3, **options: Any) -> Path:
    """A file with one page of each size: red, green, blue."""
    first, *more = (Image.new("RGB", size, color) for size, color in zip(sizes, COLORS, strict=False))
    first.save(path, save_all=True, append_images=more, **options)
    return path


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.png", "a.webp"])
def test_a_page_is_selected(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    assert pages.count_pages(path) == 3
    for image in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        for number, color in enumerate(COLORS, 1):
            if isinstance(image, io.BytesIO):
                image.seek(0)
            assert (read_image(image, page=number) == color).all()
    with pytest.raises(ImageError, match=r"has 3 pages, so there is no page 4\. Choose a page from 1 to 3\."):
        read_image(path, page=4)
    with pytest.warns(UserWarning, match=r"has several pages, of which the first is read\. page= chooses another\."):
        assert (read_image(path) == COLORS[0]).all()


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.png", "a.webp", "a.jpg", "a.bmp"])
def test_a_file_with_one_page_is_read_without_a_warning(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), "red").save(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_image(tmp_path / name), read_image(tmp_path / name, page=1))
        assert np.array_equal(read_image(tmp_path / name), read_only_page(tmp_path / name))
    assert pages.count_pages(tmp_path / name) == 1
    with pytest.raises(ImageError, match=r"has one page, so there is no page 2\. Choose page 1\."):
        read_image(tmp_path / name, page=2)


def test_the_further_pictures_of_a_photograph_are_not_pages(tmp_path: Path) -> None:
    write(tmp_path / "phone.jpg", format="MPO")
    with Image.open(tmp_path / "phone.jpg") as image:
        assert (image.format, image.n_frames) == ("MPO", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(tmp_path / "phone.jpg")


def pyramid(path: Path, kinds: tuple[int, ...]) -> Path:
    """A TIFF with a page for each value of NewSubfileType: 0 is a page, 1 a smaller version, 4 a mask."""
    write(path, sizes=tuple((8 - i, 6) for i in range(len(kinds))), tiffinfo={254: 0})
    data = bytearray(path.read_bytes())
    position = struct.unpack_from("<I", data, 4)[0]
    for kind in kinds:
        (count,) = struct.unpack_from("<H", data, position)
        for entry in range(position + 2, position + 2 + 12 * count, 12):
            if struct.unpack_from("<H", data, entry)[0] == 254:
                struct.pack_into("<HHII", data, entry, 254, 4, 1, kind)
        (position,) = struct.unpack_from("<I", data, position + 2 + 12 * count)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kinds", "widths"),
    [((0, 0, 0), [8, 7, 6]), ((0, 1, 1), [8]), ((0, 1, 0), [8, 6]), ((1, 0, 4), [7]), ((1, 1, 1), [8])],
)
def test_smaller_versions_of_a_page_are_not_pages(kinds: tuple[int, ...], widths: list[int], tmp_path: Path) -> None:
    path = pyramid(tmp_path / "a.tif", kinds)
    assert pages.count_pages(path) == len(widths)
    assert [read_image(path, page=number).shape[1] for number in range(1, len(widths) + 1)] == widths
    if len(widths) == 1:
        assert read_only_page(path).shape[1] == widths[0]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "jpeg"])
def test_every_page_is_rotated_on_its_own(compression: str, tmp_path: Path) -> None:
    stored = np.zeros((4, 6, 3), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    first, second = Image.fromarray(stored + 9), Image.fromarray(stored + 200)
    second.encoderinfo = {"exif": turned}  # type: ignore[attr-defined]
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second], compression=compression)
    assert read_image(tmp_path / "a.tif", page=1).shape == (4, 6, 3)
    assert read_image(tmp_path / "a.tif", page=2).shape == (6, 4, 3)
    assert abs(int(read_image(tmp_path / "a.tif", page=2)[0, 0, 0]) - 200) < 4


def test_a_damaged_second_page_leaves_the_first(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a.tif", ((8, 6), (8, 6))).read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, len(data) + 1000)
    (tmp_path / "a.tif").write_bytes(data)
    assert (read_image(tmp_path / "a.tif") == COLORS[0]).all()


def test_pages_that_form_a_circle_end(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a.tif", ((8, 6), (8, 6))).read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    (tmp_path / "a.tif").write_bytes(data)
    assert pages.count_pages(tmp_path / "a.tif") == 1
    assert (read_image(tmp_path / "a.tif") == COLORS[0]).all()


@pytest.mark.parametrize("page", [0, -1, 1.5, True, "2"])
def test_an_invalid_page(page: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="page must be"):
        read_image(write(tmp_path / "a.tif"), page=page)


def test_a_page_of_any_size_of_number_is_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no page"):
        read_image(write(tmp_path / "a.tif"), page=2**70)


@pytest.mark.parametrize("image", [Image.new("RGB", (2, 2)), np.zeros((2, 2, 3), np.uint8)])
def test_only_files_have_pages(image: Any) -> None:
    with pytest.raises(ImageError, match="page= is for files"):
        read_image(image, page=1)


def test_a_file_that_is_no_image_has_one_page_until_somebody_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    assert pages.count_pages(tmp_path / "a.tif") == pages.count_pages(tmp_path / "gone.tif") == 1


def test_data_sets_refuse_what_leaves_a_choice(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "image.png")
    Image.new("L", (8, 6), 1).save(tmp_path / "mask.png")
    several = write(tmp_path / "a.tif")
    gray = Image.new("L", (8, 6), 1)
    gray.save(tmp_path / "masks.tif", save_all=True, append_images=[gray])
    items = [
        Item("good", tmp_path / "image.png", tmp_path / "mask.png"),
        Item("image", several, tmp_path / "mask.png"),
        Item("mask", tmp_path / "image.png", tmp_path / "masks.tif"),
    ]
    data = SegmentationData(items, CLASSES)
    assert data[0].mask.max() == 1
    with pytest.raises(ImageError, match=r"a\.tif' has several pages, and one image is needed"):
        data[1]
    with pytest.raises(DataError, match=r"The mask .*masks\.tif has several pages"):
        data[2]
    with pytest.raises(DataError, match="several pages"):
        read_mask(several, CLASSES)


def test_an_animation_in_a_data_set_is_labeled_by_its_first_frame(tmp_path: Path) -> None:
    Image.new("L", (8, 6), 1).save(tmp_path / "mask.png")
    data = SegmentationData([Item("a", write(tmp_path / "a.gif"), tmp_path / "mask.png")], CLASSES)
    with pytest.warns(UserWarning, match=r"a\.gif' has several pages, of which the first is read"):
        assert (data[0].image == COLORS[0]).all()
