"""A weights file is read or rejected with its path; code in it never runs."""

import copy
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import segzoo
from segzoo.errors import CheckpointError
from segzoo.models.encoders import create_encoder
from segzoo.weights.state_dict import read

TENSORS = {"a": torch.arange(3.0), "b.weight": torch.ones(2, 2)}


class Malicious:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.mkdir, (self.folder,)  # type: ignore[return-value]


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict"])
def test_torch_files_are_read(key: str | None, tmp_path: Path) -> None:
    torch.save(TENSORS if key is None else {"epoch": 3, key: TENSORS}, tmp_path / "w.pth")
    tensors = read(tmp_path / "w.pth")
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.safetensors")
    assert torch.equal(read(tmp_path / "w.safetensors")["a"], TENSORS["a"])


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "pickle"])
@pytest.mark.parametrize(
    "reader", [read, segzoo.convert, lambda path: create_encoder("test_resnet", weights=str(path))]
)
def test_code_in_a_file_is_rejected_and_not_run(reader, legacy: bool, tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "it ran"
    torch.save({**TENSORS, "c": Malicious(trace)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"Cannot read .*evil\.pth: it holds more than tensors .*could run code"):
        reader(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.is_dir()  # so the check above can fail


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 half a zip", b"\xff" * 64])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_garbage_is_rejected(content: bytes, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"w.{ending}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="Cannot read" if content else "is empty"):
        read(path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"a": torch.ones(1), "b": "text"}, torch.ones(3)])
def test_anything_but_a_dictionary_of_tensors_is_rejected(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="no dictionary of tensors"):
        read(tmp_path / "w.pth")


def test_an_archive_that_expands_is_rejected_before_it_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2**20)}, tmp_path / "plain.pth")
    packed, repeated = tmp_path / "packed.pth", tmp_path / "repeated.pth"
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for part in plain.infolist():
            archive.writestr(part.filename, plain.read(part))
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(repeated, "w") as archive:
        for part in plain.infolist():
            archive.writestr(part.filename, plain.read(part))
        large = max(archive.filelist, key=lambda part: part.file_size)
        for index in range(10):  # further entries of the directory that name the same bytes
            twin = copy.copy(large)
            twin.filename = f"{large.filename}{index}"
            archive.filelist.append(twin)
    for path in (packed, repeated):
        with pytest.raises(CheckpointError, match=r"bytes expand to \d[\d,]+, but torch\.save compresses nothing"):
            read(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No file"):
        read(tmp_path / "w.pth")


def test_a_shape_larger_than_its_storage_is_rejected(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(2**40)}, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").stat().st_size < 10_000
    with pytest.raises(CheckpointError, match=r"holds fewer bytes of a than its shape \(1099511627776,\)"):
        read(tmp_path / "w.pth")


def test_a_model_for_another_engine_is_not_taken_for_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    with pytest.raises(CheckpointError, match=r"is a model for TensorFlow Lite, which segzoo does not run"):
        read(tmp_path / "model.tflite")
