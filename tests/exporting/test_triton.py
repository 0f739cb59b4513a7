"""`segzoo export --triton`: its files, parsed with the protobuf schema that Triton's client publishes."""

import re
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from export_cache import small_model
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2
from typer.testing import CliRunner

from segzoo.cli import app
from segzoo.errors import ExportError
from segzoo.exporting import triton
from segzoo.inference import Predictor
from segzoo.weights.onnx_file import OnnxGraph, read_graph

DataType = model_config_pb2.DataType


def parsed(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def values(entries) -> list[tuple[str, str, list[int], str]]:
    names = [getattr(entry, "label_filename", "") for entry in entries]
    return [(e.name, DataType.Name(e.data_type), list(e.dims), n) for e, n in zip(entries, names, strict=True)]


@pytest.fixture
def segzoo_(monkeypatch):
    """`segzoo WORDS`, in this process, with output to a pipe."""
    monkeypatch.delenv("COLUMNS", raising=False)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def quick(monkeypatch, export_cache):
    """An export that copies a file made before; `fails` makes the next one fail halfway."""
    exported = export_cache(small_model()).path
    state = SimpleNamespace(fails=False)
    verification = SimpleNamespace(cases=(), logits_difference=1e-7, pixel_agreement=1.0, unpooling=False)

    def export(model, path, **options):
        path.write_bytes(exported.read_bytes())
        if state.fails:
            raise ExportError("the verification failed")
        kept = {name: options[name] for name in ("opset", "precision")}
        return SimpleNamespace(path=path, size=5, seconds=0.1, verification=verification, quantization=None, **kept)

    monkeypatch.setattr("segzoo.exporting.export.export", export)
    return state


WORDS = ("export", "unet", "--encoder", "test_resnet", "--triton")


def test_the_repository_is_complete(segzoo_, quick, tmp_path):
    repository = tmp_path / "deep" / "models"
    done = segzoo_(*WORDS, repository)
    assert done.exit_code == 0, done.output
    folder = repository / "unet-test_resnet"
    assert [path.name for path in repository.iterdir()] == [folder.name]
    assert files(folder) == ["1/model.onnx", "config.pbtxt", "labels.txt"]
    config = parsed((folder / "config.pbtxt").read_text())
    assert (config.name, config.platform, config.max_batch_size) == (folder.name, "onnxruntime_onnx", 8)
    assert config.HasField("dynamic_batching")
    assert values(config.input) == [("image", "TYPE_UINT8", [-1, -1, 3], "")]
    assert values(config.output) == [("mask", "TYPE_UINT8", [-1, -1], "labels.txt")]
    session = Predictor(folder / "1" / "model.onnx", device="cpu")
    assert (folder / "labels.txt").read_text().splitlines() == list(session.classes.names)
    assert f"Wrote {folder}/" in done.stdout and "tritonserver --model-repository=" in done.stdout


def graph(folder: Path, inputs, outputs) -> OnnxGraph:
    value = helper.make_tensor_value_info
    node = helper.make_node("Identity", ["image"], ["mask"])
    onnx.save(
        helper.make_model(
            helper.make_graph([node], "g", [value(*args) for args in inputs], [value(*args) for args in outputs])
        ),
        folder / "g.onnx",
    )
    return read_graph(folder / "g.onnx")


DYNAMIC = ["batch", "height", "width"]


def test_every_output_of_the_file_is_listed(tmp_path):
    outputs = [
        ("mask", TensorProto.INT32, DYNAMIC),
        ("confidence", TensorProto.FLOAT, DYNAMIC),
        ("logits", TensorProto.FLOAT, ["batch", 300, "height", "width"]),
    ]
    config = parsed(triton.config(graph(tmp_path, [("image", TensorProto.UINT8, [*DYNAMIC, 4])], outputs), "a"))
    assert values(config.input) == [("image", "TYPE_UINT8", [-1, -1, 4], "")]
    assert values(config.output) == [
        ("mask", "TYPE_INT32", [-1, -1], "labels.txt"),
        ("confidence", "TYPE_FP32", [-1, -1], ""),
        ("logits", "TYPE_FP32", [300, -1, -1], ""),
    ]


def test_a_static_batch_size_turns_batching_off(tmp_path):
    inputs, outputs = [("image", TensorProto.FLOAT, [2, 3, 32, 64])], [("logits", TensorProto.FLOAT, [2, 5, 32, 64])]
    config = parsed(triton.config(graph(tmp_path, inputs, outputs), "a"))
    assert config.max_batch_size == 0 and not config.HasField("dynamic_batching")
    assert values(config.input) == [("image", "TYPE_FP32", [2, 3, 32, 64], "")]
    assert values(config.output) == [("logits", "TYPE_FP32", [2, 5, 32, 64], "")]


def test_a_failed_export_leaves_nothing(segzoo_, quick, tmp_path):
    quick.fails = True
    done = segzoo_(*WORDS, tmp_path / "models")
    assert (done.exit_code, "the verification failed" in done.stderr) == (1, True)
    assert not (tmp_path / "models").exists()


def test_an_existing_model_is_replaced_only_with_force(segzoo_, quick, tmp_path):
    words = (*WORDS, tmp_path, "--name", "street")
    assert segzoo_(*words).exit_code == 0
    labels = tmp_path / "street" / "labels.txt"
    labels.write_text("mine")
    done = segzoo_(*words)
    assert (done.exit_code, labels.read_text()) == (1, "mine")
    assert "street exists. Pass --force to replace it, or another name with --name." in done.stderr
    quick.fails = True
    assert (segzoo_(*words, "--force").exit_code, labels.read_text()) == (1, "mine")
    quick.fails = False
    assert segzoo_(*words, "--force").exit_code == 0
    assert labels.read_text() != "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["street"]


def test_other_versions_are_never_deleted(segzoo_, quick, tmp_path):
    (tmp_path / "street" / "2").mkdir(parents=True)
    done = segzoo_(*WORDS, tmp_path, "--name", "street", "--force")
    assert done.exit_code == 1
    assert "contains files that segzoo did not write, such as 2, and --force would delete them" in done.stderr
    assert (tmp_path / "street" / "2").is_dir()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--triton models -o a.onnx", 2, "Pass one of them"),
        ("--name street", 2, "--name needs --triton"),
        ("--triton models --name ../street", 1, "is not a valid model name"),
        ("--triton models --name .", 1, "is not a valid model name"),
        ("--triton file", 1, "file is a file. Name a folder"),
    ],
)
def test_wrong_options_are_refused(segzoo_, quick, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    done = segzoo_("export", "unet", "--encoder", "test_resnet", *words.split())
    assert done.exit_code == code
    assert message in re.sub(r"[\s\u2502]+", " ", done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
