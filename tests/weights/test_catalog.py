"""The catalog: entries are complete, agree with what can be recomputed, and are rejected if a field is wrong."""

import datetime
import re
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.segmentation import FCN_ResNet50_Weights, FCN_ResNet101_Weights

import segzoo
from segzoo.classes import class_set
from segzoo.errors import SegzooError, UnknownNameError
from segzoo.inference import OnnxBackend
from segzoo.training import recipes
from segzoo.weights import cache, catalog
from segzoo.weights.catalog import Entry, default, entries, find, list_weights

TOML = (Path(catalog.__file__).parent / "catalog.toml").read_text(encoding="utf-8")
ENTRY = TOML[TOML.index('["fcn/resnet101') :].partition('\n["')[0]
"""The TOML of one entry."""

NAMES = [field.name for field in fields(Entry) if field.name != "key"]
REQUIRED = [name for name in NAMES if name not in ("holdout_metrics", "exported", "runtime", "storage_changes")]
CLONE = Path(__file__).parents[2] / "weights"

each_entry = pytest.mark.parametrize("entry", entries().values(), ids=lambda entry: entry.key)


def changed(name: str, value: str) -> str:
    """The entry with a field set to a TOML value."""
    if name not in REQUIRED:
        return f"{ENTRY}\n{name} = {value}"
    return re.sub(rf"^{name} = .*$", lambda _: f"{name} = {value}", ENTRY, count=1, flags=re.MULTILINE)


# Entries compared with models, files and torchvision


@each_entry
def test_parameters_and_channels_equal_the_models(entry: Entry) -> None:
    with torch.device("meta"):
        model = segzoo.create(entry.decoder, entry.encoder, classes=entry.classes, **entry.build)
    assert sum(p.numel() for p in model.parameters()) == entry.params
    assert model.spec.in_channels == len(entry.mean) == len(entry.std)


@each_entry
def test_local_files_have_the_stated_size_and_sha256(entry: Entry) -> None:
    if entry.source == "repository" and not CLONE.is_dir():
        pytest.skip("an sdist has no folder weights/")
    path = CLONE / entry.file if entry.source == "repository" else entry.local_path
    assert path is not None or entry.source == "web"
    if path is not None:
        assert (path.stat().st_size, cache.sha256_of(path)) == (entry.size, entry.sha256)


def test_the_packaged_model_ships_as_an_onnx_file_too(photograph: np.ndarray) -> None:
    entry = default()
    assert entry is not None and entry.exported is not None
    path = entry.exported.path
    assert (path.stat().st_size, cache.sha256_of(path)) == (entry.exported.size, entry.exported.sha256)
    predictor, model = segzoo.Predictor(entry.key, device="cpu"), segzoo.load(entry.key)
    assert isinstance(predictor.backend, OnnxBackend)
    assert predictor.spec == model.spec
    assert (predictor.predict(photograph).mask == model.predict(photograph).mask).mean() > 0.9999


def test_shipped_files_are_small() -> None:
    sizes = {
        source: [entry.size for entry in entries().values() if entry.source == source] for source in catalog.SOURCES
    }
    assert all(size <= 8_000_000 for size in sizes["package"])
    assert sum(sizes["repository"]) <= 60_000_000


@each_entry
def test_segzoos_recipes_exist(entry: Entry) -> None:
    assert entry.recipe.startswith("https://") or entry.recipe in recipes.names()


TORCHVISION = {
    "fcn/resnet50/coco-voc": FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1,
    "fcn/resnet101/coco-voc": FCN_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1,
}


def test_every_torchvision_entry_is_compared() -> None:
    assert {key for key, entry in entries().items() if entry.format == "torchvision"} == set(TORCHVISION)


@pytest.mark.parametrize("key", TORCHVISION)
def test_torchvisions_metadata_agrees(key: str) -> None:
    entry, theirs = find(key), TORCHVISION[key]
    metrics = theirs.meta["_metrics"]["COCO-val2017-VOC-labels"]
    assert entry.urls == (theirs.url,)
    assert theirs.url.endswith(f"/{entry.file}")
    assert entry.file == f"fcn_{entry.encoder}_coco-{entry.sha256[:8]}.pth"
    assert round(entry.size / 2**20, 3) == theirs.meta["_file_size"]
    assert entry.params == theirs.meta["num_params"]
    assert {name: round(100 * value, 1) for name, value in entry.metrics.items()} == {
        "mean_iou": metrics["miou"],
        "pixel_accuracy": metrics["pixel_acc"],
    }
    assert ["background", *theirs.meta["categories"][1:]] == list(class_set(entry.classes).names)
    transforms = theirs.transforms()
    assert (list(entry.mean), list(entry.std)) == (transforms.mean, transforms.std)
    assert entry.recipe.partition("#")[0] == theirs.meta["recipe"].partition("#")[0]


# Reading


def test_keys() -> None:
    assert list_weights() == segzoo.list_weights() == list(entries())
    assert find("fcn/resnet101/coco-voc").encoder == "resnet101"


@pytest.mark.parametrize("key", ["fcn/resnet101/coco_voc", "fcn/resnet1O1/coco-voc", "FCN/ResNet101/COCO-VOC"])
def test_similar_keys_are_suggested(key: str) -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'fcn/resnet101/coco-voc'.*segzoo list --weights"):
        find(key)


@each_entry
def test_entries_are_frozen(entry: Entry) -> None:
    with pytest.raises(FrozenInstanceError):
        entry.size = 1
    with pytest.raises(TypeError):
        entry.metrics["mean_iou"] = 1.0
    with pytest.raises(TypeError):
        entries()["mine"] = entry


def test_reading_gives_the_written_values() -> None:
    (entry,) = catalog.read(ENTRY).values()
    assert entry == find("fcn/resnet101/coco-voc")
    assert entry.date == datetime.date(2019, 5, 22)
    assert set(entry.info()) >= {"metrics", "license", "data"}


def test_the_default_is_the_first_entry_that_ships_with_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = catalog.read(ENTRY).values()
    shipped = [replace(entry, key=f"fcn/resnet101/{tag}", source="package", urls=()) for tag in ("a", "b")]
    for listed, expected in (([], None), ([entry], None), ([entry, *shipped], shipped[0])):
        by_key = {item.key: item for item in listed}
        monkeypatch.setattr(catalog, "_packaged", lambda: by_key)  # noqa: B023 - called within this iteration
        assert default() == expected


@pytest.mark.parametrize(("source", "folder"), [("package", "WEIGHTS"), ("repository", "CLONE")])
def test_the_local_path_depends_on_the_source(
    source: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, folder, tmp_path)
    entry = replace(find("fcn/resnet101/coco-voc"), source=source, urls=())
    assert entry.local_path is None
    (tmp_path / entry.file).touch()
    assert entry.local_path == tmp_path / entry.file


MEASURED = (
    "holdout_metrics = { dusk = { mean_iou = 0.448 } }\nstorage_changes = 0.0002\n"
    "runtime = { milliseconds = 41.2, height = 360, width = 480, threads = 1, "
    'cpu = "a", onnxruntime = "1.28.0", logits_difference = 2e-6, pixel_agreement = 1 }\n'
)


def test_optional_measurements_are_read() -> None:
    (entry,) = catalog.read(ENTRY + MEASURED).values()
    assert entry.holdout_metrics["dusk"]["mean_iou"] == 0.448
    assert (entry.runtime.threads, entry.storage_changes) == (1, 0.0002)
    assert (find(entry.key).holdout_metrics, find(entry.key).runtime, find(entry.key).storage_changes) == (
        {},
        None,
        None,
    )


# Invalid entries


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_field_is_named(name: str) -> None:
    text = re.sub(rf"^{name} = .*\n", "", ENTRY, count=1, flags=re.MULTILINE)
    with pytest.raises(SegzooError, match=rf"'fcn/resnet101/coco-voc': {name} is missing \("):
        catalog.read(text)


INVALID = {
    "format": ('"pickle"', "1", '""'),
    "file": ('"../a.pth"', '"a/b.pth"', '"a.exe"', '""', '"/a.pth"', '"a\\\\b.pth"', "3", '".pth"'),
    "source": ('"here"', "1", '""'),
    "urls": ('["http://a.org/b.pth"]', '["ftp://a.org/b"]', '"https://a.org/b.pth"', '["https://a b"]', "[1]"),
    "sha256": ('"7ecb50ca"', f'"{"G" * 64}"', f'"{"A" * 64}"', f'"{"a" * 65}"', "1", f'"{"a" * 64}\\n"'),
    "sha256_source": ('""', '" "', "1"),
    "size": ("0", "-1", '"1"', "1.5", "true"),
    "build": ('"auxiliary"', "[]", "true"),
    "classes": ('"vok"', "21", '["a", "b"]'),
    "mean": ("[]", "0.5", "[1.5, 0, 0]", '["a", "b", "c"]', "[nan, 0.5, 0.5]"),
    "std": ("[]", "[0, 0.2, 0.2]", "[-0.2, 0.2, 0.2]", "[true, true, true]"),
    "input_size": ("480", "[480]", "[480, 480, 3]", "[0, 480]", "[480.0, 480.0]"),
    "data": ('""', "1"),
    "split": ('""', "[]"),
    "metrics": ("{}", "{ mean_iou = 63.7 }", "{ mIoU = 0.6 }", '{ mean_iou = "0.6" }', "0.6", "{ mean_iou = nan }"),
    "metrics_by": ('""', "1"),
    "params": ("0", "1.0", '"54M"'),
    "license": ('""', "1"),
    "paper": ('""', "1"),
    "recipe": ('"No Such"', '"a/b"', '"http://a.org/b"', '"javascript:a"', "1"),
    "date": ('"2020-04-09"', "2020-04-09T00:00:00Z", "2020"),
    "holdout_metrics": (
        "0.4",
        "{ dusk = 0.4 }",
        "{ dusk = {} }",
        "{ dusk = { mean_iou = 44.8 } }",
        '{ " " = { mean_iou = 0.4 } }',
    ),
    "exported": ("'a.onnx'", "[]"),
    "runtime": ("41.2", "[]"),
    "storage_changes": ('"none"', "1.5", "-0.1"),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in INVALID.items() for value in values])
def test_an_invalid_field_is_named(name: str, value: str) -> None:
    with pytest.raises(SegzooError, match=rf"'fcn/resnet101/coco-voc': {name} must be "):
        catalog.read(changed(name, value))


@pytest.mark.parametrize("value", ["{ milliseconds = 41.2 }", "{}"])
def test_a_missing_key_of_the_runtime_is_named(value: str) -> None:
    with pytest.raises(SegzooError, match=r"'fcn/resnet101/coco-voc': .*runtime\.height is missing; runtime\.width is"):
        catalog.read(changed("runtime", value))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{ file = "a.onnx" }', r"exported\.sha256 is missing .*; exported\.size is missing"),
        ('{ file = "../a.onnx", sha256 = "", size = 1 }', r"exported\.file must be the name of an \.onnx file"),
        ('{ file = "a.pt", sha256 = "", size = 1 }', r"exported\.file must be the name of an \.onnx file"),
        ('{ file = "a.onnx", sha256 = "0", size = 0 }', r"exported\.sha256 must be 64 .*; exported\.size must be"),
    ],
)
def test_an_invalid_exported_file_is_named(value: str, message: str) -> None:
    with pytest.raises(SegzooError, match=message):
        catalog.read(changed("exported", value))


def test_every_field_is_tested_with_invalid_values() -> None:
    assert list(INVALID) == NAMES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY + '\nsha265 = "a"', r"Unknown key 'sha265'\. Did you mean 'sha256'\?"),
        (changed("urls", "[]"), 'urls are required if source is "web" and must be empty otherwise'),
        (changed("source", '"package"'), 'urls are required if source is "web" and must be empty otherwise'),
        (changed("std", "[0.2]"), "mean and std have different numbers of channels"),
        (ENTRY.replace("fcn/resnet101/coco-voc", "fcn/resnet101"), "key must be a key of the form decoder/encoder/tag"),
        (ENTRY.replace("fcn/resnet101/coco-voc", "fcn/../voc"), "key must be a key of the form"),
        ("a = 1", "'a' must be a table of fields, not 1"),
        ("[a", "not valid TOML"),
        (ENTRY + ENTRY, "not valid TOML"),  # the same key twice
        ('["a/b/c"]', ".*; ".join(f"{name} is missing" for name in REQUIRED)),
    ],
)
def test_an_invalid_catalog_is_rejected(text: str, message: str) -> None:
    with pytest.raises(SegzooError, match=message):
        catalog.read(text)
