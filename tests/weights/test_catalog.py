"""The catalog: complete, true where that can be recomputed, and refused where something is missing."""

import datetime
import re
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest
import torch
from torchvision.models.segmentation import FCN_ResNet50_Weights, FCN_ResNet101_Weights

import segzoo
from segzoo.classes import label_set
from segzoo.errors import SegzooError, UnknownNameError
from segzoo.training import recipes
from segzoo.weights import cache, catalog
from segzoo.weights.catalog import Entry, default, entries, find, list_weights

TOML = (Path(catalog.__file__).parent / "catalog.toml").read_text(encoding="utf-8")
ONE = TOML[TOML.index('["fcn/resnet101') :].partition('\n["')[0]
"""The text of one entry."""

NAMES = [field.name for field in fields(Entry) if field.name != "key"]
NEEDED = [name for name in NAMES if name not in ("unseen", "runtime", "storage_changes")]
CLONE = Path(__file__).parents[2] / "weights"

each = pytest.mark.parametrize("entry", entries().values(), ids=lambda entry: entry.key)


def changed(name: str, value: str) -> str:
    """The entry with a field set to a TOML value."""
    if name not in NEEDED:
        return f"{ONE}\n{name} = {value}"
    return re.sub(rf"^{name} = .*$", lambda _: f"{name} = {value}", ONE, count=1, flags=re.MULTILINE)


# What the entries say is so


@each
def test_parameters_and_labels_are_those_of_the_model(entry: Entry) -> None:
    with torch.device("meta"):
        model = segzoo.create(entry.decoder, entry.encoder, labels=entry.labels, **entry.build)
    assert sum(p.numel() for p in model.parameters()) == entry.params
    assert model.config.in_channels == len(entry.mean) == len(entry.std)


@each
def test_files_that_are_here_are_those(entry: Entry) -> None:
    if entry.place == "repository" and not CLONE.is_dir():
        pytest.skip("an sdist has no folder weights/")
    here = CLONE / entry.file if entry.place == "repository" else entry.here
    assert here is not None or entry.place == "web"
    if here is not None:
        assert (here.stat().st_size, cache.sha256_of(here)) == (entry.size, entry.sha256)


def test_what_ships_is_small() -> None:
    sizes = {place: [one.size for one in entries().values() if one.place == place] for place in catalog.PLACES}
    assert all(size <= 8_000_000 for size in sizes["package"])
    assert sum(sizes["repository"]) <= 60_000_000


@each
def test_recipes_of_our_own_are_there(entry: Entry) -> None:
    assert entry.recipe.startswith("https://") or entry.recipe in recipes.names()


TORCHVISION = {
    "fcn/resnet50/coco-voc": FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1,
    "fcn/resnet101/coco-voc": FCN_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1,
}


def test_every_entry_of_torchvisions_is_compared() -> None:
    assert {key for key, entry in entries().items() if entry.format == "torchvision"} == set(TORCHVISION)


@pytest.mark.parametrize("key", TORCHVISION)
def test_torchvision_says_the_same(key: str) -> None:
    entry, theirs = find(key), TORCHVISION[key]
    measured = theirs.meta["_metrics"]["COCO-val2017-VOC-labels"]
    assert entry.urls == (theirs.url,)
    assert theirs.url.endswith(f"/{entry.file}")
    assert entry.file == f"fcn_{entry.encoder}_coco-{entry.sha256[:8]}.pth"
    assert round(entry.size / 2**20, 3) == theirs.meta["_file_size"]
    assert entry.params == theirs.meta["num_params"]
    assert {name: round(100 * value, 1) for name, value in entry.metrics.items()} == {
        "mean_iou": measured["miou"],
        "pixel_accuracy": measured["pixel_acc"],
    }
    assert ["background", *theirs.meta["categories"][1:]] == list(label_set(entry.labels).names)
    transforms = theirs.transforms()
    assert (list(entry.mean), list(entry.std)) == (transforms.mean, transforms.std)
    assert entry.recipe.partition("#")[0] == theirs.meta["recipe"].partition("#")[0]


# Records


def test_keys() -> None:
    assert list_weights() == segzoo.list_weights() == list(entries())
    assert find("fcn/resnet101/coco-voc").encoder == "resnet101"


@pytest.mark.parametrize("key", ["fcn/resnet101/coco_voc", "fcn/resnet1O1/coco-voc", "FCN/ResNet101/COCO-VOC"])
def test_near_keys_are_suggested(key: str) -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'fcn/resnet101/coco-voc'.*segzoo list --weights"):
        find(key)


@each
def test_entries_are_frozen(entry: Entry) -> None:
    with pytest.raises(FrozenInstanceError):
        entry.size = 1
    with pytest.raises(TypeError):
        entry.metrics["mean_iou"] = 1.0
    with pytest.raises(TypeError):
        entries()["mine"] = entry


def test_what_is_read_is_what_is_written() -> None:
    (entry,) = catalog.read(ONE).values()
    assert entry == find("fcn/resnet101/coco-voc")
    assert entry.date == datetime.date(2019, 5, 22)
    assert set(entry.info()) >= {"metrics", "licence", "data"}


def test_the_default_is_the_first_in_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = catalog.read(ONE).values()
    shipped = [replace(entry, key=f"fcn/resnet101/{tag}", place="package", urls=()) for tag in ("a", "b")]
    for several, expected in (([], None), ([entry], None), ([entry, *shipped], shipped[0])):
        monkeypatch.setattr(catalog, "_packaged", lambda: {one.key: one for one in several})  # noqa: B023 - used at once
        assert default() == expected


@pytest.mark.parametrize(("place", "folder"), [("package", "WEIGHTS"), ("repository", "CLONE")])
def test_a_file_is_where_its_place_says(
    place: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, folder, tmp_path)
    entry = replace(find("fcn/resnet101/coco-voc"), place=place, urls=())
    assert entry.here is None
    (tmp_path / entry.file).touch()
    assert entry.here == tmp_path / entry.file


MEASURED = (
    "unseen = { dusk = { mean_iou = 0.448 } }\nstorage_changes = 0.0002\n"
    "runtime = { milliseconds = 41.2, height = 360, width = 480, threads = 1, "
    'cpu = "a", onnxruntime = "1.28.0", logits_difference = 2e-6, label_agreement = 1 }\n'
)


def test_what_was_measured_may_stand_in_it() -> None:
    (entry,) = catalog.read(ONE + MEASURED).values()
    assert entry.unseen["dusk"]["mean_iou"] == 0.448
    assert (entry.runtime["threads"], entry.storage_changes) == (1, 0.0002)
    assert (find(entry.key).unseen, find(entry.key).runtime, find(entry.key).storage_changes) == ({}, {}, None)


# Records that are refused


def test_every_field_is_checked() -> None:
    assert list(catalog._FIELDS) == NAMES


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_field_is_named(name: str) -> None:
    text = re.sub(rf"^{name} = .*\n", "", ONE, count=1, flags=re.MULTILINE)
    with pytest.raises(SegzooError, match=rf"'fcn/resnet101/coco-voc': {name} is missing \("):
        catalog.read(text)


WRONG = {
    "format": ('"pickle"', "1", '""'),
    "file": ('"../a.pth"', '"a/b.pth"', '"a.exe"', '""', '"/a.pth"', '"a\\\\b.pth"', "3", '".pth"'),
    "place": ('"here"', "1", '""'),
    "urls": ('["http://a.org/b.pth"]', '["ftp://a.org/b"]', '"https://a.org/b.pth"', '["https://a b"]', "[1]"),
    "sha256": ('"7ecb50ca"', f'"{"G" * 64}"', f'"{"A" * 64}"', f'"{"a" * 65}"', "1", f'"{"a" * 64}\\n"'),
    "sha256_by": ('""', '" "', "1"),
    "size": ("0", "-1", '"1"', "1.5", "true"),
    "build": ('"auxiliary"', "[]", "true"),
    "labels": ('"vok"', "21", '["a", "b"]'),
    "mean": ("[]", "0.5", "[1.5, 0, 0]", '["a", "b", "c"]', "[nan, 0.5, 0.5]"),
    "std": ("[]", "[0, 0.2, 0.2]", "[-0.2, 0.2, 0.2]", "[true, true, true]"),
    "input_size": ("480", "[480]", "[480, 480, 3]", "[0, 480]", "[480.0, 480.0]"),
    "data": ('""', "1"),
    "split": ('""', "[]"),
    "metrics": ("{}", "{ mean_iou = 63.7 }", "{ mIoU = 0.6 }", '{ mean_iou = "0.6" }', "0.6", "{ mean_iou = nan }"),
    "metrics_by": ('""', "1"),
    "params": ("0", "1.0", '"54M"'),
    "licence": ('""', "1"),
    "paper": ('""', "1"),
    "recipe": ('"No Such"', '"a/b"', '"http://a.org/b"', '"javascript:a"', "1"),
    "date": ('"2020-04-09"', "2020-04-09T00:00:00Z", "2020"),
    "unseen": (
        "0.4",
        "{ dusk = 0.4 }",
        "{ dusk = {} }",
        "{ dusk = { mean_iou = 44.8 } }",
        '{ " " = { mean_iou = 0.4 } }',
    ),
    "runtime": ("41.2", "{ milliseconds = 41.2 }", "{}"),
    "storage_changes": ('"none"', "1.5", "-0.1"),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_field_is_named(name: str, value: str) -> None:
    with pytest.raises(SegzooError, match=rf"'fcn/resnet101/coco-voc': {name} is "):
        catalog.read(changed(name, value))


def test_every_field_is_given_wrong_values() -> None:
    assert list(WRONG) == NAMES


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ONE + '\nsha265 = "a"', r"sha265 is no field \(is it sha256\?\)"),
        (changed("urls", "[]"), 'urls are for a place of "web", and that has some'),
        (changed("place", '"package"'), 'urls are for a place of "web", and that has some'),
        (changed("std", "[0.2]"), "mean and std have not the same number of channels"),
        (ONE.replace("fcn/resnet101/coco-voc", "fcn/resnet101"), "its key is not decoder/encoder/tag"),
        (ONE.replace("fcn/resnet101/coco-voc", "fcn/../voc"), "its key is not"),
        ("a = 1", "'a' is a table of fields, not 1"),
        ("[a", "no TOML"),
        (ONE + ONE, "no TOML"),  # the same key twice
        ('["a/b/c"]', ".*; ".join(f"{name} is missing" for name in NEEDED)),
    ],
)
def test_what_is_no_catalog(text: str, said: str) -> None:
    with pytest.raises(SegzooError, match=said):
        catalog.read(text)
