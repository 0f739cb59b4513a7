"""Which word of `segzoo predict` is the model: nothing that was meant as one runs the model that ships instead."""

import dataclasses
import os
import shutil
import sys
import types
from pathlib import Path

import channels_backend
import numpy as np
import pytest
from PIL import Image

from segzoo.cli import files
from segzoo.inference import backends

MODELS_END = "Models end in .onnx or .safetensors"


@pytest.fixture
def engine(monkeypatch):
    """An engine that a plugin registered for .channels files, and one for .ort."""

    def open_channels(located, device, options):
        return dataclasses.replace(channels_backend.backend(located.path.read_text()), device_reason="On numpy.")

    monkeypatch.setitem(sys.modules, "numpy_engine", types.SimpleNamespace(open=open_channels))
    engine = backends.Engine("numpy", (".channels", ".ort"), "numpy_engine:open")
    monkeypatch.setitem(backends.ENGINES, "numpy", engine)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.pt", "model.pt was not written by segzoo.save."),
        ("model.PTH", "`segzoo convert model.PTH -o model.safetensors`"),
        (
            "model.ort",
            "model.ort is a model for ONNX Runtime's ORT format, which segzoo does not run. Export the model",
        ),
        ("model.trt", "model.trt is a model for TensorRT, which segzoo does not run."),
        ("model.tflite", "`segzoo export`, or in Python with segzoo.export, and pass the .onnx file."),
        ("notes.txt", f"notes.txt is neither a model nor an image nor a video. {MODELS_END}"),
        ("noise", "noise is neither a model nor an image nor a video."),
        ("empty", "The folder 'empty' holds no images that segzoo reads."),
        ("gone.pt", "There is no file gone.pt."),
        ("gone.trt", "There is no file gone.trt."),
        ("strret.onx", "There is no file or folder 'strret.onx'. Did you mean 'street.onnx'? Models end in .onnx"),
        (
            "photos/oen.jpg",
            "There is no file or folder 'photos/oen.jpg'. Did you mean 'photos/one.jpg'? Check the path.",
        ),
        ("streetonnx", "Unknown model or image 'streetonnx'. Did you mean 'street.onnx'?"),
        ("clip.mpg", "There is no file or folder 'clip.mpg'. Check the path."),
    ],
)
@pytest.mark.parametrize("with_image", [True, False], ids=["with an image", "alone"])
def test_a_word_that_is_no_input_is_an_error_before_a_model_loads(
    segzoo_, shipped, photos, tmp_path, monkeypatch, word, message, with_image
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("segzoo.inference.predictor.Predictor.__init__", None)
    (tmp_path / "empty").mkdir()
    for name in ("model.pt", "model.PTH", "model.ort", "model.trt", "model.tflite", "street.onnx"):
        (tmp_path / name).write_bytes(b"\x08\x0c")
    (tmp_path / "notes.txt").write_text("Dear diary, ")
    (tmp_path / "noise").write_bytes(np.random.default_rng(0).bytes(500))
    done = segzoo_("predict", word, *(["photos/one.jpg"] if with_image else []))
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.output
    assert message in done.stderr
    assert "ships with" not in done.stderr
    assert not (tmp_path / "masks").exists()


def test_without_a_model_that_ships_a_missing_image_is_still_missing(segzoo_, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("segzoo.cli.predict.default", lambda: None)
    assert "There is no file or folder 'foto.jpg'" in segzoo_("predict", "foto.jpg").stderr
    assert "No model ships with this segzoo" in segzoo_("predict", photos).stderr


@pytest.mark.parametrize("name", ["one.jpg", "scan", "scan.data", "one.jfif"])
def test_whatever_holds_an_image_is_an_input(segzoo_, shipped, photos, tmp_path, name):
    if name != "one.jpg":
        shutil.copy(photos / "one.jpg", photos / name)
    done = segzoo_("predict", photos / name, "-o", tmp_path / "masks", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert f"Using {shipped.key}, which ships with segzoo" in done.stderr


def test_a_model_of_another_program_among_the_images_is_an_error(segzoo_, shipped, photos, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"\x08")
    done = segzoo_("predict", photos / "one.jpg", tmp_path / "model.pt", "-o", tmp_path / "masks")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "model.pt was not written by segzoo.save." in done.stderr


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("suffix", ["channels", "ort"])
def test_a_file_that_the_engine_of_a_plugin_opens_is_a_model(segzoo_, photos, tmp_path, suffix):
    model = tmp_path / f"model.{suffix}"
    model.write_text("multiclass")
    done = segzoo_("predict", model, photos / "one.jpg", "-o", tmp_path / "masks")
    assert done.exit_code == 0, done.stderr
    assert "On numpy." in done.stderr
    with Image.open(photos / "one.jpg") as image, Image.open(tmp_path / "masks" / "one.png") as mask:
        assert np.array_equal(np.asarray(mask), np.asarray(image).argmax(2))
    missing = segzoo_("predict", tmp_path / f"modle.{suffix}", photos / "one.jpg")
    assert f"There is no file {tmp_path / f'modle.{suffix}'}. Did you mean '{model}'" in missing.stderr


@pytest.mark.parametrize(
    "words",
    ["evaluate {} .", "compare {} --root .", "bench {}", "info {}", "export {}", "push {} jane/street", "demo {}"],
)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.pt", "`segzoo convert model.pt -o model.safetensors`"),
        ("model.trt", "model.trt is a model for TensorRT, which segzoo does not run."),
        ("model.ort", "model.ort is a model for ONNX Runtime's ORT format"),
        ("gone.trt", "There is no file gone.trt."),
    ],
)
def test_other_commands_say_the_same(segzoo_, tmp_path, monkeypatch, words, name, message):
    monkeypatch.chdir(tmp_path)
    for existing in ("model.pt", "model.trt", "model.ort"):
        (tmp_path / existing).write_bytes(b"\x08\x0c")
    done = segzoo_(*words.format(name).split())
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1), done.output
    assert message in done.stderr


def test_a_model_is_no_image_for_the_demo(segzoo_, exported):
    done = segzoo_("demo", exported[1])
    assert done.stderr == f"Error: {exported[1]} is a model. `segzoo predict {exported[1]} IMAGE` runs it.\n"


@pytest.mark.usefixtures("engine")
def test_the_suffixes_of_engines_are_those_of_models():
    assert files.is_model("a.channels") and files.is_path("a.CHANNELS") and files.is_model("a.ort")
    assert not files.is_model("a.jpg") and not files.is_path("resnet50.a1_in1k") and not files.is_model("a.trt")


def test_links_that_form_a_loop_are_reported(segzoo_, exported, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    Path("loop.png").symlink_to("loop.png")
    done = segzoo_("predict", exported[1], ".", "-o", "masks", "--device", "cpu")
    assert done.exit_code == 1
    assert "Wrote 3 masks" in done.stdout and "loop.png" in done.stderr


def test_an_empty_word_is_wrong_usage(segzoo_, exported, monkeypatch, photos):
    monkeypatch.chdir(photos)
    for words in (("",), (exported[1], "")):
        done = segzoo_("predict", *words)
        assert done.exit_code == 2 and "is empty" in done.stderr
    assert not Path("masks").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_no_image_and_no_model(segzoo_, exported, photos, tmp_path):
    os.mkfifo(photos / "pipe.png")
    os.mkfifo(tmp_path / "pipe.onnx")
    done = segzoo_("predict", exported[1], photos, "-o", tmp_path / "masks", "--device", "cpu", "--page", "all")
    assert done.exit_code == 1 and "Wrote 3 masks" in done.stdout
    done = segzoo_("info", tmp_path / "pipe.onnx")
    assert done.exit_code == 1 and "is no regular file" in done.stderr
