"""Label sets: the data sets' own classes and colours, and rubbish refused."""

import dataclasses
import json
from typing import Any

import pytest

from segzoo.classes import LABEL_SETS, LabelSet, label_set, voc_colour
from segzoo.errors import UnknownNameError

PAIR = {"names": ["a", "b"], "colours": [[0, 0, 0], [255, 0, 0]], "ignored": 255}


@pytest.mark.parametrize(
    ("name", "index", "class_name", "colour"),
    [
        ("camvid", 0, "Sky", (128, 128, 128)),
        ("camvid", 4, "Pavement", (60, 40, 222)),
        ("camvid", 10, "Bicyclist", (0, 128, 192)),
        # From the table of VOC2012's development kit.
        ("voc", 0, "background", (0, 0, 0)),
        ("voc", 1, "aeroplane", (128, 0, 0)),
        ("voc", 8, "cat", (64, 0, 0)),
        ("voc", 15, "person", (192, 128, 128)),
        ("voc", 20, "tvmonitor", (0, 64, 128)),
    ],
)
def test_data_sets_have_their_own_colours(name: str, index: int, class_name: str, colour: tuple[int, ...]) -> None:
    assert label_set(name).names[index] == class_name
    assert label_set(name).colours[index] == colour


@pytest.mark.parametrize(("name", "classes", "ignored"), [("camvid", 11, 11), ("voc", 21, 255)])
def test_data_sets_have_their_own_size(name: str, classes: int, ignored: int) -> None:
    assert (len(label_set(name)), label_set(name).ignored) == (classes, ignored)


@pytest.mark.parametrize("name", LABEL_SETS)
def test_a_label_set_survives_json(name: str) -> None:
    labels = label_set(name)
    again = LabelSet.from_dict(json.loads(json.dumps(labels.to_dict())))
    assert again == labels
    assert hash(again) == hash(labels)


def test_the_record_is_plain() -> None:
    assert LabelSet(("a", "b"), ((0, 0, 0), (255, 0, 0)), 255).to_dict() == PAIR


def test_a_label_set_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        label_set("voc").ignored = 0  # type: ignore[misc]


def test_unknown_label_set() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown label set 'camvit'. Did you mean 'camvid'\?"):
        label_set("camvit")


@pytest.mark.parametrize("n", [1, 21, 256, 1000])
def test_generic_classes_differ(n: int) -> None:
    labels = LabelSet.generic(n)
    assert len(labels) == len(set(labels.colours)) == len(set(labels.names)) == n
    assert labels.names[-1] == f"class {n - 1}"
    assert labels.ignored is None


@pytest.mark.parametrize(("index", "colour"), [(255, (224, 224, 192)), (256, (0, 0, 32)), (7, (128, 128, 128))])
def test_palette_of_voc(index: int, colour: tuple[int, int, int]) -> None:
    assert voc_colour(index) == colour


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a"]}, "1 names and 2 colours"),
        ({"names": ["a", "a"]}, "given twice: a"),
        ({"names": ["a", 3]}, "non-empty class names"),
        ({"names": ["a", ""]}, "non-empty class names"),
        ({"names": "ab"}, "needs a list under 'names'"),
        ({"names": [], "colours": []}, "at least one class"),
        ({"colours": None}, "needs a list under 'colours'"),
        ({"colours": [[0, 0, 0], [256, 0, 0]]}, "0-255"),
        ({"colours": [[0, 0, 0], [-1, 0, 0]]}, "0-255"),
        ({"colours": [[0, 0, 0], [1.5, 0, 0]]}, "must be an integer, got 1.5"),
        ({"colours": [[0, 0, 0], [0, 0]]}, "three integers"),
        ({"colours": [[0, 0, 0], 7]}, "three integers"),
        ({"ignored": 1}, "ignored id 1 is the class 'b'"),
        ({"ignored": "void"}, "the ignored id must be an integer"),
        ({"ignored": True}, "the ignored id must be an integer"),
    ],
)
def test_rubbish_is_refused(change: dict[str, Any], message: str) -> None:
    LabelSet.from_dict(PAIR)
    with pytest.raises(ValueError, match=message):
        LabelSet.from_dict(PAIR | change)


@pytest.mark.parametrize("record", [None, [], "voc", 3])
def test_a_record_is_a_mapping(record: Any) -> None:
    with pytest.raises(ValueError, match="is a mapping"):
        LabelSet.from_dict(record)


def test_a_bare_string_is_no_list_of_names() -> None:
    with pytest.raises(ValueError, match="sequence of non-empty class names"):
        LabelSet("ab", ((0, 0, 0), (1, 1, 1)))  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, -1])
def test_generic_needs_a_class(n: int) -> None:
    with pytest.raises(ValueError, match="at least one class"):
        LabelSet.generic(n)
