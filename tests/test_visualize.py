"""Masks for the eye: the right colour in the right place, and class ids that survive the file."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.classes import LabelSet, label_set
from segzoo.errors import ImageError
from segzoo.visualize import colourise, overlay, save_mask

VOC = label_set("voc")
LABELS = np.array([[0, 1, 15], [255, 20, 1]], np.uint8)
BLACK, AEROPLANE, PERSON, TV = (0, 0, 0), (128, 0, 0), (192, 128, 128), (0, 64, 128)
PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint16])
def test_each_class_has_its_colour(dtype: type) -> None:
    coloured = colourise(LABELS.astype(dtype), VOC)
    assert coloured.dtype == np.uint8
    assert coloured.tolist() == [
        [list(BLACK), list(AEROPLANE), list(PERSON)],
        [list(BLACK), list(TV), list(AEROPLANE)],
    ]


@pytest.mark.parametrize("outside", [-1, -100, 21, 70000])
def test_ids_outside_the_set_are_black(outside: int) -> None:
    assert colourise(np.array([[outside, 1]]), VOC).tolist() == [[[0, 0, 0], list(AEROPLANE)]]


@pytest.mark.parametrize(
    "labels", [np.zeros((2, 2)), np.zeros((1, 2, 2), int), np.zeros((0, 2), int), np.ones((2, 2), bool)]
)
def test_other_label_maps_are_refused(labels: np.ndarray, tmp_path: Path) -> None:
    for call in (lambda: colourise(labels, VOC), lambda: save_mask(tmp_path / "a.png", labels, VOC)):
        with pytest.raises(ImageError, match=r"integers \(H, W\) with pixels; got"):
            call()


# save_mask


@pytest.mark.parametrize("labels", [LABELS, LABELS.astype(np.int64), np.arange(256).reshape(16, 16), LABELS.T])
def test_a_mask_keeps_its_class_ids_and_shows_colours(labels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    save_mask(path, labels, VOC)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), labels)
        assert np.array_equal(np.asarray(image.convert("RGB")), colourise(labels, VOC))
    depth, colour_type = struct.unpack(">BB", path.read_bytes()[24:26])
    assert (depth, colour_type) == (8, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["mask.png"]


def test_a_mask_of_more_classes_than_a_palette_holds(tmp_path: Path) -> None:
    save_mask(tmp_path / "a.png", LABELS, LabelSet.generic(300))
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), LABELS)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a.png", 256, "class ids 0-255; these labels go from 0 to 256"),
        ("a.png", -1, "these labels go from -1 to 0"),
        ("a.jpg", 1, "name it a.png"),
        ("gone/a.png", 1, "no folder .*gone"),
    ],
)
def test_masks_that_cannot_be_saved(name: str, value: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        save_mask(tmp_path / name, np.array([[0, value]]), VOC)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_mask(tmp_path / "a.png", LABELS, VOC)
    before = (tmp_path / "a.png").read_bytes()

    def full(self: Image.Image, path: Path, **options: object) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_mask(tmp_path / "a.png", 0 * LABELS, VOC)
    assert (tmp_path / "a.png").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


# overlay


def halves(left: int, right: int) -> np.ndarray:
    labels = np.full((120, 160), left)
    labels[:, 80:] = right
    return labels


@pytest.mark.parametrize(("opacity", "colours"), [(0.0, 0.0), (0.5, 0.5), (0.25, 0.25), (1.0, 1.0)])
def test_colours_are_blended_on_the_photograph(opacity: float, colours: float) -> None:
    picture = np.asarray(overlay(PHOTOGRAPH, halves(1, 15), VOC, opacity, legend=False))
    assert picture.shape == PHOTOGRAPH.shape
    expected = PHOTOGRAPH * (1 - colours) + colourise(halves(1, 15), VOC) * colours
    away = np.r_[0:78, 82:160]
    assert np.abs(picture[:, away] - expected[:, away]).max() <= 1


def test_classes_are_edged_in_their_own_colour() -> None:
    picture = np.asarray(overlay(PHOTOGRAPH, halves(1, 15), VOC, legend=False))
    assert (picture[:, 79] == AEROPLANE).all()
    assert (picture[:, 80] == PERSON).all()


def test_the_photograph_shows_where_nothing_is_labelled() -> None:
    picture = np.asarray(overlay(PHOTOGRAPH, halves(255, 1), VOC, legend=False))
    assert np.array_equal(picture[:, :80], PHOTOGRAPH[:, :80])
    assert not np.array_equal(picture[:, 80:], PHOTOGRAPH[:, 80:])


def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What overlay writes from now on."""
    from PIL import ImageDraw

    written: list[str] = []
    draw = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, place: tuple[float, float], line: str, **options: object) -> None:
        written.append(line)
        draw(self, place, line, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return written


def test_the_legend_names_what_occurs_largest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = halves(15, 1)
    labels[:30, 80:] = 20
    labels[0, 0] = 8
    labels[:60, :10] = 255
    written = texts(monkeypatch)
    overlay(PHOTOGRAPH, labels, VOC)
    # 600 of 19,200 pixels are unlabelled; the corner's cat is among them.
    assert written == ["person", "46.9 %", "aeroplane", "37.5 %", "tvmonitor", "12.5 %"]


@pytest.mark.parametrize(
    ("classes", "rows", "last"), [(12, 12, "class 11"), (13, 13, "class 12"), (14, 13, "and 2 more")]
)
def test_a_long_legend_is_cut(classes: int, rows: int, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = texts(monkeypatch)
    overlay(
        np.zeros((400, classes * 20, 3), np.uint8),
        np.arange(classes * 20)[None].repeat(400, 0) // 20,
        LabelSet.generic(classes),
    )
    assert written[::2][-1] == last
    assert len(written) == 2 * rows


def test_what_occurs_is_never_nought_per_cent(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = halves(0, 0)
    labels[0, 0] = 8
    written = texts(monkeypatch)
    overlay(PHOTOGRAPH, labels, VOC)
    assert written[-2:] == ["cat", "<0.1 %"]


@pytest.mark.parametrize(
    ("size", "beside"),
    [
        ((200, 200), True),
        ((480, 360), True),
        ((300, 900), True),
        ((900, 120), False),
        ((60, 40), False),
        ((4000, 600), True),
    ],
)
def test_the_legend_stands_beside_or_below(size: tuple[int, int], beside: bool) -> None:
    width, height = size
    labels = (np.arange(width)[None] * 6 // width).repeat(height, 0)
    picture = overlay(np.zeros((height, width, 3), np.uint8), labels, label_set("camvid"))
    assert (picture.width > width, picture.height > height)[not beside]
    assert (picture.height == height) == beside
    panel = np.asarray(picture)[:, width:] if beside else np.asarray(picture)[height:]
    for colour in label_set("camvid").colours[:6]:
        assert (panel == colour).all(-1).sum() >= 20, "each class has its swatch"


def test_no_class_no_legend() -> None:
    assert overlay(PHOTOGRAPH, halves(255, 255), VOC).size == (160, 120)


@pytest.mark.parametrize(
    ("image", "labels", "opacity", "message"),
    [
        (PHOTOGRAPH, halves(0, 1)[:60], 0.5, r"labels are \(60, 160\) and the image is \(120, 160\)"),
        (PHOTOGRAPH / 255, halves(0, 1), 0.5, r"uint8 RGB \(H, W, 3\); got float64"),
        (PHOTOGRAPH[..., :1], halves(0, 1), 0.5, r"got uint8 \(120, 160, 1\)"),
        (PHOTOGRAPH, halves(0, 1), 1.5, "opacity is 0-1, got 1.5"),
    ],
)
def test_overlays_that_cannot_be_made(image: np.ndarray, labels: np.ndarray, opacity: float, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        overlay(image, labels, VOC, opacity)
