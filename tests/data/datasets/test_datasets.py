"""The readers of known data sets, on small folders with their layouts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import random_ids, write_image, write_mask
from torchvision import datasets as torchvision

from segzoo.classes import CLASS_SETS, class_set, voc_color
from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets import READERS, open_data
from segzoo.errors import DataError, UnknownNameError

NAMES = ("one", "two")
SIZE = (12, 16)


def folder(root: Path) -> None:
    for index, name in enumerate(NAMES):
        write_image(root / "train" / "images" / f"{name}.jpg", index)
        write_mask(root / "train" / "masks" / f"{name}.png", random_ids(3, index, ignore_index=9))
    (root / "classes.json").write_text(json.dumps({"names": ["a", "b", "c"], "ignore_index": 9}))


def camvid(root: Path) -> None:
    for index, name in enumerate(NAMES):
        write_image(root / "train" / "images" / f"{name}.jpg", index)
        write_mask(root / "train" / "masks" / f"{name}.png", random_ids(11, index, ignore_index=11))


def camvid_tutorial(root: Path) -> None:
    camvid(root)
    shutil.move(root / "train" / "masks", root / "trainannot")
    for path in (root / "train" / "images").iterdir():
        shutil.move(path, root / "train")
    (root / "train" / "images").rmdir()


def voc(root: Path) -> None:
    base = root / "VOCdevkit" / "VOC2012"
    (base / "ImageSets" / "Segmentation").mkdir(parents=True)
    (base / "ImageSets" / "Segmentation" / "train.txt").write_text("".join(f"{name}\n" for name in NAMES))
    for index, name in enumerate(NAMES):
        write_image(base / "JPEGImages" / f"{name}.jpg", index)
        mask = Image.fromarray(random_ids(21, index, ignore_index=255).astype(np.uint8))
        mask.putpalette([part for i in range(256) for part in voc_color(i)])
        (base / "SegmentationClass").mkdir(exist_ok=True)
        mask.save(base / "SegmentationClass" / f"{name}.png")
    write_image(base / "JPEGImages" / "not listed.jpg")


def cityscapes(root: Path) -> None:
    for index, name in enumerate(NAMES):
        write_image(root / "leftImg8bit" / "train" / "ulm" / f"{name}_leftImg8bit.png", index)
        ids = random_ids(34, index)
        write_mask(root / "gtFine" / "train" / "ulm" / f"{name}_gtFine_labelIds.png", ids)


def pet(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    for index, name in enumerate(NAMES):
        write_image(base / "images" / f"{name}.jpg", index)
        write_mask(base / "annotations" / "trimaps" / f"{name}.png", 1 + random_ids(3, index))
    (base / "annotations" / "trainval.txt").write_text("".join(f"{name} 1 1 1\n" for name in NAMES))


def _lfw_faces(root: Path) -> None:
    for index, name in enumerate(NAMES):
        write_image(root / "lfw_funneled" / name / f"{name}_0007.jpg", index)
    (root / "parts_train.txt").write_text("".join(f"{name} 7 225\n" for name in NAMES))


def lfw(root: Path) -> None:
    _lfw_faces(root)
    colors = np.array([(0, 0, 255), (0, 255, 0), (255, 0, 0)])
    for index, name in enumerate(NAMES):
        write_mask(root / "parts_lfw_funneled_gt_images" / f"{name}_0007.ppm", colors[random_ids(3, index)])


def lfw_superpixels(root: Path) -> None:
    _lfw_faces(root)
    for index, name in enumerate(NAMES):
        # Each pixel is one superpixel.
        for directory in ("parts_lfw_funneled_gt", "parts_lfw_funneled_superpixels_mat"):
            (root / directory / name).mkdir(parents=True)
        ids = random_ids(3, index).ravel()
        numbers = np.arange(ids.size).reshape(SIZE)
        np.savetxt(root / "parts_lfw_funneled_gt" / name / f"{name}_0007.dat", [ids.size, *ids], "%d")
        np.savetxt(root / "parts_lfw_funneled_superpixels_mat" / name / f"{name}_0007.dat", numbers, "%d")


def drone(root: Path) -> None:
    classes = class_set("drone")
    base = root / "training_set"
    for index, name in enumerate(NAMES):
        write_image(base / "images" / f"{name}.jpg", index)
        colors = np.array(classes.palette)[random_ids(24, index)]
        write_mask(base / "gt" / "semantic" / "label_images" / f"{name}.png", colors)
    rows = [f"{name}, {r}, {g}, {b}" for name, (r, g, b) in zip(classes.names, classes.palette, strict=True)]
    (base / "gt" / "semantic" / "class_dict.csv").write_text("\n".join(["name, r, g, b", *rows]))


def drone_ids(root: Path) -> None:
    for index, name in enumerate(NAMES):
        write_image(root / "original_images" / f"{name}.jpg", index)
        write_mask(root / "label_images_semantic" / f"{name}.png", random_ids(24, index))


def cityscapes_ids(index: int) -> np.ndarray:
    train_ids = {entry.id: entry.train_id for entry in torchvision.Cityscapes.classes}
    return np.vectorize(lambda id_: train_ids[id_] if train_ids[id_] in range(19) else 255)(random_ids(34, index))


# A function that creates the layout, the reader's name, and the expected ids of the masks of the two names.
LAYOUTS: list[tuple[Callable[[Path], None], str, Callable[[int], np.ndarray]]] = [
    (folder, "folder", lambda index: random_ids(3, index, ignore_index=9)),
    (camvid, "camvid", lambda index: random_ids(11, index, ignore_index=11)),
    (camvid_tutorial, "camvid", lambda index: random_ids(11, index, ignore_index=11)),
    (voc, "voc", lambda index: random_ids(21, index, ignore_index=255)),
    (cityscapes, "cityscapes", cityscapes_ids),
    (pet, "pet", lambda index: np.array([1, 0, 255])[random_ids(3, index)]),
    (lfw, "lfw", lambda index: random_ids(3, index)),
    (lfw_superpixels, "lfw", lambda index: random_ids(3, index)),
    (drone, "drone", lambda index: random_ids(24, index)),
    (drone_ids, "drone", lambda index: random_ids(24, index)),
]
EVERY = pytest.mark.parametrize(("make", "name", "expected"), LAYOUTS, ids=[make.__name__ for make, _, _ in LAYOUTS])


def test_every_reader_is_tested() -> None:
    assert {name for _, name, _ in LAYOUTS} == set(READERS)


@EVERY
def test_a_reader_returns_images_and_ids(
    make: Callable[[Path], None], name: str, expected: Callable[[int], np.ndarray], tmp_path: Path
) -> None:
    make(tmp_path)
    data = open_data(name, tmp_path)
    suffix = "_0007" if name == "lfw" else ""
    assert data.names == tuple(f"{stem}{suffix}" for stem in NAMES)
    for index, sample in enumerate(data):
        np.testing.assert_array_equal(sample.mask, expected(index))
        np.testing.assert_array_equal(sample.image, np.asarray(Image.open(data.items[index].image)))
    assert data.classes == CLASS_SETS.get(name, data.classes)
    assert open_data(name, tmp_path, exclude="one*").names == data.names[1:]


@EVERY
def test_a_missing_mask_is_named(
    make: Callable[[Path], None], name: str, expected: Callable[[int], np.ndarray], tmp_path: Path
) -> None:
    make(tmp_path)
    mask = open_data(name, tmp_path).items[0].mask
    mask.unlink()
    with pytest.raises(DataError, match="one"):
        open_data(name, tmp_path)[0]


@EVERY
def test_an_invalid_id_names_its_file(
    make: Callable[[Path], None], name: str, expected: Callable[[int], np.ndarray], tmp_path: Path
) -> None:
    make(tmp_path)
    mask = open_data(name, tmp_path).items[0].mask
    if mask.suffix == ".dat":
        mask.write_text(f"{SIZE[0] * SIZE[1]}\n" + "77\n" * SIZE[0] * SIZE[1])
    else:
        write_mask(mask, np.full(SIZE, 77))
    with pytest.raises(DataError, match=rf"{mask.name} has the id 77"):
        open_data(name, tmp_path)[0]


@pytest.mark.parametrize("name", READERS)
def test_missing_data_names_its_source(name: str, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError) as caught:
            open_data(name, root)
        assert str(tmp_path) in str(caught.value)
        assert f"{name} expects {READERS[name].layout}. Source: {READERS[name].source}." in str(caught.value)


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("camvit", None, r"Unknown data set 'camvit'\. Did you mean 'camvid'\?"),
        ("camvid", "trian", r"Unknown split of camvid 'trian'\. Did you mean 'train'\?"),
        ("cityscapes", "test", "Its splits are train, val"),
        ("folder", "val", r"Unknown split of this folder 'val'\. Its splits are train"),
    ],
)
def test_unknown_names_are_errors(name: str, split: str | None, message: str, tmp_path: Path) -> None:
    folder(tmp_path)
    with pytest.raises(UnknownNameError, match=message):
        open_data(name, tmp_path, split)


def test_a_folder_without_splits_has_the_split_all(tmp_path: Path) -> None:
    folder(tmp_path)
    for kind in ("images", "masks"):
        shutil.move(tmp_path / "train" / kind, tmp_path / kind)
    (tmp_path / "train").rmdir()
    assert open_data("folder", tmp_path).names == open_data("folder", tmp_path, "all").names == NAMES


def test_a_folder_may_have_subfolders(tmp_path: Path) -> None:
    folder(tmp_path)
    for kind in ("images", "masks"):
        base = tmp_path / "train" / kind
        shutil.copytree(base, base.parent / "copy")
        shutil.move(base.parent / "copy", base / "below")
    assert open_data("folder", tmp_path).names == ("below/one", "below/two", *NAMES)


def test_an_unpaired_image_and_a_duplicate_name_are_errors(tmp_path: Path) -> None:
    folder(tmp_path)
    write_image(tmp_path / "train" / "images" / "three.png")
    with pytest.raises(DataError, match=r"'three' is in .*images, but .*masks contains no image of that name"):
        open_data("folder", tmp_path)
    (tmp_path / "train" / "images" / "three.png").unlink()
    write_image(tmp_path / "train" / "images" / "one.png")
    with pytest.raises(DataError, match=r"one\.png have the same name"):
        open_data("folder", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "does not describe a class set"),
        ("[]", "does not describe a class set"),
        ('{"names": ["a", "a"]}', "given twice: a"),
    ],
)
def test_an_invalid_class_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(DataError, match=rf"classes\.json .*{message}"):
        open_data("folder", tmp_path)


def test_the_masks_of_a_folder_have_the_colors_of_its_palette(tmp_path: Path) -> None:
    folder(tmp_path)
    colors = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    (tmp_path / "classes.json").write_text(json.dumps({"names": ["a", "b", "c"], "palette": colors, "ignore_index": 9}))
    ids = random_ids(3, 0, ignore_index=3)
    write_mask(tmp_path / "train" / "masks" / "one.png", np.array([*colors, (0, 0, 0)])[ids])
    np.testing.assert_array_equal(open_data("folder", tmp_path)[0].mask, np.where(ids == 3, 9, ids))
    write_mask(tmp_path / "train" / "masks" / "one.png", np.full((*SIZE, 3), 8))
    with pytest.raises(DataError, match=r"one\.png has the color \(8, 8, 8\) in row 0, column 0"):
        open_data("folder", tmp_path)[0]


@pytest.mark.parametrize(
    ("line", "message"), [("one", "Line 1 of .*is 'one'"), ("one seven", "is 'one seven'")], ids=["short", "words"]
)
def test_a_damaged_list_of_faces_is_named(line: str, message: str, tmp_path: Path) -> None:
    lfw(tmp_path)
    (tmp_path / "parts_train.txt").write_text(f"{line}\n")
    with pytest.raises(DataError, match=message):
        open_data("lfw", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5\n1\n", "declares 5 superpixels but has 1"),
        ("1\n1\n", "has classes for 0-0"),
        ("x\n", "not a table of integers"),
    ],
)
def test_damaged_superpixels_are_named(text: str, message: str, tmp_path: Path) -> None:
    lfw_superpixels(tmp_path)
    data = open_data("lfw", tmp_path)
    data.items[0].mask.write_text(text)
    with pytest.raises(DataError, match=rf"one_0007\.dat .*{message}"):
        data[0]


def test_a_damaged_table_of_classes_is_named(tmp_path: Path) -> None:
    drone(tmp_path)
    table = tmp_path / "training_set" / "gt" / "semantic" / "class_dict.csv"
    for text in ("", "name,r,g,b\nroof,1,2\n", "name,r,g,b\nroof,1,2,red\n"):
        table.write_text(text)
        with pytest.raises(DataError, match=r"class_dict\.csv is not a table of classes"):
            open_data("drone", tmp_path)


def test_cityscapes_classes_match_torchvision() -> None:
    evaluated = (entry for entry in torchvision.Cityscapes.classes if entry.train_id in range(19))
    expected = sorted(evaluated, key=lambda entry: entry.train_id)
    classes = class_set("cityscapes")
    assert classes.names == tuple(entry.name for entry in expected)
    assert classes.palette == tuple(entry.color for entry in expected)


def test_the_real_camvid(camvid: Path) -> None:
    train = open_data("camvid", camvid)
    assert len(train) == 367
    drives = [train.select(drive) for drive in ("0001TP*", "0006R0*", "0016E5*")]
    assert [len(drive) for drive in drives] == [62, 101, 204]
    assert len(open_data("camvid", camvid, "val", select="0016E5*")) == 101
    sample = drives[0][0]
    assert sample.image.shape == (360, 480, 3) and set(np.unique(sample.mask)) <= set(range(12))


def test_data_is_a_sequence(tmp_path: Path) -> None:
    folder(tmp_path)
    data = open_data("folder", tmp_path)
    assert isinstance(data[:1], SegmentationData) and data[:1].names == ("one",)
