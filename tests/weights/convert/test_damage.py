"""Damaged and manipulated files: loading raises CheckpointError or gives a complete model, with bounded memory."""

import dataclasses
import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import segzoo
from segzoo.errors import CheckpointError
from segzoo.spec import ModelSpec
from segzoo.weights.state_dict import read

# tmp_path is not reset between examples; each overwrites its file.
fuzzed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return segzoo.save(segzoo.create("fcn32s", "test_resnet", 3), tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture(scope="module")
def pickled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pickled") / "weights.pth"
    torch.save({"a.weight": torch.randn(16, 3, 3, 3), "a.bias": torch.zeros(16)}, path)
    return path


def load_or_reject(path: Path) -> None:
    """Loads the file, or expects a CheckpointError that names it; anything else fails the test."""
    try:
        model = segzoo.load(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        return
    # Flipped weights cannot be detected; the model is still complete, with the stated shapes.
    assert {tuple(t.shape) for t in model.state_dict().values()}
    assert not any(t.is_meta for t in model.state_dict().values())


@fuzzed
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_checkpoint_is_rejected(share: float, saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    path = tmp_path / "truncated.safetensors"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError):
        segzoo.load(path)


@fuzzed
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bytes_in_the_header(flips: list[tuple[float, int]], saved: Path, tmp_path: Path) -> None:
    content = bytearray(saved.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for position, mask in flips:
        content[int(position * header)] ^= mask
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(content)
    load_or_reject(path)


@fuzzed
@given(claim=st.integers(0, 2**64 - 1))
def test_a_header_with_a_wrong_length(claim: int, saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    if claim == struct.unpack("<Q", content[:8])[0]:
        return
    path = tmp_path / "wrong-length.safetensors"
    path.write_bytes(struct.pack("<Q", claim) + content[8:])
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            segzoo.load(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [field.name for field in dataclasses.fields(ModelSpec)]


def with_fields(content: bytes, **changes: Any) -> bytes:
    """A .safetensors file with other values in its record."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    pairs = {f"segzoo.{field}": json.dumps(value) for field, value in changes.items()}
    assert pairs.keys() <= header["__metadata__"].keys()
    header["__metadata__"] |= pairs
    changed = json.dumps(header).encode()
    return struct.pack("<Q", len(changed)) + changed + content[8 + length :]


@fuzzed
@given(field=st.sampled_from(FIELDS), value=JSON)
def test_a_record_with_any_value_in_any_field(field: str, value: object, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "changed.safetensors"
    path.write_bytes(with_fields(saved.read_bytes(), **{field: value}))
    load_or_reject(path)


@pytest.mark.parametrize(
    "huge",
    [
        {"classes": {"names": [f"class {index}" for index in range(10**5)], "palette": [[0, 0, 0]] * 10**5}},
        {"in_channels": 2**27, "mean": [], "std": []},
        {"size_divisibility": 2**40, "min_size": 2**40},
        {"in_channels": 10**9},
        {"in_channels": 10**5, "mean": [0.5] * 10**5, "std": [0.5] * 10**5},
        {"options": {"fc_head": [7, 10**7]}},
    ],
    ids=lambda huge: "-".join(huge),
)
def test_a_record_that_claims_gigabytes(huge: dict[str, object], saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    path.write_bytes(with_fields(saved.read_bytes(), **huge))
    with pytest.raises(CheckpointError):
        segzoo.load(path)


@fuzzed
@given(share=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_flipped_byte_in_a_torch_file(share: float, mask: int, pickled: Path, tmp_path: Path) -> None:
    content = bytearray(pickled.read_bytes())
    content[int(share * len(content))] ^= mask
    path = tmp_path / "flipped.pth"
    path.write_bytes(content)
    try:
        tensors = read(path)
    except CheckpointError:
        return
    assert all(np.prod(t.shape) * t.element_size() <= len(content) for t in tensors.values())


@fuzzed
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_torch_file_is_rejected(share: float, pickled: Path, tmp_path: Path) -> None:
    content = pickled.read_bytes()
    path = tmp_path / "truncated.pth"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError):
        read(path)
