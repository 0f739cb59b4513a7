"""The reader of Caffe's files, on valid and damaged files written byte by byte."""

import tracemalloc
from pathlib import Path
from typing import Literal

import caffe_files as files
import numpy as np
import pytest
import torch
from caffe_files import Blob, Layer
from hypothesis import given, settings
from hypothesis import strategies as st

from segzoo.errors import CheckpointError
from segzoo.weights.convert.caffemodel import V1_TYPES, CaffeNet, read_caffemodel

Version = Literal["v1", "v2"]
VERSIONS: tuple[Version, ...] = ("v1", "v2")
WEIGHT = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7
BIAS = np.array([-1.5, 1e-30], np.float32)
LAYERS = (
    Layer("conv1_1", "Convolution", (Blob(WEIGHT), Blob(BIAS))),
    Layer("relu1_1", "ReLU"),
    Layer("old", "Deconvolution", (Blob(WEIGHT, old_shape=True), Blob(BIAS.reshape(1, 1, 1, 2), old_shape=True))),
    Layer("fc6-deconv", "Convolution", (Blob(WEIGHT, packed=False), Blob(BIAS.astype(np.float64)))),
    Layer("norm", "BN", (Blob(BIAS.astype(np.float64) / 3, packed=False),)),
)


def read(folder: Path, content: bytes) -> CaffeNet:
    path = folder / "net.caffemodel"
    path.write_bytes(content)
    return read_caffemodel(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caffe")


@pytest.mark.parametrize("version", VERSIONS)
def test_names_types_shapes_and_values_are_read_as_written(version: Version, folder: Path) -> None:
    net = read(folder, files.caffemodel(LAYERS, version, name="FCN"))
    assert net.name == "FCN"
    assert [layer.name for layer in net.layers] == [layer.name for layer in LAYERS]
    bn = "V1 type 43" if version == "v1" else "BN"
    assert [layer.type for layer in net.layers] == ["Convolution", "ReLU", "Deconvolution", "Convolution", bn]
    for layer, written in zip(net.layers, LAYERS, strict=True):
        for blob, expected in zip(layer.blobs, written.blobs, strict=True):
            # Compares shape and dtype as well.
            torch.testing.assert_close(blob, torch.from_numpy(expected.values), rtol=0, atol=0)


def test_v1_types_have_caffes_numbers() -> None:
    assert len(V1_TYPES) == 40
    for name, number in files.V1_TYPES.items():
        assert number == 43 or V1_TYPES[number] == name


def test_values_packed_in_two_pieces_are_one_blob(folder: Path) -> None:
    half = BIAS.tobytes()[:4], BIAS.tobytes()[4:]
    blob = files.content(5, half[0]) + files.content(7, files.content(1, b"\x02")) + files.content(5, half[1])
    net = read(folder, files.content(100, files.content(1, b"fc") + files.content(7, blob)))
    torch.testing.assert_close(net.layers[0].blobs[0], torch.from_numpy(BIAS), rtol=0, atol=0)


def test_gradients_in_a_snapshot_are_skipped(folder: Path) -> None:
    blob = files.blob(Blob(BIAS)) + files.content(6, BIAS.tobytes()) + files.content(9, bytes(16))
    net = read(folder, files.content(100, files.content(7, blob)))
    torch.testing.assert_close(net.layers[0].blobs[0], torch.from_numpy(BIAS), rtol=0, atol=0)


def blob_layer(blob: bytes) -> bytes:
    return files.content(100, files.content(1, b"fc6") + files.content(7, blob))


def shape(*dims: int) -> bytes:
    return files.content(7, files.content(1, b"".join(map(files.varint, dims))))


FOUR = files.content(5, bytes(16))
DAMAGED = {
    "empty": (b"", "it has no layers"),
    "only a name": (files.content(1, b"net"), "it has no layers"),
    "a prototxt": (b'name: "VGG"\nlayer {\n', "A .prototxt"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(88), "HDF5"),
    "a pickle": (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.", "not a complete .caffemodel"),
    "a shape too small": (blob_layer(shape(3) + FOUR), "blob 0 of layer 'fc6': its shape is 3, and there are 4 values"),
    "a shape too large": (blob_layer(shape(2**31, 2**31, 2) + FOUR), "there are 4 values"),
    "a shape whose product overflows": (blob_layer(shape(2**32, 2**32, 4) + FOUR), "there are 4 values"),
    "a negative shape": (blob_layer(shape(-2, -2) + FOUR), "its shape is -2 x -2"),
    "a wrong legacy shape": (blob_layer(files.number(1, 5) + FOUR), "its shape is 5 x 0 x 0 x 0"),
    "no shape": (blob_layer(FOUR), "its shape is one value, and there are 4 values"),
    "33 axes": (blob_layer(shape(4, *[1] * 32) + FOUR), "its shape is"),
    "no values": (blob_layer(shape(0)), "its shape is 0"),
    "half a value": (blob_layer(shape(4) + files.content(5, bytes(15))), "not a whole number of values"),
    "an invalid name": (files.content(100, files.content(1, b"\xff\xfe")), "is not a valid name"),
    "V0": (files.content(2, files.content(1, files.content(1, b"conv1"))), "older than V1"),
    "both versions": (files.layer(LAYERS[0], "v1") + files.layer(LAYERS[0], "v2"), "layers of both V1 and V2"),
    "a million layers": (files.content(100, b"") * 1_000_000, "over 10,000 layers"),
    "an endless number": (b"\xa2\x06" + b"\xff" * 30, "a number of over ten bytes"),
    "groups in groups": (b"\xa3\x06" * 10_000, "no valid field before byte"),
    "groups in groups in a layer": (files.content(100, b"\xa3\x06" * 10_000), "not a complete .caffemodel"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_the_damage_is_described(content: bytes, message: str, folder: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(folder, content)
    assert message in str(caught.value)
    assert "sha256" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No file"):
        read_caffemodel(tmp_path / "absent.caffemodel")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_caffemodel(tmp_path)


@pytest.mark.parametrize("length", [2**7, 2**20, 2**30, 2**31 - 1, 2**31, 2**40, 2**63, 2**64 - 1])
@pytest.mark.parametrize("tag", [1, 2, 3, 100])
def test_a_wrong_length_allocates_no_memory(length: int, tag: int, folder: Path) -> None:
    content = files.varint(tag << 3 | 2) + files.varint(length) + bytes(100)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=f"claims {length:,} bytes, and 100 remain"):
            read(folder, content)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


fuzzed = settings(max_examples=150, deadline=None, database=None, derandomize=True)
contents = st.sampled_from([files.caffemodel(LAYERS, version) for version in VERSIONS])


def read_or_reject(folder: Path, content: bytes) -> CaffeNet | None:
    """The net, which needs no more memory than its bytes, or None after a CheckpointError; others fail the test."""
    try:
        net = read(folder, content)
    except CheckpointError:
        return None
    assert sum(blob.nbytes for layer in net.layers for blob in layer.blobs) <= len(content)
    return net


@fuzzed
@given(content=contents, data=st.data())
def test_a_truncated_file_is_rejected_or_read_up_to_there(folder: Path, content: bytes, data: st.DataObject) -> None:
    complete = read(folder, content)
    truncated = content[: data.draw(st.integers(0, len(content) - 1))]
    net = read_or_reject(folder, truncated)
    if net is not None:
        assert len(net.layers) <= len(complete.layers)
        for layer, expected in zip(net.layers, complete.layers, strict=False):
            assert (layer.name, layer.type, len(layer.blobs)) == (expected.name, expected.type, len(expected.blobs))
            for blob, expected_blob in zip(layer.blobs, expected.blobs, strict=True):
                torch.testing.assert_close(blob, expected_blob, rtol=0, atol=0)


@fuzzed
@given(content=contents, data=st.data())
def test_flipped_bytes_are_rejected_or_read(folder: Path, content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        damaged[position] ^= data.draw(st.integers(1, 255))
    read_or_reject(folder, bytes(damaged))


@fuzzed
@given(content=contents, data=st.data())
def test_wrong_numbers_are_rejected_or_read(folder: Path, content: bytes, data: st.DataObject) -> None:
    """Replaces any byte by any number of up to ten bytes, including lengths, shapes, types and tags."""
    position = data.draw(st.integers(0, len(content) - 1))
    number = files.varint(data.draw(st.integers(0, 2**64 - 1)))
    read_or_reject(folder, content[:position] + number + content[position + 1 :])


@fuzzed
@given(content=st.binary(max_size=300))
def test_random_bytes_are_rejected_or_read(folder: Path, content: bytes) -> None:
    read_or_reject(folder, content)
    read_or_reject(folder, files.content(100, content))
    read_or_reject(folder, files.content(2, content))
    read_or_reject(folder, blob_layer(content))
