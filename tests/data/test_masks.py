"""Files of masks become ids, whatever kind of picture they are, or say why not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.classes import LabelSet, label_set
from segzoo.data.masks import IdsThrough, check_ids, ids_of
from segzoo.errors import DataError

CAMVID = label_set("camvid")
IDS = np.random.default_rng(0).integers(0, 12, (5, 6))


def saved(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "I"])
def test_gray_and_palette_pictures_hold_ids(mode: str, tmp_path: Path) -> None:
    if mode == "I;16":
        image = Image.fromarray(IDS.astype(np.uint16))
    elif mode == "I":
        image = Image.fromarray(IDS.astype(np.int32))
    else:
        image = Image.fromarray(IDS.astype(np.uint8))
        if mode == "P":
            image.putpalette(list(range(255, -1, -1)) * 3)
    assert image.mode == mode
    np.testing.assert_array_equal(ids_of(saved(tmp_path / "a.tif", image), CAMVID), IDS)


def test_black_and_white_holds_two_ids(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(IDS % 2 == 1))
    np.testing.assert_array_equal(ids_of(path, CAMVID), IDS % 2)


@pytest.mark.parametrize("ignored", [11, 200, 254, 255, 300, -1])
@pytest.mark.parametrize("alpha", [False, True])
def test_colours_stand_for_classes_and_black_for_what_is_ignored(ignored: int, alpha: bool, tmp_path: Path) -> None:
    labels = LabelSet(CAMVID.names, CAMVID.colours, ignored)
    pixels = np.array([*labels.colours, (0, 0, 0)], np.uint8)[IDS]
    if alpha:
        pixels = np.concatenate((pixels, np.full((5, 6, 1), 128, np.uint8)), 2)
    ids = ids_of(saved(tmp_path / "a.png", Image.fromarray(pixels)), labels)
    np.testing.assert_array_equal(check_ids(ids, tmp_path, labels), np.where(IDS == 11, ignored, IDS))


def test_black_may_be_a_class(tmp_path: Path) -> None:
    labels = label_set("voc")
    path = saved(tmp_path / "a.png", Image.fromarray(np.array(labels.colours, np.uint8)[IDS]))
    np.testing.assert_array_equal(ids_of(path, labels), IDS)


def test_black_without_an_ignored_id_is_an_error(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(DataError, match=r"a\.png has the colour \(0, 0, 0\)"):
        ids_of(path, label_set("lfw"))


def test_colours_have_to_tell_classes_apart(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(DataError, match="Two classes of the label set have one colour"):
        ids_of(path, LabelSet(("a", "b"), ((1, 1, 1), (1, 1, 1))))
    with pytest.raises(DataError, match="up to 253 classes, and this label set 300"):
        ids_of(path, LabelSet.generic(300))


def test_a_table_turns_ids_into_others(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(IDS.astype(np.uint8)))
    table = {i: 255 if i % 2 else i // 2 for i in range(12)}
    np.testing.assert_array_equal(IdsThrough(table)(path, CAMVID), np.where(IDS % 2, 255, IDS // 2))
    with pytest.raises(DataError, match=r"a\.png has the id 11, which the data set does not know"):
        IdsThrough({i: i for i in range(11)})(path, CAMVID)
    colours = saved(tmp_path / "b.png", Image.fromarray(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(DataError, match=r"b\.png is an RGB image"):
        IdsThrough(table)(colours, CAMVID)


def test_files_that_are_no_masks_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no mask .*a\.png"):
        ids_of(tmp_path / "a.png", CAMVID)
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b\.png cannot be read"):
        ids_of(tmp_path / "b.png", CAMVID)
    path = saved(tmp_path / "c.tif", Image.fromarray(np.zeros((2, 2), np.float32)))
    with pytest.raises(DataError, match=r"c\.tif is F; masks are gray, of a palette, or RGB"):
        ids_of(path, CAMVID)


@pytest.mark.parametrize(("wrong", "ignored"), [(-1, 11), (12, 11), (11, None), (10**6, 11)])
def test_a_wrong_id_is_told_with_its_place(wrong: int, ignored: int | None) -> None:
    mask = np.zeros((3, 4), np.int64)
    mask[1, 2] = wrong
    with pytest.raises(DataError, match=rf"x\.png has the id {wrong} in row 1, column 2; the classes are 0-10"):
        check_ids(mask, Path("x.png"), LabelSet(CAMVID.names, CAMVID.colours, ignored))
