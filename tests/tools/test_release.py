"""Releasing a run: files, metrics and catalog entry; a run that cannot be released changes nothing."""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tomlkit
import torch
from PIL import Image
from safetensors.torch import load_file
from small_data import random_ids, write_image, write_mask

import release
import segzoo
from published_recipe import check_recipe, published
from release import ReleaseConfig
from segzoo.data.datasets import open_data
from segzoo.errors import SegzooError, TrainingError
from segzoo.training.callbacks import CsvLog
from segzoo.training.evaluate import evaluate
from segzoo.training.fit import train
from segzoo.training.recipe import Recipe, read_recipe
from segzoo.weights import cache, catalog

KEY = "unet/test_resnet/camvid"
FILES = {
    "docs/images/curves/unet-test_resnet-camvid.png",
    "src/segzoo/weights/catalog.toml",
    "src/segzoo/weights/packaged/unet-test_resnet-camvid.onnx",
    "src/segzoo/weights/packaged/unet-test_resnet-camvid.safetensors",
    "src/segzoo/training/recipes/unet_test_resnet_camvid.toml",
}
CATALOG = Path(catalog.__file__).with_name("catalog.toml")


@pytest.fixture(scope="module", autouse=True)
def _csv_log_only() -> Iterator[None]:
    """A release needs only log.csv, and drawing curves takes longer than these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segzoo.training.fit.logs", lambda folder: [CsvLog(folder)])
        yield


@pytest.fixture
def fixed_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the export and its timing, for tests of other parts of a release."""
    runtime = next(entry.runtime for entry in catalog.entries().values() if entry.runtime)
    monkeypatch.setattr(release, "measure_runtime", lambda *_: dataclasses.asdict(runtime))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random images in the layout of CamVid: two drives to train on, and val."""
    root = tmp_path_factory.mktemp("camvid")
    for split, names in (("train", ("A_1", "A_2", "B_1", "B_2")), ("val", ("A_3", "A_4"))):
        for number, name in enumerate(names):
            write_image(root / split / "images" / f"{name}.png", number, (40, 48))
            write_mask(root / split / "masks" / f"{name}.png", random_ids(11, number, (40, 48), ignore_index=11))
    return root


@pytest.fixture(scope="module")
def recipe(data: Path) -> Recipe:
    return Recipe.from_dict(
        {
            "note": "For tests.",
            "model": {"decoder": "unet", "encoder": "test_resnet", "options": {"upsample": "bilinear"}},
            "data": {"name": "camvid", "root": str(data), "split": "train"},
            "validation": {"split": "val"},
            "augmentation": [{"name": "flip"}, {"name": "crop", "height": 32, "width": 32, "scale": [0.8, 1.2]}],
            "run": {"epochs": 2, "batch_size": 2},
            "hardware": {"accelerator": "cpu", "workers": 0, "threads": 1},
        }
    )


@pytest.fixture(scope="module")
def runs(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all: trained on all of train. holdout: with drive B held out. other: the same, with another batch size."""
    folder = tmp_path_factory.mktemp("runs")
    train(recipe, folder / "all")
    holdout = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, exclude=("B*",)),
        validation=dataclasses.replace(recipe.validation, split="train", select=("B*",)),
    )
    train(holdout, folder / "holdout")
    train(dataclasses.replace(holdout, run=dataclasses.replace(holdout.run, batch_size=1)), folder / "other")
    return folder


@pytest.fixture
def config(runs: Path, data: Path, tmp_path: Path) -> Callable[..., ReleaseConfig]:
    """Options for a new tree that contains the catalog; fields are replaced by keyword."""
    target = tmp_path / "tree/src/segzoo/weights/catalog.toml"
    target.parent.mkdir(parents=True)
    shutil.copy(CATALOG, target)
    return lambda **fields: ReleaseConfig(
        **{"run": runs / "all", "data": data, "threads": 1, "root": tmp_path / "tree", **fields}
    )


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_a_run_is_released(config, runs, data, recipe, monkeypatch, tmp_path):
    """All of it in one test, because an export is slow."""
    options = config(holdout_runs=(runs / "holdout",))
    entry = release.release(options)
    assert files(options.root) == FILES

    # The existing catalog is unchanged, including its comments, and the new entry follows it.
    text = options.catalog.read_text(encoding="utf-8")
    assert text.startswith(CATALOG.read_text(encoding="utf-8"))
    assert catalog.read(text)[KEY] == entry
    assert str(data) not in text

    # The file is float16, matches the entry, contains its metadata, and loads without a network.
    path = options.weights("package") / entry.file
    content = path.read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (entry.size, entry.sha256)
    assert {t.dtype for t in load_file(path).values() if t.ndim > 1} == {torch.float16}
    assert str(data).encode() not in content
    graph = path.with_suffix(".onnx")
    assert graph.name == entry.exported.file and cache.sha256_of(graph) == entry.exported.sha256
    assert graph.stat().st_size == entry.exported.size
    monkeypatch.setattr(catalog, "WEIGHTS", path.parent)
    monkeypatch.setattr(catalog, "_packaged", lambda: catalog.read(text))
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    assert catalog.find(KEY).local_path == path
    model = segzoo.load(KEY)
    assert model.spec.info["key"] == KEY and model.spec.info["trained"]["epoch"] == 2
    assert sum(p.numel() for p in model.parameters()) == entry.params

    # The metrics are those of the file.
    matrix = evaluate(model, open_data("camvid", data, "val")).matrix
    assert entry.metrics["mean_iou"] == round(matrix.mean_iou, 4)
    assert entry.metrics["frequency_weighted_iou"] == round(matrix.frequency_weighted_iou, 4)
    held_out = open_data("camvid", data, "train", select=["B*"])
    matrix = evaluate(segzoo.load(runs / "holdout" / "last.safetensors"), held_out).matrix
    assert entry.holdout_metrics == {"B": release.catalog_metrics(matrix)}
    assert 0 <= entry.storage_changes <= 0.001
    assert entry.runtime.pixel_agreement > 0.999 and entry.runtime.logits_difference < 1e-4
    assert (entry.runtime.height, entry.runtime.width, entry.runtime.threads) == (40, 48, 1)
    assert entry.input_size == (32, 32) and entry.build == {"upsample": "bilinear"}
    assert entry.data == "camvid train, 4 images, from random weights" and entry.split == "camvid val, 2 images"

    # The recipe is the same, without local paths; the curves are an image.
    published_recipe = read_recipe(options.root / "src/segzoo/training/recipes/unet_test_resnet_camvid.toml")
    assert published_recipe == published(recipe) and published_recipe.data.root == "data/camvid"
    with Image.open(options.root / "docs/images/curves/unet-test_resnet-camvid.png") as image:
        assert np.asarray(image).std() > 5

    # The entry is not replaced without --force.
    with pytest.raises(SegzooError, match="in the catalog already"):
        release.release(options)


def test_a_chain_of_three_runs_is_released_with_all_recipes(config, runs, recipe, tmp_path, data, fixed_runtime):
    def continue_from(folder: Path, start: Path, base: Recipe) -> Path:
        model = dataclasses.replace(base.model, init_from=str(start / "last.safetensors"))
        train(dataclasses.replace(base, model=model, run=dataclasses.replace(base.run, epochs=1)), folder)
        return folder

    holdout = read_recipe(runs / "holdout" / "last.safetensors")
    different = continue_from(
        tmp_path / "different", runs / "holdout", dataclasses.replace(holdout, validation=recipe.validation)
    )
    second = continue_from(tmp_path / "2", runs / "all", recipe)
    third = continue_from(tmp_path / "3", second, recipe)
    holdout_second = continue_from(tmp_path / "holdout 2", runs / "holdout", holdout)
    holdout_third = continue_from(tmp_path / "holdout 3", holdout_second, holdout)
    for wrong, message in (
        (holdout_second, "is the last of 2 runs, but the model is the last of 3"),
        (
            continue_from(tmp_path / "wrong", different, holdout),
            "started from a run that did not hold out the same part",
        ),
    ):
        with pytest.raises(TrainingError, match=message):
            release.release(config(run=third, holdout_runs=(wrong,)))
    # In float32: of a network that has learned random masks, float16 changes 0.104 % of the pixels; 0.1 % is allowed.
    options = config(run=third, holdout_runs=(holdout_third,), half=False)
    entry = release.release(options)
    assert entry.data == "camvid train, 4 images, from random weights in 3 runs"
    held_out = open_data("camvid", data, "train", select=["B*"])
    matrix = evaluate(segzoo.load(holdout_third / "last.safetensors"), held_out).matrix
    assert entry.holdout_metrics == {"B": release.catalog_metrics(matrix)}

    files = [
        *(run / "last.safetensors" for run in (runs / "all", second, third)),
        options.weights("package") / entry.file,
    ]
    *parts, released = (segzoo.load(file).spec.info["trained"] for file in files)
    assert released["epoch"] == 4
    assert released["seconds"] == pytest.approx(sum(part["seconds"] for part in parts))
    folder = options.root / "src/segzoo/training/recipes"
    written = [read_recipe(folder / f"unet_test_resnet_camvid{suffix}.toml") for suffix in ("_first", "_second", "")]
    assert written[0] == published(recipe)
    starts = [written_recipe.model.init_from for written_recipe in written]
    assert starts == [None, "runs/first/last.safetensors", "runs/second/last.safetensors"]

    shutil.rmtree(second)
    with pytest.raises(TrainingError, match=r"started from .* but there is no run there"):
        release.release(config(run=third, force=True))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"holdout_runs": ["other"]}, TrainingError, "had another recipe: run.batch_size = 1 instead of 2"),
        ({"holdout_runs": ["all"]}, TrainingError, "holds out no part of its training data"),
        ({"run": "absent"}, SegzooError, "No file"),
    ],
)
def test_a_run_that_cannot_be_released_changes_nothing(config, runs, fields, error, message):
    paths = {
        name: tuple(runs / run for run in value) if name == "holdout_runs" else runs / value
        for name, value in fields.items()
    }
    options = config(**paths)
    before = options.catalog.read_bytes()
    with pytest.raises(error, match=message):
        release.release(options)
    assert files(options.root) == {"src/segzoo/weights/catalog.toml"} and options.catalog.read_bytes() == before


def test_float16_that_changes_classes_is_not_released(config, monkeypatch):
    monkeypatch.setattr(release, "pixel_agreement", lambda *_: 0.9985)
    options = config()
    with pytest.raises(SegzooError, match=r"changes the class of 0\.150% of the pixels.*--float32"):
        release.release(options)
    assert files(options.root) == {"src/segzoo/weights/catalog.toml"}


def test_float32_is_stored_on_request(config, fixed_runtime):
    options = config(half=False)
    entry = release.release(options)
    assert {t.dtype for t in load_file(options.weights("package") / entry.file).values() if t.ndim > 1} == {
        torch.float32
    }
    assert entry.storage_changes is None


def test_an_unfinished_run_is_not_released(config, runs, tmp_path):
    shutil.copytree(runs / "all", tmp_path / "half")
    log = tmp_path / "half" / "log.csv"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(TrainingError, match="at epoch 1 of 2"):
        release.release(config(run=tmp_path / "half"))


def test_an_equivalent_recipe_is_kept(recipe, tmp_path):
    path = tmp_path / "one.toml"
    plain = published(recipe)
    path.write_text("# With a comment.\n" + check_recipe(plain, path, force=False))
    assert read_recipe(path) == plain
    equivalent = dataclasses.replace(plain, note="Another.", hardware=dataclasses.replace(plain.hardware, threads=2))
    assert check_recipe(equivalent, path, force=False) is None
    longer = dataclasses.replace(plain, run=dataclasses.replace(plain.run, epochs=3))
    with pytest.raises(TrainingError, match=r"run\.epochs = 3 instead of 2"):
        check_recipe(longer, path, force=False)
    assert "epochs = 3" in check_recipe(longer, path, force=True)


def test_files_that_are_too_large_are_refused():
    entry = dataclasses.replace(catalog.find("fcn/resnet101/coco-voc"), source="package", urls=())
    release.check_sizes([dataclasses.replace(entry, source="package", size=8_000_000)] * 2)
    with pytest.raises(SegzooError, match="up to 8 MB"):
        release.check_sizes([dataclasses.replace(entry, source="package", size=8_000_001)])
    with pytest.raises(SegzooError, match="up to 60 MB"):
        release.check_sizes([dataclasses.replace(entry, source="repository", size=30_000_001)] * 2)


def test_an_entry_round_trips():
    text = CATALOG.read_text(encoding="utf-8")
    document = tomlkit.parse(text)
    table = {name: value.unwrap() for name, value in document["fcn/resnet50/coco-voc"].items()}
    document["fcn/resnet50/again"] = release.as_table(table)
    entries = catalog.read(tomlkit.dumps(document))
    assert entries["fcn/resnet50/again"] == dataclasses.replace(
        entries["fcn/resnet50/coco-voc"], key="fcn/resnet50/again"
    )
