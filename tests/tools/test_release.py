"""A run becomes a released model: files, figures, entry; and what cannot be released changes nothing."""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
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
from release import Wish
from segzoo.data.datasets import open_data
from segzoo.errors import SegzooError, TrainingError
from segzoo.training.evaluate import evaluate
from segzoo.training.fit import train
from segzoo.training.recipe import Recipe, read_recipe
from segzoo.weights import catalog

KEY = "unet/test_resnet/camvid"
FILES = {
    "docs/images/curves/unet-test_resnet-camvid.png",
    "src/segzoo/weights/catalog.toml",
    "src/segzoo/weights/packaged/unet-test_resnet-camvid.safetensors",
    "src/segzoo/training/recipes/unet_test_resnet_camvid.toml",
}
CATALOG = Path(catalog.__file__).with_name("catalog.toml")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CamVid's layout with noise in it: two drives to train on, and val."""
    root = tmp_path_factory.mktemp("camvid")
    for split, names in (("train", ("A_1", "A_2", "B_1", "B_2")), ("val", ("A_3", "A_4"))):
        for number, name in enumerate(names):
            write_image(root / split / "images" / f"{name}.png", number, (40, 48))
            write_mask(root / split / "masks" / f"{name}.png", random_ids(11, number, (40, 48), ignored=11))
    return root


@pytest.fixture(scope="module")
def recipe(data: Path) -> Recipe:
    return Recipe.from_dict(
        {
            "note": "A test's.",
            "model": {"decoder": "unet", "encoder": "test_resnet", "options": {"upsample": "bilinear"}},
            "data": {"name": "camvid", "root": str(data), "split": "train"},
            "validation": {"split": "val"},
            "augmentation": [{"name": "flip"}, {"name": "crop", "height": 32, "width": 32, "scale": [0.8, 1.2]}],
            "run": {"epochs": 2, "batch": 2},
            "hardware": {"accelerator": "cpu", "workers": 0, "threads": 1},
        }
    )


@pytest.fixture(scope="module")
def runs(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """whole: on all of train. held: the same without drive B. other: the same without B, with another batch."""
    folder = tmp_path_factory.mktemp("runs")
    train(recipe, folder / "whole")
    held = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, exclude=("B*",)),
        validation=dataclasses.replace(recipe.validation, split="train", select=("B*",)),
    )
    train(held, folder / "held")
    train(dataclasses.replace(held, run=dataclasses.replace(held.run, batch=1)), folder / "other")
    return folder


@pytest.fixture
def wish(runs: Path, data: Path, tmp_path: Path) -> Callable[..., Wish]:
    """What is asked of a fresh tree with the catalog in it; named fields are replaced."""
    target = tmp_path / "tree/src/segzoo/weights/catalog.toml"
    target.parent.mkdir(parents=True)
    shutil.copy(CATALOG, target)
    return lambda **fields: Wish(
        **{"run": runs / "whole", "data": data, "threads": 1, "root": tmp_path / "tree", **fields}
    )


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_a_run_is_released(wish, runs, data, recipe, monkeypatch, tmp_path):
    """All of it at once, since an export takes long."""
    asked = wish(unseen=(runs / "held",))
    entry = release.release(asked)
    assert files(asked.root) == FILES

    # The catalog: what was there is as it was, comments too, and the entry comes behind it.
    text = asked.catalog.read_text(encoding="utf-8")
    assert text.startswith(CATALOG.read_text(encoding="utf-8"))
    assert catalog.read(text)[KEY] == entry
    assert str(data) not in text

    # The file: float16, as the entry says, with what it is inside; it loads without a network.
    path = asked.weights("package") / entry.file
    content = path.read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (entry.size, entry.sha256)
    assert {t.dtype for t in load_file(path).values() if t.ndim > 1} == {torch.float16}
    assert str(data).encode() not in content
    monkeypatch.setattr(catalog, "WEIGHTS", path.parent)
    monkeypatch.setattr(catalog, "_packaged", lambda: catalog.read(text))
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    assert catalog.find(KEY).here == path
    model = segzoo.load(KEY)
    assert model.config.info["key"] == KEY and model.config.info["trained"]["epoch"] == 2
    assert sum(p.numel() for p in model.parameters()) == entry.params

    # The figures are those of the file.
    matrix = evaluate(model, open_data("camvid", data, "val")).matrix
    assert entry.metrics["mean_iou"] == round(matrix.mean_iu, 4)
    assert entry.metrics["frequency_weighted_iou"] == round(matrix.frequency_weighted_iu, 4)
    held = open_data("camvid", data, "train", select=["B*"])
    without = evaluate(segzoo.load(runs / "held" / "last.safetensors"), held).matrix
    assert entry.unseen == {"B": release.shares(without)}
    assert 0 <= entry.storage_changes <= 0.001
    assert entry.runtime["label_agreement"] > 0.999 and entry.runtime["logits_difference"] < 1e-4
    assert (entry.runtime["height"], entry.runtime["width"], entry.runtime["threads"]) == (40, 48, 1)
    assert entry.input_size == (32, 32) and entry.build == {"upsample": "bilinear"}
    assert entry.data == "camvid train, 4 images, from random weights" and entry.split == "camvid val, 2 images"

    # The recipe trains the same, from any folder; the curves are a picture.
    again = read_recipe(asked.root / "src/segzoo/training/recipes/unet_test_resnet_camvid.toml")
    assert again == published(recipe) and again.data.root == "data/camvid"
    with Image.open(asked.root / "docs/images/curves/unet-test_resnet-camvid.png") as picture:
        assert np.asarray(picture).std() > 5

    # A second time, it has to be said.
    with pytest.raises(SegzooError, match="in the catalog already"):
        release.release(asked)


def test_a_run_in_three_parts_brings_all_recipes_and_says_what_came_first(wish, runs, recipe, tmp_path, data):
    def train_on(folder: Path, start: Path, like: Recipe) -> Path:
        model = dataclasses.replace(like.model, start=str(start / "last.safetensors"))
        train(dataclasses.replace(like, model=model, run=dataclasses.replace(like.run, epochs=1)), folder)
        return folder

    held = read_recipe(runs / "held" / "last.safetensors")
    unlike = train_on(tmp_path / "unlike", runs / "held", dataclasses.replace(held, validation=recipe.validation))
    second = train_on(tmp_path / "2", runs / "whole", recipe)
    third = train_on(tmp_path / "3", second, recipe)
    held_second = train_on(tmp_path / "held 2", runs / "held", held)
    held_third = train_on(tmp_path / "held 3", held_second, held)
    for wrong, said in (
        (held_second, "is the last of 2 runs, and the model that of 3"),
        (train_on(tmp_path / "wrong", unlike, held), "went on from a run that did not hold the same part out"),
    ):
        with pytest.raises(TrainingError, match=said):
            release.release(wish(run=third, unseen=(wrong,)))
    asked = wish(run=third, unseen=(held_third,))
    entry = release.release(asked)
    assert entry.data == "camvid train, 4 images, from random weights in 3 runs"
    matrix = evaluate(segzoo.load(held_third / "last.safetensors"), open_data("camvid", data, "train", select=["B*"]))
    assert entry.unseen == {"B": release.shares(matrix.matrix)}

    files = [
        *(run / "last.safetensors" for run in (runs / "whole", second, third)),
        asked.weights("package") / entry.file,
    ]
    *parts, whole = (segzoo.load(file).config.info["trained"] for file in files)
    assert whole["epoch"] == 4 and whole["seconds"] == pytest.approx(sum(one["seconds"] for one in parts))
    folder = asked.root / "src/segzoo/training/recipes"
    written = [read_recipe(folder / f"unet_test_resnet_camvid{which}.toml") for which in ("_first", "_second", "")]
    assert written[0] == published(recipe)
    starts = [one.model.start for one in written]
    assert starts == [None, "runs/first/last.safetensors", "runs/second/last.safetensors"]

    shutil.rmtree(second)
    with pytest.raises(TrainingError, match=r"went on from .* and no run is there"):
        release.release(wish(run=third, force=True))


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"unseen": ["other"]}, TrainingError, "had another recipe: run.batch = 1 instead of 2"),
        ({"unseen": ["whole"]}, TrainingError, "holds no part of its training data out"),
        ({"run": "absent"}, SegzooError, "No file"),
    ],
)
def test_what_cannot_be_released_changes_nothing(wish, runs, fields, error, said):
    paths = {name: tuple(runs / one for one in v) if name == "unseen" else runs / v for name, v in fields.items()}
    asked = wish(**paths)
    before = asked.catalog.read_bytes()
    with pytest.raises(error, match=said):
        release.release(asked)
    assert files(asked.root) == {"src/segzoo/weights/catalog.toml"} and asked.catalog.read_bytes() == before


def test_labels_that_float16_changes_are_not_released(wish, monkeypatch):
    monkeypatch.setattr(release, "agreement", lambda *_: 0.9985)
    asked = wish()
    with pytest.raises(SegzooError, match=r"changes the label of 0\.150% of the pixels.*--float32"):
        release.release(asked)
    assert files(asked.root) == {"src/segzoo/weights/catalog.toml"}


def test_float32_is_stored_where_it_is_asked_for(wish):
    asked = wish(half=False)
    entry = release.release(asked)
    assert {t.dtype for t in load_file(asked.weights("package") / entry.file).values() if t.ndim > 1} == {torch.float32}
    assert entry.storage_changes is None


def test_a_run_that_goes_on_is_not_released(wish, runs, tmp_path):
    shutil.copytree(runs / "whole", tmp_path / "half")
    log = tmp_path / "half" / "log.csv"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(TrainingError, match="at epoch 1 of 2"):
        release.release(wish(run=tmp_path / "half"))


def test_a_recipe_that_does_the_same_is_kept(recipe, tmp_path):
    path = tmp_path / "one.toml"
    plain = published(recipe)
    path.write_text("# With a comment.\n" + check_recipe(plain, path, force=False))
    assert read_recipe(path) == plain
    elsewhere = dataclasses.replace(plain, note="Another.", hardware=dataclasses.replace(plain.hardware, threads=2))
    assert check_recipe(elsewhere, path, force=False) is None
    longer = dataclasses.replace(plain, run=dataclasses.replace(plain.run, epochs=3))
    with pytest.raises(TrainingError, match=r"run\.epochs = 3 instead of 2"):
        check_recipe(longer, path, force=False)
    assert "epochs = 3" in check_recipe(longer, path, force=True)


def test_what_would_make_the_wheel_too_large_is_refused():
    one = dataclasses.replace(catalog.find("fcn/resnet101/coco-voc"), urls=())
    release.check_sizes([dataclasses.replace(one, place="package", size=8_000_000)] * 2)
    with pytest.raises(SegzooError, match="up to 8 MB"):
        release.check_sizes([dataclasses.replace(one, place="package", size=8_000_001)])
    with pytest.raises(SegzooError, match="up to 60 MB"):
        release.check_sizes([dataclasses.replace(one, place="repository", size=30_000_001)] * 2)


def test_an_entry_is_written_as_it_is_read():
    text = CATALOG.read_text(encoding="utf-8")
    document = tomlkit.parse(text)
    table = {name: value.unwrap() for name, value in document["fcn/resnet50/coco-voc"].items()}
    document["fcn/resnet50/again"] = release.as_table(table)
    found = catalog.read(tomlkit.dumps(document))
    assert found["fcn/resnet50/again"] == dataclasses.replace(found["fcn/resnet50/coco-voc"], key="fcn/resnet50/again")
