"""Mask files of any image mode are read as ids, or the error names the problem."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.classes import ClassSet, class_set
from segzoo.data.masks import RemappedIds, check_ids, read_mask
from segzoo.errors import DataError

CAMVID = class_set("camvid")
IDS = np.random.default_rng(0).integers(0, 12, (5, 6))


def saved(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "I"])
def test_gray_and_palette_images_contain_ids(mode: str, tmp_path: Path) -> None:
    if mode == "I;16":
        image = Image.fromarray(IDS.astype(np.uint16))
    elif mode == "I":
        image = Image.fromarray(IDS.astype(np.int32))
    else:
        image = Image.fromarray(IDS.astype(np.uint8))
        if mode == "P":
            image.putpalette(list(range(255, -1, -1)) * 3)
    assert image.mode == mode
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "a.tif", image), CAMVID), IDS)


def test_a_1_bit_image_contains_two_ids(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(IDS % 2 == 1))
    np.testing.assert_array_equal(read_mask(path, CAMVID), IDS % 2)


@pytest.mark.parametrize("ignore_index", [11, 200, 254, 255, 300, -1])
@pytest.mark.parametrize("alpha", [False, True])
def test_colors_map_to_classes_and_black_is_ignored(ignore_index: int, alpha: bool, tmp_path: Path) -> None:
    classes = ClassSet(CAMVID.names, CAMVID.palette, ignore_index)
    pixels = np.array([*classes.palette, (0, 0, 0)], np.uint8)[IDS]
    if alpha:
        pixels = np.concatenate((pixels, np.full((5, 6, 1), 128, np.uint8)), 2)
    ids = read_mask(saved(tmp_path / "a.png", Image.fromarray(pixels)), classes)
    np.testing.assert_array_equal(check_ids(ids, tmp_path, classes), np.where(IDS == 11, ignore_index, IDS))


def test_black_can_be_a_class(tmp_path: Path) -> None:
    classes = class_set("voc")
    path = saved(tmp_path / "a.png", Image.fromarray(np.array(classes.palette, np.uint8)[IDS]))
    np.testing.assert_array_equal(read_mask(path, classes), IDS)


def test_black_without_an_ignore_index_is_an_error(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(DataError, match=r"a\.png has the color \(0, 0, 0\)"):
        read_mask(path, class_set("lfw"))


def test_class_colors_must_differ(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(DataError, match="Two classes of the class set have the same color"):
        read_mask(path, ClassSet(("a", "b"), ((1, 1, 1), (1, 1, 1))))
    with pytest.raises(DataError, match="up to 253 classes, but this class set has 300"):
        read_mask(path, ClassSet.generic(300))


def test_ids_are_remapped_by_a_table(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(IDS.astype(np.uint8)))
    table = {i: 255 if i % 2 else i // 2 for i in range(12)}
    np.testing.assert_array_equal(RemappedIds(table)(path, CAMVID), np.where(IDS % 2, 255, IDS // 2))
    with pytest.raises(DataError, match=r"a\.png has the id 11, which the data set does not use"):
        RemappedIds({i: i for i in range(11)})(path, CAMVID)
    colors = saved(tmp_path / "b.png", Image.fromarray(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(DataError, match=r"b\.png is an RGB image"):
        RemappedIds(table)(colors, CAMVID)


def test_an_invalid_mask_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no mask .*a\.png"):
        read_mask(tmp_path / "a.png", CAMVID)
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b\.png cannot be read"):
        read_mask(tmp_path / "b.png", CAMVID)
    path = saved(tmp_path / "c.tif", Image.fromarray(np.zeros((2, 2), np.float32)))
    with pytest.raises(DataError, match=r"c\.tif has mode F; masks are gray, palette or RGB"):
        read_mask(path, CAMVID)


@pytest.mark.parametrize(("wrong", "ignore_index"), [(-1, 11), (12, 11), (11, None), (10**6, 11)])
def test_an_invalid_id_is_reported_with_its_position(wrong: int, ignore_index: int | None) -> None:
    mask = np.zeros((3, 4), np.int64)
    mask[1, 2] = wrong
    with pytest.raises(DataError, match=rf"x\.png has the id {wrong} in row 1, column 2; the classes are 0-10"):
        check_ids(mask, Path("x.png"), ClassSet(CAMVID.names, CAMVID.palette, ignore_index))
