"""`Segmentation`: what its mask is for each task, and what it refuses."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from segzoo import visualize
from segzoo.classes import ClassSet
from segzoo.errors import OptionError, SegzooError
from segzoo.inference.result import Segmentation, mask_dtype

TWO, THREE = ClassSet.generic(2), ClassSet.generic(3)


def zeros(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.zeros(shape, dtype)


def test_a_multiclass_mask_holds_class_ids() -> None:
    mask = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
    result = Segmentation(mask, THREE, confidence=zeros(2, 3, dtype=np.float32), path=Path("street.jpg"))
    assert (result.size, result.task, result.path) == ((2, 3), "multiclass", Path("street.jpg"))
    assert np.asarray(result) is mask and (result == result)
    assert repr(result) == "Segmentation(2 x 3, multiclass, 3 classes, confidence)"


def test_a_binary_mask_holds_0_and_1_and_has_two_names() -> None:
    mask = np.array([[0, 1, 1]], np.uint8)
    result = Segmentation(mask, TWO, "binary", probabilities=zeros(1, 1, 3, dtype=np.float32))
    assert result.size == (1, 3)
    assert result.classes.names[np.asarray(result)[0, 1]] == "class 1"


def test_a_multilabel_mask_has_a_plane_for_each_class() -> None:
    mask = np.array([[[0, 1]], [[1, 1]], [[0, 0]]], np.uint8)
    result = Segmentation(mask, THREE, "multilabel", confidence=zeros(3, 1, 2, dtype=np.float32))
    assert result.size == (1, 2)
    assert np.asarray(result).shape == (3, 1, 2)


def test_more_than_256_classes_need_int32() -> None:
    many = ClassSet.generic(257)
    assert (mask_dtype(256), mask_dtype(257)) == (np.uint8, np.int32)
    assert Segmentation(np.full((2, 2), 256, np.int32), many).mask.max() == 256
    with pytest.raises(OptionError, match=r"must be int32 \(H, W\), not uint8 \(2, 2\)"):
        Segmentation(zeros(2, 2), many)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": zeros(2, 3, 4)}, "The mask of a multiclass result must be uint8 (H, W), not uint8 (2, 3, 4)"),
        ({"mask": zeros(2, 3, dtype=np.int64)}, "must be uint8 (H, W), not int64 (2, 3)"),
        ({"mask": zeros(0, 3)}, "must be uint8 (H, W), not uint8 (0, 3)"),
        ({"mask": np.full((2, 3), 3, np.uint8)}, "The mask must hold values 0-2, not 3 to 3"),
        ({"task": "binary"}, "A binary result must have two class names, background and foreground, not 3"),
        ({"task": "binary", "classes": TWO, "mask": np.full((2, 3), 2, np.uint8)}, "must hold values 0-1"),
        ({"task": "multilabel"}, "The mask of a multilabel result must be uint8 (K, H, W), not uint8 (2, 3)"),
        ({"task": "multilabel", "mask": zeros(2, 2, 3)}, "one plane per class (3), not 2"),
        ({"task": "multilabel", "mask": np.full((3, 2, 3), 2, np.uint8)}, "must hold values 0-1"),
        ({"confidence": zeros(2, 3, dtype=np.float64)}, "confidence must be float32 (2, 3), not float64 (2, 3)"),
        ({"confidence": zeros(3, 2, dtype=np.float32)}, "confidence must be float32 (2, 3), not float32 (3, 2)"),
        ({"probabilities": zeros(2, 2, 3, dtype=np.float32)}, "probabilities must be float32 (3, 2, 3)"),
        ({"variance": zeros(2, 3, dtype=np.float32)}, "variance must be float32 (3, 2, 3)"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        Segmentation(**{"mask": zeros(2, 3), "classes": THREE, **arguments})


def test_a_negative_id_is_refused() -> None:
    with pytest.raises(OptionError, match="values 0-299, not -1 to 0"):
        Segmentation(np.array([[-1, 0]], np.int32), ClassSet.generic(300))


def test_numpy_takes_it_for_its_mask() -> None:
    result = Segmentation(np.array([[0, 2]], np.uint8), THREE)
    assert np.array(result) is not result.mask
    assert np.asarray(result, np.int64).dtype == np.int64
    assert np.unique(result).tolist() == [0, 2]
    assert (np.asarray(result) == 2).sum() == 1
    with pytest.raises(ValueError, match="has to be copied"):
        result.__array__(np.int64, copy=False)


def pages(path: Path) -> list[Image.Image]:
    with Image.open(path) as file:
        return [page.copy() for page in ImageSequence.Iterator(file)]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("count", [3, 256, 300, 65_536])
def test_a_saved_mask_has_the_class_ids(tmp_path: Path, suffix: str, count: int) -> None:
    mask = np.array([[0, 1, count - 1], [2, 2, 0]], mask_dtype(count))
    result = Segmentation(mask, ClassSet.generic(count))
    (page,) = pages(result.save(tmp_path / f"mask{suffix}"))
    assert np.array_equal(np.asarray(page), mask)
    assert page.mode == ("P" if count <= 256 else "I;16")
    if count <= 256:
        assert page.convert("RGB").getpixel((1, 0)) == result.classes.palette[1]


def test_a_multilabel_mask_has_one_page_for_each_class(tmp_path: Path) -> None:
    mask = np.array([[[0, 1]], [[1, 1]], [[0, 0]]], np.uint8)
    result = Segmentation(mask, THREE, "multilabel")
    saved = pages(result.save(tmp_path / "mask.tiff"))
    assert np.array_equal([np.asarray(page) for page in saved], mask)
    assert saved[1].convert("RGB").getpixel((0, 0)) == THREE.palette[1]
    with pytest.raises(SegzooError, match=r"A PNG holds one mask, not 3; name the file mask\.tif"):
        result.save(tmp_path / "mask.png")


def test_areas_are_shares_of_pixels() -> None:
    assert Segmentation(np.array([[0, 2, 2, 2]], np.uint8), THREE).areas() == {
        "class 0": 0.25,
        "class 1": 0.0,
        "class 2": 0.75,
    }
    planes = np.array([[[0, 1]], [[1, 1]], [[0, 0]]], np.uint8)
    assert Segmentation(planes, THREE, "multilabel").areas() == {"class 0": 0.5, "class 1": 1.0, "class 2": 0.0}
    assert Segmentation(np.array([[0, 1]], np.uint8), TWO, "binary").areas() == {"class 0": 0.5, "class 1": 0.5}


def test_an_overlay_is_drawn_on_the_image_passed_the_file_or_the_pixels(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 30:] = 2
    image = np.full((40, 60, 3), 90, np.uint8)
    Image.fromarray(image).save(tmp_path / "street.png")
    expected = np.asarray(visualize.overlay(image, mask, THREE))
    bare = Segmentation(mask, THREE)
    for drawn in (
        bare.overlay(image),
        Segmentation(mask, THREE, path=tmp_path / "street.png").overlay(),
        Segmentation(mask, THREE, image=image).overlay(),
    ):
        assert np.array_equal(np.asarray(drawn), expected)
    assert np.array_equal(bare.overlay(image, opacity=0, legend=False), image)
    gray = Segmentation(mask, THREE, image=image[..., :1])
    assert np.array_equal(gray.overlay(), expected)
    with pytest.raises(OptionError, match="does not know its image"):
        bare.overlay()


def test_where_classes_overlap_the_smaller_is_drawn_on_top() -> None:
    planes = np.zeros((3, 4, 4), np.uint8)
    planes[2] = 1
    planes[1, :2] = 1
    result = Segmentation(planes, THREE, "multilabel")
    picture = np.asarray(result.overlay(np.zeros((4, 4, 3), np.uint8), opacity=1, legend=False))
    assert [tuple(picture[row, 0]) for row in (0, 3)] == [THREE.palette[1], THREE.palette[2]]


def test_a_notebook_shows_the_classes_present_with_escaped_names() -> None:
    classes = ClassSet(("<b>sky</b>", "road", "car"), THREE.palette)
    mask = np.zeros((1000, 2000), np.uint8)
    mask[0, 0] = 1
    result = Segmentation(mask, classes)
    page = result._repr_html_()
    assert "&lt;b&gt;sky&lt;/b&gt;" in page and "<b>" not in page and "road" in page and "car" not in page
    assert "&lt;0.1 %" in page
    with Image.open(io.BytesIO(result._repr_png_())) as picture:
        assert picture.size == (640, 320)


@pytest.mark.parametrize(("channels", "shown"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (4, [0, 1, 2]), (6, [0, 1, 2])])
def test_an_overlay_shows_the_first_channels_of_an_array(channels: int, shown: list[int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, channels), np.uint8)
    result = Segmentation(np.zeros((6, 7), np.uint8), THREE, image=image)
    assert np.array_equal(np.asarray(result.overlay(opacity=0, legend=False)), image[..., shown])
