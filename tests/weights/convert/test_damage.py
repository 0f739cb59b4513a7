"""Damaged and lying files: each is a CheckpointError or a whole model; no crash, no memory lost."""

import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import segzoo
from segzoo.errors import CheckpointError
from segzoo.weights.state_dict import read

NOT_RESET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return segzoo.save(segzoo.create("fcn32s", "test_resnet", 3), tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture(scope="module")
def pickled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pickled") / "weights.pth"
    torch.save({"a.weight": torch.randn(16, 3, 3, 3), "a.bias": torch.zeros(16)}, path)
    return path


def outcome(path: Path) -> None:
    """Loads, or is refused; anything else fails the test."""
    try:
        model = segzoo.load(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        return
    # A flip among the weights cannot be seen in the file; the model is whole and of the shapes it says.
    assert {tuple(t.shape) for t in model.state_dict().values()}
    assert not any(t.is_meta for t in model.state_dict().values())


@NOT_RESET
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_checkpoint_is_refused(share: float, saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError):
        segzoo.load(path)


@NOT_RESET
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bytes_in_the_header(flips: list[tuple[float, int]], saved: Path, tmp_path: Path) -> None:
    content = bytearray(saved.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for where, mask in flips:
        content[int(where * header)] ^= mask
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(content)
    outcome(path)


@NOT_RESET
@given(claim=st.integers(0, 2**64 - 1))
def test_a_header_that_lies_of_its_length(claim: int, saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    if claim == struct.unpack("<Q", content[:8])[0]:
        return
    path = tmp_path / "lying.safetensors"
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
FIELDS = (
    "decoder",
    "encoder",
    "num_classes",
    "in_channels",
    "output_stride",
    "options",
    "labels",
    "mean",
    "std",
    "info",
)


@NOT_RESET
@given(field=st.sampled_from(FIELDS), value=JSON)
def test_a_record_with_any_value_in_any_field(field: str, value: object, saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    assert f"segzoo.{field}" in header["__metadata__"]
    header["__metadata__"][f"segzoo.{field}"] = json.dumps(value)
    changed = json.dumps(header).encode()
    path = tmp_path / "changed.safetensors"
    path.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + length :])
    outcome(path)


@pytest.mark.parametrize("huge", [{"num_classes": 10**9}, {"in_channels": 10**9}, {"options": {"hidden": [7, 10**7]}}])
def test_a_record_that_asks_for_gigabytes(huge: dict[str, object], saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] |= {f"segzoo.{key}": json.dumps(value) for key, value in huge.items()}
    changed = json.dumps(header).encode()
    path = tmp_path / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + length :])
    with pytest.raises(CheckpointError):
        segzoo.load(path)


@NOT_RESET
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


@NOT_RESET
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_torch_file_is_refused(share: float, pickled: Path, tmp_path: Path) -> None:
    whole = pickled.read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError):
        read(path)
