"""segzoo's checkpoint files: what is written is read, and every other file is rejected with an explanation."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from segzoo.classes import ClassSet
from segzoo.errors import CheckpointError
from segzoo.spec import FORMAT_VERSION, ModelSpec
from segzoo.weights import checkpoint

TENSORS = {"head.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "head.bias": torch.tensor([0.5, -1.0])}
SPEC = ModelSpec(
    decoder="unet",
    encoder="test_resnet",
    classes=ClassSet(("sky", "Größe"), ((0, 0, 0), (1, 2, 3)), ignore_index=255),
    options={"upsample": "bilinear", "decoder_channels": [8, 4]},
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    output_stride=16,
    size_divisibility=32,
    info={"license": "MIT", "metrics": {"mean_iou": 0.61}},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    checkpoint.write(tmp_path / "model.safetensors", TENSORS, SPEC)
    return tmp_path / "model.safetensors"


def pairs(path: Path) -> dict[str, str]:
    """The string pairs in the header."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def change(path: Path, drop: tuple[str, ...] = (), **changes: Any) -> None:
    """Removes and changes fields of the record; values are written as JSON."""
    header = pairs(path) | {f"segzoo.{key}": json.dumps(value) for key, value in changes.items()}
    save_file(TENSORS, path, {key: value for key, value in header.items() if key.removeprefix("segzoo.") not in drop})


def test_spec_and_tensors_are_read_as_written(path: Path) -> None:
    spec, tensors = checkpoint.read(path)
    assert spec == checkpoint.read_spec(path) == SPEC
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_the_header_holds_the_pairs_of_to_metadata_as_an_onnx_file_does(path: Path) -> None:
    assert pairs(path) == SPEC.to_metadata()
    assert ModelSpec.from_metadata(pairs(path)) == SPEC
    assert pairs(path)["segzoo.decoder"] == '"unet"'


def test_an_existing_file_is_replaced(path: Path) -> None:
    checkpoint.write(path, {"head.bias": torch.zeros(1)}, SPEC.replace(decoder="fcn"))
    spec, tensors = checkpoint.read(path)
    assert (spec.decoder, list(tensors)) == ("fcn", ["head.bias"])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no folder .*absent\. Create it first"):
        checkpoint.write(tmp_path / "absent" / "model.safetensors", TENSORS, SPEC)


def test_only_kernels_are_halved() -> None:
    halved = checkpoint.halved(TENSORS | {"steps": torch.tensor([[1, 2]])})
    assert {name: tensor.dtype for name, tensor in halved.items()} == {
        "head.weight": torch.float16,
        "head.bias": torch.float32,
        "steps": torch.int64,
    }
    with pytest.raises(CheckpointError, match=r"head\.weight holds values beyond float16's 65504"):
        checkpoint.halved({"head.weight": torch.full((1, 1), 1e5)})


# Files that are rejected, by `read` and `read_spec` alike

readers = pytest.mark.parametrize("reader", [checkpoint.read, checkpoint.read_spec])


@readers
def test_a_missing_file(reader, tmp_path: Path) -> None:
    for absent in (tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="No file"):
            reader(absent)


@readers
def test_an_onnx_file_names_what_runs_it(reader, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    with pytest.raises(CheckpointError, match=r"exported graph\. Run it with segzoo\.Predictor\("):
        reader(tmp_path / "model.onnx")


@readers
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".caffemodel"])
def test_another_librarys_file_names_convert(reader, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(TENSORS, path)
    with pytest.raises(CheckpointError, match=r"not written by segzoo\.save.*segzoo\.convert\(.*encoder_weights="):
        reader(path)


@readers
def test_a_truncated_file(reader, path: Path) -> None:
    content = path.read_bytes()
    for length in (4, 8, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"is not a complete \.safetensors file .*compare its sha256"):
            reader(path)


@readers
@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt", "author": "someone"}])
def test_weights_without_a_record(reader, metadata: dict[str, str] | None, tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "weights.safetensors", metadata)
    with pytest.raises(CheckpointError, match=r"segzoo\.save did not write it\. segzoo\.convert"):
        reader(tmp_path / "weights.safetensors")


@readers
def test_a_newer_format(reader, path: Path) -> None:
    change(path, format_version=FORMAT_VERSION + 1)
    with pytest.raises(
        CheckpointError, match=rf"newer than this segzoo.* version {FORMAT_VERSION + 1}.* Update segzoo"
    ):
        reader(path)


@readers
def test_a_newer_format_without_todays_fields(reader, path: Path) -> None:
    change(path, drop=("decoder", "mean"), format_version=FORMAT_VERSION + 1, options=3)
    with pytest.raises(CheckpointError, match="Update segzoo"):
        reader(path)


@readers
def test_all_missing_and_invalid_fields_are_named(reader, path: Path) -> None:
    change(path, drop=("encoder", "std", "format_version"), options=3, in_channels="many", mean=[0.5, "a", 0.5])
    with pytest.raises(CheckpointError, match=r"The record in .*model\.safetensors is damaged") as caught:
        reader(path)
    message = str(caught.value)
    for field in ("encoder", "std", "format_version"):
        assert f"{field} is missing" in message
    for field in ("options", "in_channels", "mean"):
        assert f"{field} must be a" in message
    assert "decoder" not in message


@readers
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "detection"}, "task must be"),
        ({"input_dtype": "int4"}, "input_dtype must be"),
        ({"channel_order": ["RGB"]}, "channel_order must be"),
        ({"mean": [0.5], "std": [0.5]}, "mean and std must be 3"),
        ({"std": [0.2, 0.2, 0]}, "std must be above 0"),
        ({"mean": [float("nan")] * 3}, "finite"),
        ({"classes": {"names": ["a"]}}, "class set"),
        ({"classes": {"names": [], "palette": []}}, "class set"),
    ],
    ids=lambda value: json.dumps(value),
)
def test_a_damaged_record(reader, changes: dict[str, Any], message: str, path: Path) -> None:
    change(path, **changes)
    with pytest.raises(CheckpointError, match=f"(?s)The record in .* is damaged.*{message}"):
        reader(path)


@readers
@pytest.mark.parametrize("text", ["", "unet", "{", "[" * 100_000])
def test_a_record_that_is_not_json(reader, text: str, path: Path) -> None:
    save_file(TENSORS, path, pairs(path) | {"segzoo.decoder": text})
    with pytest.raises(CheckpointError, match=r"The record in .* is damaged.*segzoo\.decoder is not JSON"):
        reader(path)


@readers
@pytest.mark.parametrize("suffix", [".trt", ".tflite", ".ORT", ".mlmodel"])
def test_a_model_for_another_engine_names_export(reader, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"model{suffix}").write_bytes(b"\x08\x0c")
    with pytest.raises(CheckpointError, match=r"is a model for .*, which segzoo does not run\. Export.*\.onnx file"):
        reader(tmp_path / f"model{suffix}")
