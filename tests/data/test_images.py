"""Images of every mode and format are read as the same pixels, or the error says what to do."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segzoo.data.images import IMAGE_SUFFIXES, list_images, read_image
from segzoo.errors import ImageError

RED, GRAY = (255, 0, 0), (100, 100, 100)
NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


def palette(alpha: bytes | int | None) -> Image.Image:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, *RED])
    if alpha is not None:
        image.info["transparency"] = alpha
    return image


IMAGES = {
    "1": (Image.new("1", (2, 2), 1), (255, 255, 255), 255),
    "L": (Image.new("L", (2, 2), 100), GRAY, 100),
    "LA": (Image.new("LA", (2, 2), (100, 0)), GRAY, 100),
    "La": (Image.new("LA", (2, 2), (100, 255)).convert("La"), GRAY, 100),
    "PA": (palette(None).convert("PA"), RED, 76),
    "P": (palette(None), RED, 76),
    "P with alpha each": (palette(b"\xff\x00"), RED, 76),
    "P with one clear": (palette(1), RED, 76),
    "RGB": (Image.new("RGB", (2, 2), RED), RED, 76),
    "RGBA": (Image.new("RGBA", (2, 2), (*RED, 0)), RED, 76),
    "RGBX": (Image.new("RGBX", (2, 2), (*RED, 0)), RED, 76),
    "CMYK": (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), RED, 76),
    "HSV": (Image.new("HSV", (2, 2), (0, 255, 255)), RED, 76),
    "YCbCr": (Image.new("YCbCr", (2, 2), (100, 128, 128)), GRAY, 100),
    "I;16": (Image.fromarray(np.full((2, 2), 25700, np.uint16)), GRAY, 100),
    "I;16B": (Image.fromarray(np.full((2, 2), 25700, ">u2")), GRAY, 100),
    "I": (Image.fromarray(np.full((2, 2), 25700, np.int32)), GRAY, 100),
}


@pytest.mark.parametrize("name", IMAGES)
def test_every_mode_has_its_color(name: str) -> None:
    image, rgb, gray = IMAGES[name]
    assert image.mode == name.split()[0]
    for channels, expected in ((3, rgb), (1, (gray,))):
        pixels = read_image(image, channels)
        assert pixels.shape == (2, 2, channels)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert np.array_equal(pixels, np.broadcast_to(np.uint8(expected), pixels.shape))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (1, 1), (1, 2, 3, 4)), (1, 2, 3, 4)),
        (Image.new("RGB", (1, 1), (1, 2, 3)), (1, 2, 3, 255)),
        (Image.new("LA", (1, 1), (9, 5)), (9, 9, 9, 5)),
        (palette(b"\xff\x07"), (*RED, 7)),
    ],
)
def test_four_channels_keep_the_alpha(image: Image.Image, expected: tuple[int, ...]) -> None:
    assert tuple(read_image(image, 4)[0, 0]) == expected


def test_sixteen_bits_are_scaled_and_rounded(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 25700, 65406, 65407, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    expected = [0, 0, 1, 100, 254, 255, 255]
    assert read_image(tmp_path / "deep.png", 1)[0, :, 0].tolist() == expected
    assert read_image(Image.fromarray(values.astype(np.int32)), 1)[0, :, 0].tolist() == expected


def test_lab_is_converted() -> None:
    # In the color profile, 128 is the middle of the green-red axis and 255 its red end.
    pixels = read_image(Image.new("LAB", (2, 2), (136, 209, 195)))
    assert np.allclose(pixels, RED, atol=12)
    assert read_image(Image.new("LAB", (2, 2), (255, 128, 128)), 1).min() >= 254


@pytest.mark.parametrize("name", ["red.tif", "red.jpg"])
def test_cmyk_files_are_red(name: str, tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / name)
    assert np.allclose(read_image(tmp_path / name), RED, atol=2)


STORED = np.arange(6, dtype=np.uint8).reshape(2, 3)
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a),
    9: lambda a: a,  # not a valid orientation
}


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied(orientation: int, suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(STORED).save(path, exif=exif)
    assert np.array_equal(read_image(path, 1)[..., 0], TURNS[orientation](STORED))
    with path.open("rb") as stream, Image.open(stream) as image:
        assert np.array_equal(read_image(image, 1)[..., 0], TURNS[orientation](STORED))


def test_a_rotated_photograph(tmp_path: Path) -> None:
    # Orientation 6: the camera was rotated, and the left edge of the stored image is the top of the scene.
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:, :16] = RED
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "phone.jpg", exif=exif, quality=95)
    pixels = read_image(str(tmp_path / "phone.jpg"))
    assert pixels.shape == (48, 32, 3)
    assert np.allclose(pixels[4, 16], RED, atol=8)
    assert np.allclose(pixels[40, 16], 0, atol=8)


def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    Image.fromarray(STORED).save(path, exif=b"Exif\x00\x00rubbish")
    assert np.array_equal(read_image(path, 1)[..., 0], STORED)


def test_the_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 3), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match=r"two\.gif' has several pages, of which the first is read"):
        assert tuple(read_image(tmp_path / "two.gif")[0, 0]) == RED


def test_reading_does_not_modify_the_input() -> None:
    image = palette(b"\xff\x00")
    read_image(image)
    assert (image.mode, image.info["transparency"]) == ("P", b"\xff\x00")


# Arrays


def test_arrays_of_the_final_form_are_not_copied() -> None:
    assert np.shares_memory(read_image(NOISE), NOISE)
    assert np.array_equal(read_image(NOISE[:, ::-1]), NOISE[:, ::-1])
    assert read_image(NOISE[:, ::-1]).flags.c_contiguous


def test_arrays_may_have_many_channels() -> None:
    bands = np.arange(2 * 3 * 7, dtype=np.uint8).reshape(2, 3, 7)
    assert np.array_equal(read_image(bands, 7), bands)


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_arrays_are_repeated(channels: int) -> None:
    pixels = read_image(STORED, channels)
    assert pixels.shape == (2, 3, channels)
    assert all(np.array_equal(pixels[..., c], STORED) for c in range(channels))


@pytest.mark.parametrize(
    ("array", "channels", "messages"),
    [
        (np.zeros((4, 5, 3), np.float32), 3, ["float32 (4, 5, 3)", "uint8 (H, W, 3)", "array * 255"]),
        (np.zeros((4, 5, 3), np.int64), 3, ["int64 (4, 5, 3)", "astype('uint8')"]),
        (np.zeros((4, 5), np.bool_), 3, ["bool (4, 5)"]),
        (np.zeros((3, 4, 5), np.uint8), 3, ["uint8 (3, 4, 5)", "transpose(1, 2, 0)"]),
        (np.zeros((3, 4, 5), np.float32), 3, ["float32 (3, 4, 5)", "transpose(1, 2, 0)", "array * 255"]),
        (np.zeros((1, 4, 5), np.uint8), 1, ["transpose(1, 2, 0)"]),
        (np.zeros((4, 5, 4), np.uint8), 3, ["uint8 (4, 5, 4)", "array[..., :3]"]),
        (np.zeros((4, 5, 1), np.uint8), 3, ["uint8 (4, 5, 1)", "array[..., 0]"]),
        (np.zeros((4, 5, 3), np.uint8), 1, ["uint8 (4, 5, 3)", "gray"]),
        (np.zeros((4, 5), np.uint8), 4, ["uint8 (4, 5)", "uint8 (H, W, 4)"]),
        (np.zeros((2, 4, 5, 3), np.uint8), 3, ["(2, 4, 5, 3)", "list(array)"]),
        (np.zeros((0, 5, 3), np.uint8), 3, ["must have pixels", "(0, 5, 3)"]),
        (np.zeros((0, 5), np.uint8), 3, ["must have pixels", "(0, 5)"]),
    ],
)
def test_other_arrays_are_rejected_with_advice(array: np.ndarray, channels: int, messages: list[str]) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(array, channels)
    assert [message for message in messages if message not in str(caught.value)] == []


@pytest.mark.parametrize("value", [None, 3, [NOISE]])
def test_other_types_are_rejected(value: Any) -> None:
    with pytest.raises(ImageError, match=f"got {type(value).__name__}"):
        read_image(value)


# Files that cannot be read


def encoded(image_format: str, image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format)
    return stream.getvalue()


BROKEN = {
    "cut.png": (encoded("PNG", Image.fromarray(NOISE))[:900], "truncated or damaged"),
    "cut.jpg": (encoded("JPEG", Image.fromarray(NOISE))[:700], "truncated or damaged"),
    "cut.tif": (encoded("TIFF", Image.fromarray(NOISE))[:900], "damaged"),
    "headless.png": (encoded("PNG", Image.fromarray(NOISE))[:20], "damaged|not an image"),
    "notes.jpg": (b"Dear diary, ", "not an image"),
    "nothing.png": (b"", "is empty"),
    "float.tif": (encoded("TIFF", Image.new("F", (2, 2))), "holds floats"),
    "wide.tif": (encoded("TIFF", Image.new("I", (2, 2), 70000)), "integers from 70000 to 70000"),
    "negative.tif": (encoded("TIFF", Image.new("I", (2, 2), -1)), "integers from -1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_invalid_files_are_named(name: str, tmp_path: Path) -> None:
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no image file '.*gone.png'"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("limit", [100, 1000])  # Pillow raises above twice the limit and warns above the limit.
def test_decompression_bombs(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(NOISE).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ImageError, match=r"too large to be opened safely.*MAX_IMAGE_PIXELS"):
        read_image(tmp_path / "bomb.png")


def test_an_image_without_pixels() -> None:
    with pytest.raises(ImageError, match="no pixels: it is 0 x 5"):
        read_image(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("channels", [2, 5])
def test_files_have_1_3_or_4_channels(channels: int, tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=rf"as {channels} channels.*\(H, W, {channels}\)"):
        read_image(tmp_path / "a.png", channels)


# Folders


def test_images_of_a_folder_are_sorted_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/z.jpg", "a/b/c.webp", ".hidden.png", ".thumbs/d.png", "notes.txt", "mask.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [tmp_path / name for name in ("a/b/c.webp", "a/z.jpg", "b.PNG")]


def test_the_path_of_a_file_gives_that_file(tmp_path: Path) -> None:
    (tmp_path / "scan.dat").touch()
    assert list_images(str(tmp_path / "scan.dat")) == [tmp_path / "scan.dat"]


def test_no_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"holds no images.*\.jpg"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="no file or folder"):
        list_images(tmp_path / "gone")


def test_pillow_knows_every_suffix() -> None:
    assert set(Image.registered_extensions()) >= IMAGE_SUFFIXES


def test_an_empty_path_is_an_error() -> None:
    with pytest.raises(ImageError, match="path of the image is empty"):
        read_image("")


def encoded(tmp_path: Path) -> bytes:
    Image.fromarray(NOISE).save(tmp_path / "noise.png")
    return (tmp_path / "noise.png").read_bytes()


def test_the_bytes_of_a_file_and_open_files_are_images(tmp_path: Path) -> None:
    data = encoded(tmp_path)
    for image in (data, bytearray(data), memoryview(data), io.BytesIO(data)):
        assert np.array_equal(read_image(image), NOISE)
    with open(tmp_path / "twice", "w+b") as file:
        file.write(b"before" + data)
        file.seek(6)
        assert np.array_equal(read_image(file), NOISE)
        assert not file.closed


def test_tensors_are_images_without_torch_being_imported_here() -> None:
    import torch

    assert np.array_equal(read_image(torch.tensor(NOISE)), NOISE)
    with pytest.raises(ImageError, match=r"channels first: pass array.transpose\(1, 2, 0\)"):
        read_image(torch.zeros(3, 20, 30, dtype=torch.uint8))
    with pytest.raises(ImageError, match="Floats have no fixed range"):
        read_image(torch.zeros(20, 30, 3, requires_grad=True))


def test_arrays_of_opencv_are_reversed_and_nothing_else_is() -> None:
    assert np.array_equal(read_image(NOISE[..., ::-1], channel_order="BGR"), NOISE)
    bgra = np.dstack((NOISE[..., ::-1], NOISE[..., :1]))
    assert np.array_equal(read_image(bgra, 4, "BGR"), np.dstack((NOISE, NOISE[..., :1])))
    assert np.array_equal(read_image(torch.tensor(NOISE[..., ::-1].copy()), channel_order="BGR"), NOISE)
    with pytest.raises(ImageError, match="Files and PIL images are always read as RGB"):
        read_image(Image.fromarray(NOISE), channel_order="BGR")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "The image of 0 bytes is not an image"),
        (b"\x89PNG\r\n\x1a\n1234", "The image of 12 bytes is"),
        (io.StringIO("text"), "open in text mode"),
        (io.BytesIO(b""), r"has no bytes left\. If it was read before, call its seek\(0\) first"),
        ("x" * 5000, "is not a path: it has 5,000 characters"),
        ("a/" * 3000, "is not a path: it has 6,000 characters"),
        ("a\0b", "is not a path"),
        ("", "is empty"),
    ],
)
def test_what_is_no_image_is_described(image: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(image)


def test_a_closed_file_is_no_image(tmp_path: Path) -> None:
    file = io.BytesIO(encoded(tmp_path))
    file.close()
    with pytest.raises(ImageError):
        read_image(file)


@pytest.mark.parametrize("path", [None, "", 3, b"photos", "x" * 5000, "a\0b"])
def test_a_folder_needs_a_path(path: Any) -> None:
    with pytest.raises(ImageError, match=r"\.$"):
        list_images(path)
