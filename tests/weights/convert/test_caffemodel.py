"""The reader of Caffe's files, on files that are written byte by byte, whole and damaged."""

import tracemalloc
from pathlib import Path

import caffe_files as files
import numpy as np
import pytest
import torch
from caffe_files import Blob, Form, Layer
from hypothesis import given, settings
from hypothesis import strategies as st

from segzoo.errors import CheckpointError
from segzoo.weights.convert.caffemodel import V1_TYPES, CaffeNet, read_caffemodel

FORMS: tuple[Form, ...] = ("v1", "v2")
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


@pytest.mark.parametrize("form", FORMS)
def test_names_types_shapes_and_values_are_those_written(form: Form, folder: Path) -> None:
    net = read(folder, files.caffemodel(LAYERS, form, name="FCN"))
    assert net.name == "FCN"
    assert [layer.name for layer in net.layers] == [layer.name for layer in LAYERS]
    bn = "V1 type 43" if form == "v1" else "BN"
    assert [layer.type for layer in net.layers] == ["Convolution", "ReLU", "Deconvolution", "Convolution", bn]
    for layer, written in zip(net.layers, LAYERS, strict=True):
        for blob, it in zip(layer.blobs, written.blobs, strict=True):
            torch.testing.assert_close(blob, torch.from_numpy(it.values), rtol=0, atol=0)  # shape and dtype, too


def test_v1_types_have_the_numbers_of_caffe() -> None:
    assert len(V1_TYPES) == 40
    for name, number in files.V1_TYPES.items():
        assert number == 43 or V1_TYPES[number] == name


def test_values_in_two_packed_pieces_are_one_blob(folder: Path) -> None:
    half = BIAS.tobytes()[:4], BIAS.tobytes()[4:]
    blob = files.content(5, half[0]) + files.content(7, files.content(1, b"\x02")) + files.content(5, half[1])
    net = read(folder, files.content(100, files.content(1, b"fc") + files.content(7, blob)))
    torch.testing.assert_close(net.layers[0].blobs[0], torch.from_numpy(BIAS), rtol=0, atol=0)


def test_gradients_in_a_snapshot_are_passed_over(folder: Path) -> None:
    blob = files.blob(Blob(BIAS)) + files.content(6, BIAS.tobytes()) + files.content(9, bytes(16))
    net = read(folder, files.content(100, files.content(7, blob)))
    torch.testing.assert_close(net.layers[0].blobs[0], torch.from_numpy(BIAS), rtol=0, atol=0)


def blob_layer(blob: bytes) -> bytes:
    return files.content(100, files.content(1, b"fc6") + files.content(7, blob))


def shape(*dims: int) -> bytes:
    return files.content(7, files.content(1, b"".join(map(files.varint, dims))))


FOUR = files.content(5, bytes(16))
WRONG = {
    "empty": (b"", "it holds no layer"),
    "only a name": (files.content(1, b"net"), "it holds no layer"),
    "a prototxt": (b'name: "VGG"\nlayer {\n', "A .prototxt"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(88), "HDF5"),
    "a pickle": (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.", "not a whole .caffemodel"),
    "a shape too small": (blob_layer(shape(3) + FOUR), "blob 0 of layer 'fc6': its shape is 3, and there are 4 values"),
    "a shape too large": (blob_layer(shape(2**31, 2**31, 2) + FOUR), "there are 4 values"),
    "a shape that wraps round": (blob_layer(shape(2**32, 2**32, 4) + FOUR), "there are 4 values"),
    "a negative shape": (blob_layer(shape(-2, -2) + FOUR), "its shape is -2 x -2"),
    "an old shape that lies": (blob_layer(files.number(1, 5) + FOUR), "its shape is 5 x 0 x 0 x 0"),
    "no shape": (blob_layer(FOUR), "its shape is one value, and there are 4 values"),
    "33 axes": (blob_layer(shape(4, *[1] * 32) + FOUR), "its shape is"),
    "no values": (blob_layer(shape(0)), "its shape is 0"),
    "half a value": (blob_layer(shape(4) + files.content(5, bytes(15))), "no whole number of values"),
    "a name that is none": (files.content(100, files.content(1, b"\xff\xfe")), "is no name"),
    "V0": (files.content(2, files.content(1, files.content(1, b"conv1"))), "older than V1"),
    "both forms": (files.layer(LAYERS[0], "v1") + files.layer(LAYERS[0], "v2"), "layers of both V1 and V2"),
    "a million layers": (files.content(100, b"") * 1_000_000, "over 10,000 layers"),
    "an endless number": (b"\xa2\x06" + b"\xff" * 30, "a number of over ten bytes"),
    "groups in groups": (b"\xa3\x06" * 10_000, "begins before byte"),
    "groups in groups in a layer": (files.content(100, b"\xa3\x06" * 10_000), "not a whole .caffemodel"),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(content: bytes, message: str, folder: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(folder, content)
    assert message in str(caught.value)
    assert "sha256" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No file"):
        read_caffemodel(tmp_path / "there.caffemodel")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_caffemodel(tmp_path)


@pytest.mark.parametrize("length", [2**7, 2**20, 2**30, 2**31 - 1, 2**31, 2**40, 2**63, 2**64 - 1])
@pytest.mark.parametrize("tag", [1, 2, 3, 100])
def test_a_length_that_lies_takes_no_memory(length: int, tag: int, folder: Path) -> None:
    content = files.varint(tag << 3 | 2) + files.varint(length) + bytes(100)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=f"says that it has {length:,} bytes, and 100 are left"):
            read(folder, content)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


fuzzed = settings(max_examples=150, deadline=None, database=None, derandomize=True)
forms = st.sampled_from([files.caffemodel(LAYERS, form) for form in FORMS])


def check_loads_or_refuses(folder: Path, content: bytes) -> CaffeNet | None:
    """The memory of what was loaded is that of the bytes; anything else that is raised fails the test."""
    try:
        net = read(folder, content)
    except CheckpointError:
        return None
    assert sum(blob.nbytes for layer in net.layers for blob in layer.blobs) <= len(content)
    return net


@fuzzed
@given(content=forms, data=st.data())
def test_a_file_cut_off_is_refused_or_read_so_far(folder: Path, content: bytes, data: st.DataObject) -> None:
    whole = read(folder, content)
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    net = check_loads_or_refuses(folder, cut)
    if net is not None:
        assert len(net.layers) <= len(whole.layers)
        for layer, expected in zip(net.layers, whole.layers, strict=False):
            assert (layer.name, layer.type, len(layer.blobs)) == (expected.name, expected.type, len(expected.blobs))
            for blob, right in zip(layer.blobs, expected.blobs, strict=True):
                torch.testing.assert_close(blob, right, rtol=0, atol=0)


@fuzzed
@given(content=forms, data=st.data())
def test_flipped_bytes_are_refused_or_read(folder: Path, content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        damaged[place] ^= data.draw(st.integers(1, 255))
    check_loads_or_refuses(folder, bytes(damaged))


@fuzzed
@given(content=forms, data=st.data())
def test_numbers_that_lie_are_refused_or_read(folder: Path, content: bytes, data: st.DataObject) -> None:
    """Any number of up to ten bytes in the place of any byte: lengths, shapes, types and tags among them."""
    place = data.draw(st.integers(0, len(content) - 1))
    lie = files.varint(data.draw(st.integers(0, 2**64 - 1)))
    check_loads_or_refuses(folder, content[:place] + lie + content[place + 1 :])


@fuzzed
@given(content=st.binary(max_size=300))
def test_random_bytes_are_refused_or_read(folder: Path, content: bytes) -> None:
    check_loads_or_refuses(folder, content)
    check_loads_or_refuses(folder, files.content(100, content))
    check_loads_or_refuses(folder, files.content(2, content))
    check_loads_or_refuses(folder, blob_layer(content))
