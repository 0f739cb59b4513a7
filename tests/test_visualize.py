"""Pictures of masks: the right colors at the right pixels, and files that keep the class ids."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.classes import ClassSet, class_set
from segzoo.errors import ImageError
from segzoo.visualize import colorize, overlay, save_mask

VOC = class_set("voc")
MASK = np.array([[0, 1, 15], [255, 20, 1]], np.uint8)
BLACK, AEROPLANE, PERSON, TV = (0, 0, 0), (128, 0, 0), (192, 128, 128), (0, 64, 128)
IMAGE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint16])
def test_each_class_has_its_color(dtype: type) -> None:
    colored = colorize(MASK.astype(dtype), VOC)
    assert colored.dtype == np.uint8
    assert colored.tolist() == [
        [list(BLACK), list(AEROPLANE), list(PERSON)],
        [list(BLACK), list(TV), list(AEROPLANE)],
    ]


@pytest.mark.parametrize("outside", [-1, -100, 21, 70000])
def test_ids_outside_the_set_are_black(outside: int) -> None:
    assert colorize(np.array([[outside, 1]]), VOC).tolist() == [[[0, 0, 0], list(AEROPLANE)]]


@pytest.mark.parametrize(
    "mask", [np.zeros((2, 2)), np.zeros((1, 2, 2), int), np.zeros((0, 2), int), np.ones((2, 2), bool)]
)
def test_invalid_masks_are_refused(mask: np.ndarray, tmp_path: Path) -> None:
    for call in (lambda: colorize(mask, VOC), lambda: save_mask(tmp_path / "a.png", mask, VOC)):
        with pytest.raises(ImageError, match=r"integers \(H, W\), not empty; got"):
            call()


# save_mask


@pytest.mark.parametrize("mask", [MASK, MASK.astype(np.int64), np.arange(256).reshape(16, 16), MASK.T])
def test_a_mask_keeps_its_class_ids_and_shows_colors(mask: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    save_mask(path, mask, VOC)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), mask)
        assert np.array_equal(np.asarray(image.convert("RGB")), colorize(mask, VOC))
    depth, color_type = struct.unpack(">BB", path.read_bytes()[24:26])
    assert (depth, color_type) == (8, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["mask.png"]


def test_a_mask_of_more_classes_than_a_palette_holds(tmp_path: Path) -> None:
    save_mask(tmp_path / "a.png", MASK, ClassSet.generic(300))
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), MASK)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a.png", 65_536, "class ids 0-65,535, but this mask's range from 0 to 65536"),
        ("a.png", -1, "this mask's range from -1 to 0"),
        ("a.jpg", 1, "name the file a.png"),
        ("gone/a.png", 1, "no folder .*gone"),
    ],
)
def test_invalid_files_are_refused(name: str, value: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        save_mask(tmp_path / name, np.array([[0, value]]), VOC)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_mask(tmp_path / "a.png", MASK, VOC)
    before = (tmp_path / "a.png").read_bytes()

    def full(self: Image.Image, path: Path, **options: object) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_mask(tmp_path / "a.png", 0 * MASK, VOC)
    assert (tmp_path / "a.png").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


# overlay


def halves(left: int, right: int) -> np.ndarray:
    mask = np.full((120, 160), left)
    mask[:, 80:] = right
    return mask


@pytest.mark.parametrize(("opacity", "weight"), [(0.0, 0.0), (0.5, 0.5), (0.25, 0.25), (1.0, 1.0)])
def test_colors_are_blended_into_the_image(opacity: float, weight: float) -> None:
    picture = np.asarray(overlay(IMAGE, halves(1, 15), VOC, opacity, legend=False))
    assert picture.shape == IMAGE.shape
    expected = IMAGE * (1 - weight) + colorize(halves(1, 15), VOC) * weight
    inside = np.r_[0:78, 82:160]
    assert np.abs(picture[:, inside] - expected[:, inside]).max() <= 1


def test_boundaries_have_the_full_color_of_the_class() -> None:
    picture = np.asarray(overlay(IMAGE, halves(1, 15), VOC, legend=False))
    assert (picture[:, 79] == AEROPLANE).all()
    assert (picture[:, 80] == PERSON).all()


def test_unlabeled_pixels_show_the_image() -> None:
    picture = np.asarray(overlay(IMAGE, halves(255, 1), VOC, legend=False))
    assert np.array_equal(picture[:, :80], IMAGE[:, :80])
    assert not np.array_equal(picture[:, 80:], IMAGE[:, 80:])


def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that overlay draws from now on."""
    from PIL import ImageDraw

    written: list[str] = []
    draw = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, position: tuple[float, float], line: str, **options: object) -> None:
        written.append(line)
        draw(self, position, line, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return written


def test_the_legend_names_what_occurs_largest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = halves(15, 1)
    mask[:30, 80:] = 20
    mask[0, 0] = 8
    mask[:60, :10] = 255
    written = texts(monkeypatch)
    overlay(IMAGE, mask, VOC)
    # 600 of 19,200 pixels are unlabeled, among them the cat's one pixel in the corner.
    assert written == ["person", "46.9 %", "aeroplane", "37.5 %", "tvmonitor", "12.5 %"]


@pytest.mark.parametrize(
    ("classes", "rows", "last"), [(12, 12, "class 11"), (13, 13, "class 12"), (14, 13, "and 2 more")]
)
def test_a_long_legend_is_cut(classes: int, rows: int, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = texts(monkeypatch)
    overlay(
        np.zeros((400, classes * 20, 3), np.uint8),
        np.arange(classes * 20)[None].repeat(400, 0) // 20,
        ClassSet.generic(classes),
    )
    assert written[::2][-1] == last
    assert len(written) == 2 * rows


def test_a_class_that_occurs_is_never_zero_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = halves(0, 0)
    mask[0, 0] = 8
    written = texts(monkeypatch)
    overlay(IMAGE, mask, VOC)
    assert written[-2:] == ["cat", "<0.1 %"]


@pytest.mark.parametrize(
    ("size", "to_the_right"),
    [
        ((200, 200), True),
        ((480, 360), True),
        ((300, 900), True),
        ((900, 120), False),
        ((60, 40), False),
        ((4000, 600), True),
    ],
)
def test_the_legend_is_to_the_right_or_below(size: tuple[int, int], to_the_right: bool) -> None:
    width, height = size
    mask = (np.arange(width)[None] * 6 // width).repeat(height, 0)
    picture = overlay(np.zeros((height, width, 3), np.uint8), mask, class_set("camvid"))
    assert (picture.width > width, picture.height > height)[not to_the_right]
    assert (picture.height == height) == to_the_right
    panel = np.asarray(picture)[:, width:] if to_the_right else np.asarray(picture)[height:]
    for color in class_set("camvid").palette[:6]:
        assert (panel == color).all(-1).sum() >= 20, "each class has its swatch"


def test_without_classes_there_is_no_legend() -> None:
    assert overlay(IMAGE, halves(255, 255), VOC).size == (160, 120)


@pytest.mark.parametrize(
    ("image", "mask", "opacity", "message"),
    [
        (IMAGE, halves(0, 1)[:60], 0.5, r"mask is \(60, 160\), but the image is \(120, 160\)"),
        (IMAGE / 255, halves(0, 1), 0.5, r"uint8 RGB \(H, W, 3\); got float64"),
        (IMAGE[..., :1], halves(0, 1), 0.5, r"got uint8 \(120, 160, 1\)"),
        (IMAGE, halves(0, 1), 1.5, "opacity must be 0-1, got 1.5"),
    ],
)
def test_invalid_overlays_are_refused(image: np.ndarray, mask: np.ndarray, opacity: float, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        overlay(image, mask, VOC, opacity)
