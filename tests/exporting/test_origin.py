"""Exported files say nothing of the machine that made them, and are the same wherever they are made."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import segzoo
from segzoo.exporting.onnx.graph import build_graph, strip_origin
from segzoo.models.head import with_classes
from segzoo.spec import ExportSpec, ModelSpec

FOLDER = "jane doe's project"

EXPORT = """
import sys
import numpy as np
import segzoo
model = segzoo.load("start/last.safetensors")
images = list(np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), np.uint8))
for precision in ("fp32", "int8"):
    calibration = images if precision == "int8" else None
    segzoo.export(model, f"{precision}.onnx", precision=precision, calibration=calibration, min_agreement=0)
"""

DIGITS = "0" * 64

LOCAL = (FOLDER.encode(), b".py", b"site-packages", b"segzoo/models", str(Path.home()).encode() + b"/", b"/runs/")
"""What no exported file may contain."""


def trained_model(folder: Path) -> "segzoo.models.base.SegmentationModel":
    """A model as training leaves it: its recipe names the folders of this machine."""
    torch.manual_seed(0)
    model = segzoo.create("unet", "test_resnet", num_classes=3)
    recipe = {
        "data": {"name": "folder", "root": str(folder / "data")},
        "model": {"init_from": str(folder / "runs/second/last.safetensors"), "encoder_weights": "runs/first/a.pth"},
    }
    return model.with_info(recipe=recipe, license="CC0")


def found(content: bytes) -> list[bytes]:
    return [word for word in LOCAL if word in content]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """The files of two processes in two folders, by name."""
    results = []
    for place in (FOLDER, "elsewhere/and/deeper"):
        folder = tmp_path_factory.mktemp("machine") / place
        (folder / "start").mkdir(parents=True)
        segzoo.save(trained_model(Path("/home/jane") / FOLDER), folder / "start/last.safetensors")
        source = Path(segzoo.__file__).parents[1]
        environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", EXPORT], cwd=folder, env=environment, check=True, timeout=500)
        results.append({path.name: path.read_bytes() for path in folder.glob("*.onnx")})
    return results


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fp32.onnx", "int8.onnx"])
def test_files_name_nothing_of_the_machine_and_do_not_depend_on_it(made: list[dict[str, bytes]], name: str) -> None:
    first, second = (files[name] for files in made)
    assert found(first) == []
    assert b"last.safetensors" in first and b"CC0" in first
    assert first == second


def test_the_exporter_itself_writes_source_lines() -> None:
    """Else the test above could not fail."""
    model = trained_model(Path("/home/jane") / FOLDER).eval()
    with torch.no_grad():
        proto = build_graph(model, ExportSpec())
    content = proto.SerializeToString()
    assert {b".py", b"site-packages", b"segzoo/models"} <= set(found(content))
    strip_origin(proto)
    assert found(proto.SerializeToString()) == []
    assert [node.op_type for node in proto.graph.node]
    assert FOLDER in str(model.spec.info)


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("runs/second/last.safetensors", "last.safetensors"),
        ("/home/jane/best.pth", "best.pth"),
        (r"C:\Users\jane\best.pt", "best.pt"),
        ("~/runs/second/", "second"),
        ("runs/second", "second"),
        (r"runs\second\last", "last"),
        ("clients/acme/x.SAFETENSORS", "x.SAFETENSORS"),
        ("clients/acme/x.caffemodel", "x.caffemodel"),
        ("file:///home/jane/x.pth", "x.pth"),
        ("https://jane:s3cret@x.org/a/b.pth?token=s3cret", "https://x.org/a/b.pth"),
        ("https://[jane/x.pth", "https"),
        ("../second", "second"),
        ("last.safetensors", "last.safetensors"),
        ("imagenet", "imagenet"),
        ("resnet101.a1_in1k", "resnet101.a1_in1k"),
        ("unet/mobilenetv4_conv_small/camvid", "unet/mobilenetv4_conv_small/camvid"),
        ("hf://jane/unet@main/a.safetensors", "hf://jane/unet@main/a.safetensors"),
        (f"https://x.org/a/b.pth#sha256={DIGITS}", f"https://x.org/a/b.pth#sha256={DIGITS}"),
    ],
)
def test_a_portable_recipe_names_files_without_folders(source: str, kept: str) -> None:
    spec = segzoo.create("unet", "test_resnet", num_classes=2).spec
    recipe = {"data": {"name": "voc", "root": "/data/VOC"}, "model": {"init_from": source, "encoder_weights": None}}
    portable = spec.replace(info={"recipe": recipe}).portable().info["recipe"]
    assert portable["model"] == {"init_from": kept, "encoder_weights": None}
    assert portable["data"] == {"name": "voc", "root": "data/voc"}
    assert recipe["model"]["init_from"] == source


@pytest.mark.parametrize("recipe", ["https://x.org/recipe", None, {}, {"data": None, "model": 3}])
def test_other_recipes_stay_as_they_are(recipe: object) -> None:
    spec = segzoo.create("unet", "test_resnet", num_classes=2).spec.replace(info={"recipe": recipe, "a": 1})
    assert spec.portable() == spec and isinstance(spec, ModelSpec)


def test_the_models_that_a_model_started_from_name_no_folders_either() -> None:
    trained = trained_model(Path("/home/jane") / FOLDER)
    once = with_classes(trained, num_classes=5, classes=None).with_info(recipe=trained.spec.info["recipe"])
    twice = with_classes(once, num_classes=4, classes=None)
    assert FOLDER in str(twice.spec.info["started_from"]["started_from"])
    assert FOLDER not in str(twice.spec.portable().info)


def test_encoders_and_settings_name_no_folders_either() -> None:
    spec = trained_model(Path("/home/jane") / FOLDER).spec
    options = {"textures": [f"/home/jane/{FOLDER}/x.png", r"C:\jane\y.png", "runs/first/z.png"], "of": "ce and/or dice"}
    settings = {"loss": {"options": options}, "note": "half/half", "model": {"object": "unet of jane, 2 classes"}}
    portable = spec.replace(info={"settings": settings, "encoder_from": spec.info}).portable().info
    assert portable["settings"]["loss"]["options"] == {
        "textures": ["x.png", "y.png", "z.png"],
        "of": "ce and/or dice",
    }
    assert {**portable["settings"], "loss": 0} == {**settings, "loss": 0}
    assert portable["encoder_from"]["recipe"]["data"]["root"] == "data/folder"


def test_a_model_that_is_trained_again_and_again_keeps_16_generations() -> None:
    spec = trained_model(Path("/home/jane") / FOLDER).spec
    for night in range(40):
        spec = spec.replace(info={"night": night, **spec.info}).restarted()
    chain, info = [], spec.info
    while "started_from" in info:
        info = info["started_from"]
        chain.append(info)
    assert len(chain) == 16


@pytest.mark.parametrize("name", ["/home/jane/secret", {"a": "/home/jane"}, None, ""])
def test_a_strange_name_of_the_data_is_no_folder(name: object) -> None:
    spec = segzoo.create("unet", "test_resnet", num_classes=2).spec
    portable = spec.replace(info={"recipe": {"data": {"name": name, "root": "/home/jane/x"}}}).portable()
    assert portable.info["recipe"]["data"]["root"] == "data/folder"
