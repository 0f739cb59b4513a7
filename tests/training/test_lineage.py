"""What weights have been trained on, as files say that may come from anybody."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.training import lineage
from segzoo.training.build import build_model
from segzoo.training.lineage import trained_on
from segzoo.training.recipe import DataConfig, ModelConfig


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Three images, 0.png to 2.png, in the format "folder"."""
    root = tmp_path / "cells"
    for part in ("images", "masks"):
        (root / "train" / part).mkdir(parents=True)
        for index in range(3):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "train" / part / f"{index}.png")
    (root / "classes.json").write_text('{"names": ["background", "cell"]}')
    return DataConfig(name="folder", root=str(root), split="train")


def recipe(data: DataConfig, **model: Any) -> dict[str, Any]:
    own = {"name": data.name, "root": data.root, "split": data.split, "exclude": ["0"]}
    return {"model": {"decoder": "unet", "encoder": "test_resnet", **model}, "data": own}


def save(path: Path, **info: Any) -> str:
    segzoo.save(segzoo.create("unet", encoder="test_resnet", num_classes=2).with_info(**info), path)
    return str(path)


def names(paths: set[Path]) -> list[str]:
    return sorted(path.name for path in paths)


@pytest.mark.parametrize("place", ["started_from", "encoder_from"])
def test_the_images_of_earlier_models_count(place: str, data: DataConfig, tmp_path: Path) -> None:
    start = save(tmp_path / "a.safetensors", **{place: {"recipe": recipe(data)}})
    assert names(trained_on(start, data)) == ["1.png", "2.png"]
    elsewhere = DataConfig(name="folder", root=str(tmp_path / "elsewhere"), split="train")
    assert trained_on(start, elsewhere) == set()


def test_the_same_folder_by_a_link_counts(data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data.root)
    start = save(tmp_path / "a.safetensors", recipe=recipe(data))
    assert len(trained_on(start, DataConfig(name="folder", root=str(tmp_path / "link"), split="train"))) == 2


@pytest.mark.parametrize(
    "source", ["{folder}/b.safetensors", "https://x.org/b.pth", "hf://jane/unet", "//server/share/b.pth"]
)
def test_what_a_recipe_names_is_not_opened(
    source: str, data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source.format(folder=tmp_path)
    if source.startswith(str(tmp_path)):
        save(Path(source), recipe=recipe(data))
    start = save(tmp_path / "a.safetensors", recipe=recipe(data, init_from=source) | {"data": {"name": "camvid"}})
    opened: list[Any] = []
    monkeypatch.setattr(lineage, "locate", lambda word: opened.append(word) or segzoo.weights.resolve.locate(word))
    assert trained_on(start, data) == set()
    assert opened == [start]


def test_entries_of_the_catalog_are_followed(tmp_path: Path) -> None:
    """Its own files were written before the chain was recorded."""
    camvid = DataConfig(name="camvid", root=str(Path(tmp_path, "camvid")), split="train")
    for split, image in (("train", "a"), ("val", "b")):
        for part in (split, f"{split}annot"):
            Path(camvid.root, part).mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(Path(camvid.root, part, f"{image}.png"))
    start = save(
        tmp_path / "a.safetensors",
        recipe=recipe(DataConfig(name="folder", root="x"), encoder_weights="unet/mobilenetv4_conv_small/camvid"),
    )
    assert names(trained_on(start, camvid)) == ["a.png"]


def test_a_recipe_that_fits_nothing_is_passed_over(data: DataConfig, tmp_path: Path) -> None:
    other = recipe(data)
    other["data"]["split"] = "no such split"
    start = save(tmp_path / "a.safetensors", recipe=other, started_from={"recipe": recipe(data)})
    assert len(trained_on(start, data)) == 2
    assert trained_on(save(tmp_path / "b.safetensors", recipe={"loss": {"loss": "unknown"}}), data) == set()


def test_a_run_keeps_what_it_started_from_and_claims_nothing_of_it(tmp_path: Path) -> None:
    start = save(tmp_path / "a.safetensors", recipe={"x": 1}, metrics={"mean_iou": 0.9}, key="a/b/c", license="CC0")
    classes = segzoo.classes.ClassSet.generic(2)
    model = build_model(ModelConfig("unet", "test_resnet", init_from=start), classes)
    assert set(model.spec.info) == {"started_from"}
    assert model.spec.info["started_from"]["license"] == "CC0"
    model = build_model(ModelConfig("fcn", "test_resnet", encoder_weights=start), classes)
    assert model.spec.info["encoder_from"]["key"] == "a/b/c"
