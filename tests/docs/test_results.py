"""The results page contains what the catalog contains, and nothing else."""

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import random_ids, write_image, write_mask

import results
import segzoo
from segzoo.training import recipes
from segzoo.weights import catalog
from segzoo.weights.catalog import find

RUNTIME = {
    "milliseconds": 41.23,
    "height": 360,
    "width": 480,
    "threads": 2,
    "cpu": "a processor",
    "onnxruntime": "1.28.0",
    "logits_difference": 2e-6,
    "pixel_agreement": 0.99999,
}


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> catalog.Entry:
    """One of our models in the package, after one of torchvision's."""
    path = segzoo.save(segzoo.create("unet", "test_resnet", classes="camvid"), tmp_path / "small")
    entry = replace(
        find("fcn/resnet101/coco-voc"),
        key="unet/test_resnet/camvid",
        format="segzoo",
        source="package",
        urls=(),
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        classes="camvid",
        metrics={"mean_iou": 0.5592, "pixel_accuracy": 0.9, "mean_accuracy": 0.7, "frequency_weighted_iou": 0.8},
        recipe="unet_mobilenetv4_conv_small_camvid",
        holdout_metrics={"0001TP": {"mean_iou": 0.448}},
        runtime=RUNTIME,
        storage_changes=0.0002,
    )
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    both = {listed.key: listed for listed in (find("fcn/resnet50/coco-voc"), entry)}
    monkeypatch.setattr(catalog, "_packaged", lambda: both)
    return entry


@pytest.fixture
def camvid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of noise in CamVid's layout."""
    for number in range(9):
        write_image(tmp_path / "camvid/val/images" / f"{number}.png", number, (40, 48))
        write_mask(tmp_path / "camvid/val/masks" / f"{number}.png", random_ids(11, number, (40, 48), 11))
    monkeypatch.setattr(results, "CAMVID", tmp_path / "camvid")
    return tmp_path / "camvid"


def test_the_table_lists_the_models_that_segzoo_trained(released: catalog.Entry) -> None:
    head, rule, *rows, _, condition, storage = results.figures().splitlines()
    (row,) = rows
    assert row.count(" | ") == head.count(" | ") == rule.count(" | ")
    for cell in ("`unet/test_resnet/camvid`", "55.92 | 90.00 | 70.00 | 80.00", "0001TP 44.80", "41.2 (a)", "2.0e-06"):
        assert f"| {cell} |" in row
    assert "| mean IoU % | pixel accuracy % | mean accuracy % | fw IoU % |" in head
    assert row.endswith("| [recipe](#recipe-unet_mobilenetv4_conv_small_camvid) |")
    assert condition == "(a) 480 x 360 pixels, 2 threads of a processor."
    assert "0.020 %" in storage
    assert results.curves().endswith("(images/curves/unet-test_resnet-camvid.png)")
    assert recipes.path("unet_mobilenetv4_conv_small_camvid").read_text(encoding="utf-8") in results.recipe_texts()
    assert "{ #recipe-unet_mobilenetv4_conv_small_camvid }" in results.recipe_texts()


def test_the_plot_is_a_picture(released: catalog.Entry) -> None:
    (drawn,) = results.comparison_files().values()
    with Image.open(io.BytesIO(drawn)) as picture:
        assert np.asarray(picture).std() > 5
    assert results.comparison().endswith("(images/compared.png)")


def test_pictures_show_the_packaged_model(released: catalog.Entry, camvid: Path) -> None:
    files = results.picture_files()
    assert list(files) == [f"images/results/{name}.jpg" for name in ("1", "3", "5", "7")]
    assert all(path in results.pictures() for path in files)
    for content in files.values():
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.width > 3 * 48


def test_without_camvid_the_page_says_so(released: catalog.Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "CAMVID", Path("absent"))
    assert "CamVid was not available" in results.pictures() and results.picture_files() == {}


def test_models_that_segzoo_did_not_train_are_not_in_it(monkeypatch: pytest.MonkeyPatch, camvid: Path) -> None:
    others = {entry.key: entry for entry in catalog.entries().values() if entry.format != "segzoo"}
    monkeypatch.setattr(catalog, "_packaged", lambda: others)
    assert results.figures() == "*None is released yet.*"
    assert "fcn" not in results.curves() + results.recipe_texts() + results.pictures()
    assert results.picture_files() == {}


def test_each_of_our_models_has_curves() -> None:
    drawn = {f"images/curves/{path.name}" for path in (results.DOCS / "images" / "curves").glob("*.png")}
    assert {results._curves(entry) for entry in results.trained()} == drawn
