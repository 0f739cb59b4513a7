"""A file that is no weights is called what it is, and torch's advice to load it unsafely never comes through."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import segzoo
from segzoo.errors import CheckpointError
from segzoo.weights.state_dict import read, unwrapped


def script(path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(path))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(nn.Linear(2, 2)))


def damaged(path: Path) -> None:
    torch.save({"a": torch.ones(9)}, path)
    path.write_bytes(path.read_bytes()[:200])


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12\n"
FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.touch(), r"is empty \(0 bytes\)"),
    "pointer": (lambda path: path.write_bytes(POINTER), "is a pointer of Git LFS.*git lfs pull"),
    "page": (lambda path: path.write_bytes(b"\n<!DOCTYPE html><html>Sign in"), "is an HTML page"),
    "script": (script, r"is a TorchScript program.*torch\.jit\.load"),
    "pickled": (pickled, "holds more than tensors"),
    "damaged": (damaged, "Cannot read .* as weights"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_called_what_it_is(name: str, tmp_path: Path) -> None:
    make, message = FILES[name]
    path = tmp_path / "weights.pt"
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        read(path)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("name", ["empty", "pointer", "page"])
def test_load_says_it_too(name: str, tmp_path: Path) -> None:
    make, message = FILES[name]
    path = tmp_path / "model.safetensors"
    make(path)
    for function in (segzoo.load, read):
        with pytest.raises(CheckpointError, match=message):
            function(path)


def test_an_archive_of_something_else_is_not_a_program(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"Cannot read .*a\.pt"):
        read(tmp_path / "a.pt")


@pytest.mark.parametrize("key", ["state_dict", "model", "net", "network", "weights"])
def test_tensors_are_found_under_the_usual_keys(key: str, tmp_path: Path) -> None:
    torch.save({key: {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "a.pt")
    assert list(read(tmp_path / "a.pt")) == ["a"]
    torch.save({"a": torch.ones(2), "mask_values": [0, 255]}, tmp_path / "b.pt")
    assert list(read(tmp_path / "b.pt")) == ["a"]


@pytest.mark.parametrize("wrapper", ["", "net.", "model._orig_mod.", "module.model.", "_orig_mod.module.", "a.b.c.d."])
def test_wrappers_of_any_depth_are_removed(wrapper: str) -> None:
    network = {"conv.weight": torch.ones(1), "head.bias": torch.ones(1)}
    tensors: dict[str, Tensor] = {wrapper + name: tensor for name, tensor in network.items()}
    if wrapper:
        tensors["criterion.weight"] = torch.ones(3)
    found = unwrapped(tensors, lambda bare: len(network.keys() & bare.keys()))
    assert found is not None
    assert found[0] == network
    assert found[1] == (["criterion.weight"] if wrapper else [])
    assert unwrapped(tensors, lambda bare: 0) is None


def test_compiled_parts_are_unwrapped_inside_too() -> None:
    found = unwrapped({"net.body._orig_mod.conv.weight": torch.ones(1)}, lambda bare: "body.conv.weight" in bare)
    assert found is not None and list(found[0]) == ["body.conv.weight"]
