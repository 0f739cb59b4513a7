"""Class sets: the classes and colors of known data sets, and invalid ones refused."""

import dataclasses
import json
from typing import Any

import pytest

from segzoo.classes import CLASS_SETS, ClassSet, class_set, voc_color
from segzoo.errors import OptionError, UnknownNameError

PAIR = {"names": ["a", "b"], "palette": [[0, 0, 0], [255, 0, 0]], "ignore_index": 255}


@pytest.mark.parametrize(
    ("name", "index", "class_name", "color"),
    [
        ("camvid", 0, "Sky", (128, 128, 128)),
        ("camvid", 4, "Pavement", (60, 40, 222)),
        ("camvid", 10, "Bicyclist", (0, 128, 192)),
        # From the table in VOC2012's development kit.
        ("voc", 0, "background", (0, 0, 0)),
        ("voc", 1, "aeroplane", (128, 0, 0)),
        ("voc", 8, "cat", (64, 0, 0)),
        ("voc", 15, "person", (192, 128, 128)),
        ("voc", 20, "tvmonitor", (0, 64, 128)),
    ],
)
def test_colors_of_data_sets(name: str, index: int, class_name: str, color: tuple[int, ...]) -> None:
    assert class_set(name).names[index] == class_name
    assert class_set(name).palette[index] == color


@pytest.mark.parametrize(("name", "classes", "ignore_index"), [("camvid", 11, 11), ("voc", 21, 255)])
def test_sizes_of_data_sets(name: str, classes: int, ignore_index: int) -> None:
    assert (len(class_set(name)), class_set(name).ignore_index) == (classes, ignore_index)


@pytest.mark.parametrize("name", CLASS_SETS)
def test_a_class_set_survives_json(name: str) -> None:
    classes = class_set(name)
    again = ClassSet.from_dict(json.loads(json.dumps(classes.to_dict())))
    assert again == classes
    assert hash(again) == hash(classes)


def test_the_dictionary_is_plain() -> None:
    assert ClassSet(("a", "b"), ((0, 0, 0), (255, 0, 0)), 255).to_dict() == PAIR


def test_a_class_set_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        class_set("voc").ignore_index = 0  # type: ignore[misc]


def test_unknown_class_set() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown class set 'camvit'. Did you mean 'camvid'\?"):
        class_set("camvit")


@pytest.mark.parametrize("n", [1, 21, 256, 1000])
def test_generic_classes_differ(n: int) -> None:
    classes = ClassSet.generic(n)
    assert len(classes) == len(set(classes.palette)) == len(set(classes.names)) == n
    assert classes.names[-1] == f"class {n - 1}"
    assert classes.ignore_index is None


@pytest.mark.parametrize(("index", "color"), [(255, (224, 224, 192)), (256, (0, 0, 32)), (7, (128, 128, 128))])
def test_palette_of_voc(index: int, color: tuple[int, int, int]) -> None:
    assert voc_color(index) == color


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a"]}, "1 names and 2 colors"),
        ({"names": ["a", "a"]}, "given twice: a"),
        ({"names": ["a", 3]}, "non-empty class names"),
        ({"names": ["a", ""]}, "non-empty class names"),
        ({"names": "ab"}, "needs a list under 'names'"),
        ({"names": [], "palette": []}, "at least one class"),
        ({"palette": None}, "needs a list under 'palette'"),
        ({"palette": [[0, 0, 0], [256, 0, 0]]}, "0-255"),
        ({"palette": [[0, 0, 0], [-1, 0, 0]]}, "0-255"),
        ({"palette": [[0, 0, 0], [1.5, 0, 0]]}, "must be an integer, got 1.5"),
        ({"palette": [[0, 0, 0], [0, 0]]}, "three integers"),
        ({"palette": [[0, 0, 0], 7]}, "three integers"),
        ({"ignore_index": 1}, "ignore_index 1 is the class 'b'"),
        ({"ignore_index": "void"}, "ignore_index must be an integer"),
        ({"ignore_index": True}, "ignore_index must be an integer"),
    ],
)
def test_invalid_class_sets_are_refused(change: dict[str, Any], message: str) -> None:
    ClassSet.from_dict(PAIR)
    with pytest.raises(ValueError, match=message):
        ClassSet.from_dict(PAIR | change)


@pytest.mark.parametrize("record", [None, [], "voc", 3])
def test_a_class_set_is_a_mapping(record: Any) -> None:
    with pytest.raises(ValueError, match="is a mapping"):
        ClassSet.from_dict(record)


def test_a_bare_string_is_not_a_list_of_names() -> None:
    with pytest.raises(ValueError, match="sequence of non-empty class names"):
        ClassSet("ab", ((0, 0, 0), (1, 1, 1)))  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, -1])
def test_generic_needs_a_class(n: int) -> None:
    with pytest.raises(ValueError, match="at least one class"):
        ClassSet.generic(n)


@pytest.mark.parametrize("index", [None, 1.5, "1", True])
def test_the_color_of_what_is_no_id(index: Any) -> None:
    with pytest.raises(OptionError, match="a class id must be an integer"):
        voc_color(index)
