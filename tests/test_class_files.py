"""Class sets from files: one name per line, or JSON; what holds no class set is refused with its name."""

import json
from pathlib import Path
from typing import Any

import pytest

import segzoo
from segzoo.class_files import read_classes, resolve_classes
from segzoo.classes import ClassSet, class_set
from segzoo.data.datasets.folder import read_classes as read_classes_of_folder
from segzoo.errors import OptionError, UnknownNameError
from segzoo.models.head import with_classes

NAMES = ("sky", "traffic light", "Straße")


def write(folder: Path, content: str | bytes, name: str = "labels.txt") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        "sky\ntraffic light\nStraße\n",
        "sky\r\ntraffic light\r\nStraße",
        "\ufeffsky\ntraffic light\nStraße\n",
        "# my classes\n\n  sky  \n\t\n# more\ntraffic light\nStraße\n\n",
    ],
    ids=["plain", "of Windows", "with a byte order mark", "with comments"],
)
@pytest.mark.parametrize("name", ["labels.txt", "LABELS.TXT", "coco.names", "labels"])
def test_a_name_per_line(content: str, name: str, tmp_path: Path) -> None:
    classes = read_classes(write(tmp_path, content, name))
    assert classes == ClassSet(NAMES, ClassSet.generic(3).palette)
    assert classes.ignore_index is None


def test_names_may_have_colors(tmp_path: Path) -> None:
    text = "sky, #4682B4\nroad\t#804080\nrock, paper , # 1, #000000\n#no class, #ffffff\n"
    assert read_classes(write(tmp_path, text)) == ClassSet(
        ("sky", "road", "rock, paper , # 1"), ((70, 130, 180), (128, 64, 128), (0, 0, 0))
    )


@pytest.mark.parametrize("name", ["tench, Tinca tinca", "C#ffffff", "issue, #12", "a, #gggggg", "a #ffffff", "a;b"])
def test_what_is_no_color_belongs_to_the_name(name: str, tmp_path: Path) -> None:
    assert read_classes(write(tmp_path, f"{name}\nother")).names == (name, "other")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"names": ["a", "b"]}, ClassSet(("a", "b"), ClassSet.generic(2).palette)),
        ({"names": ["a", "b"], "palette": None, "ignore_index": 9}, ClassSet(("a", "b"), ((0, 0, 0), (128, 0, 0)), 9)),
        (class_set("camvid").to_dict(), class_set("camvid")),
    ],
)
def test_a_json_file(record: dict[str, Any], expected: ClassSet, tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(record), "classes.json")
    assert read_classes(path) == read_classes_of_folder(path) == expected
    assert read_classes(write(tmp_path, "\ufeff" + json.dumps(record), "marked.json")) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", r"a\.txt does not describe a class set: .*needs at least one class"),
        ("a.txt", "# sky\n\n", "needs at least one class"),
        ("a.txt", "sky\nroad\nsky\n", "given twice: sky"),
        ("a.txt", "sky\nroad, #804080\n", "line 1, 'sky', has no color, and others do"),
        ("a.txt", "road, #804080\n\nsky\n", "line 3, 'sky', has no color, and others do"),
        ("a.txt", ", #804080\n", "non-empty class names"),
        ("a.txt", "x" * 1001, "A class name has at most 1,000 characters"),
        ("a.txt", "Straße".encode("latin-1"), r"a\.txt is not UTF-8: .* at byte 4\. Save it as UTF-8"),
        ("a.txt", "sky\n".encode("utf-16"), "is not UTF-8"),
        ("a.txt", "\n".join(map(str, range(65_537))), "it names more than 65,536 classes"),
        ("a.txt", "\n" * (2**24 + 1), "it has more than 16,777,216 bytes"),
        ("a.json", "{", r"a\.json does not describe a class set"),
        ("a.json", "[]", "A class set is a mapping with names and palette, got list"),
        ("a.json", '{"names": []}', "needs at least one class"),
        ("a.json", '{"names": "sky"}', "needs a list under 'names'"),
        ("a.json", '{"names": ["a"], "palette": [[0, 0, 256]]}', "must be 0-255"),
        ("a.json", json.dumps({"names": [str(i) for i in range(65_537)]}), "at most 65,536 classes, got 65,537"),
        ("a.json", "[" * 100_000, "does not describe a class set"),
        ("a.yaml", "sky", r"a\.yaml must be a \.txt file with one class name per line, or a \.json file"),
        ("a.csv", "sky,1,2,3", r"must be a \.txt file"),
    ],
)
def test_what_is_no_class_set_is_refused(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, content, name)
    for read in (read_classes, resolve_classes):
        with pytest.raises(OptionError, match=message):
            read(path)


def test_a_line_of_any_length_is_read_in_linear_time(tmp_path: Path) -> None:
    for filler in ("\t", " ", ",", "#", ", #"):
        with pytest.raises(OptionError, match="at most 1,000 characters"):
            read_classes(write(tmp_path, "a" + filler * (10_000_000 // len(filler)) + "b"))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"is a folder\. Name the file"):
        read_classes(tmp_path)
    with pytest.raises(OptionError, match=r"There is no file .*lables\.txt\. Did you mean '.*labels\.txt'\?"):
        write(tmp_path, "sky")
        read_classes(tmp_path / "lables.txt")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("segzoo.class_files.read_text", refuse)  # root may read every file
    with pytest.raises(OptionError, match=r"labels\.txt cannot be read: Permission denied\. Change its permissions"):
        read_classes(write(tmp_path, "sky"))


def test_an_argument_classes_is_a_set_a_name_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("labels.txt", "plain", "camvid"):
        write(tmp_path, "sky\nroad\n", name)
    given = ClassSet(("sky", "road"), ClassSet.generic(2).palette)
    for classes in (given, "labels.txt", Path("labels.txt"), "./labels.txt", "plain", Path("camvid"), "./camvid"):
        assert resolve_classes(classes) == given
    assert resolve_classes(None) is None
    assert resolve_classes("camvid") == class_set("camvid")  # a name comes before a file
    with pytest.raises(UnknownNameError, match=r"Unknown class set 'camvit'\. Did you mean 'camvid'\?.*as labels\.txt"):
        resolve_classes("camvit")
    with pytest.raises(OptionError, match=r"There is no file label\.txt\. Did you mean 'labels\.txt'"):
        resolve_classes("label.txt")


def test_models_take_their_classes_from_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "sky\nroad\nwater\n")
    model = segzoo.create("fcn", "test_resnet", classes=path)
    assert model.classes.names == ("sky", "road", "water")
    saved = segzoo.save(model, tmp_path / "model.safetensors")
    write(tmp_path, "a\nb\nc\n", "other.txt")
    assert segzoo.load(saved).classes == model.classes
    assert segzoo.load(saved, classes=str(tmp_path / "other.txt")).classes.names == ("a", "b", "c")
    assert with_classes(model, classes=tmp_path / "other.txt").classes.names == ("a", "b", "c")
    with pytest.raises(OptionError, match="num_classes=2, but the class set names 3 classes"):
        segzoo.create("fcn", "test_resnet", 2, classes=path)
    with pytest.raises(OptionError, match="The weights are for 3 classes, and the class set names 2"):
        segzoo.load(saved, classes=write(tmp_path, "a\nb\n", "two.txt"))
    with pytest.raises(OptionError, match="num_classes must be at least 2"):
        segzoo.create("fcn", "test_resnet", classes=write(tmp_path, "a\n", "one.txt"))
