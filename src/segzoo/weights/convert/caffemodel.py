"""Caffe's own file of weights, a binary NetParameter, read without Caffe.

Both forms that released files have are read: V1 (`layers`, whose types are numbers) and V2 (`layer`, whose types are
names). Of each layer only the name, the type and the blobs are looked at; whatever else a fork of Caffe has put there
is passed over, so that files of SegNet's, DeconvNet's and DeepLab's own Caffe read like any other.

Source: BVLC Caffe, src/caffe/proto/caffe.proto (NetParameter, LayerParameter, V1LayerParameter, BlobProto).
"""

import functools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from torch import Tensor

from segzoo.errors import CheckpointError

# fmt: off
V1_TYPES = (
    "None", "Accuracy", "BNLL", "Concat", "Convolution", "Data", "Dropout", "EuclideanLoss", "Flatten", "HDF5Data",
    "HDF5Output", "Im2col", "ImageData", "InfogainLoss", "InnerProduct", "LRN", "MultinomialLogisticLoss", "Pooling",
    "ReLU", "Sigmoid", "Softmax", "SoftmaxWithLoss", "Split", "TanH", "WindowData", "Eltwise", "Power",
    "SigmoidCrossEntropyLoss", "HingeLoss", "MemoryData", "ArgMax", "Threshold", "DummyData", "Slice", "MVN", "AbsVal",
    "Silence", "ContrastiveLoss", "Exp", "Deconvolution",
)
# fmt: on
"""V2's names of V1's layer types, 0 to 39. From 40 on each fork of Caffe gave the numbers a meaning of its own."""

_NAME, _V1_LAYER, _V2_LAYER = 1, 2, 100  # fields of NetParameter
_MOST_LAYERS = 10_000  # an empty layer takes two bytes of file and a hundred times that of memory
_MOST_AXES = 32  # Caffe's own limit
_MOST_BYTES = 2**31 - 1  # protobuf's limit for one message


@dataclass(frozen=True)
class CaffeLayer:
    """A layer: its name, its type as V2 names it ("Convolution"), its blobs.

    Blobs have the shape that the file says (four axes in old files), and are float32, or float64 where the file is.
    """

    name: str
    type: str
    blobs: tuple[Tensor, ...]


@dataclass(frozen=True)
class CaffeNet:
    """The name of a network and its layers, in the order of the file; those without weights are there too."""

    name: str
    layers: tuple[CaffeLayer, ...]


class _Broken(Exception):
    """What is wrong with the bytes, in words."""


def read_caffemodel(path: str | Path) -> CaffeNet:
    """Reads a .caffemodel, V1 or V2. Nothing in such a file is code, and nothing is run.

    The file is read layer by layer: one of 1 GB (DeconvNet) needs its size, and for a moment twice its largest layer.
    protobuf's limit of 2 GiB for a message thus holds for each layer; Caffe itself never writes a larger file.
    A length in the file is believed only as far as there are bytes.

    Raises:
        CheckpointError: no file, another format, cut off, or damaged where that can be seen. A file that is cut off
            just between two layers is whole as far as the format goes: `convert_caffe` names the layers it then misses.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder. Pass the path of a .caffemodel file.")
    if not path.is_file():
        raise CheckpointError(f"No file {path}. Pass the path of a .caffemodel file.")
    try:
        with path.open("rb") as file:
            return _read_net(file)
    except (_Broken, DecodeError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole .caffemodel ({error}). Copy or download it again, and compare its sha256. "
            "A .prototxt (text) and a .caffemodel.h5 (HDF5) are other formats."
        ) from error


def _read_net(file: BinaryIO) -> CaffeNet:
    name = b""
    layers: list[CaffeLayer] = []
    versions: set[int] = set()
    for field, length in _fields(file):
        if field == _NAME:
            name = file.read(length)
        elif field in (_V1_LAYER, _V2_LAYER):
            versions.add(field)
            if len(layers) == _MOST_LAYERS or len(versions) > 1:
                raise _Broken("layers of both V1 and V2" if len(versions) > 1 else f"over {_MOST_LAYERS:,} layers")
            layers.append(_read_layer(file.read(length), "V1Layer" if field == _V1_LAYER else "Layer"))
    if not layers:
        raise _Broken("it holds no layer")
    return CaffeNet(_text(name), tuple(layers))


def _fields(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Number and length of each field of bytes of the outermost message; the file stands at its first byte.

    protobuf would take the message whole, and hold a file of 1 GB three times over.
    """
    size = os.fstat(file.fileno()).st_size
    while file.tell() < size:
        field, wire_type = divmod(_varint(file), 8)
        if field == 0 or wire_type not in (0, 1, 2, 5):
            raise _Broken(f"no field of a network begins before byte {file.tell()}")
        if wire_type == 0:
            _varint(file)
            continue
        length = {1: 8, 5: 4}.get(wire_type) or _varint(file)
        left = size - file.tell()
        if length > min(left, _MOST_BYTES):
            raise _Broken(f"at byte {file.tell()} a field says that it has {length:,} bytes, and {left:,} are left")
        end = file.tell() + length
        if wire_type == 2:
            yield field, length
        file.seek(end)


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise _Broken("it ends in the middle of a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _Broken(f"byte {file.tell()} is in the middle of a number of over ten bytes")


def _read_layer(content: bytes, message: str) -> CaffeLayer:
    layer = _messages()[message].FromString(content)
    del content  # the message has copied it, and it may be 400 MB
    name = _text(layer.name)
    if message == "V1Layer":
        if layer.HasField("v0"):
            raise _Broken("its layers are older than V1; Caffe's tool upgrade_net_proto_binary makes them new")
        kind = V1_TYPES[layer.type] if 0 <= layer.type < len(V1_TYPES) else f"V1 type {layer.type}"
    else:
        kind = _text(layer.type)
    blobs = []
    for number, blob in enumerate(layer.blobs):
        try:
            blobs.append(_read_blob(blob))
        except _Broken as error:
            raise _Broken(f"blob {number} of layer {name!r}: {error}") from None
    return CaffeLayer(name, kind, tuple(blobs))


def _read_blob(blob: Any) -> Tensor:
    values = _values(blob)
    # Caffe's own order: the four old fields, where there are any, come before `shape`.
    old = ("num", "channels", "height", "width")
    shape = [getattr(blob, axis) for axis in old] if any(map(blob.HasField, old)) else list(blob.shape.dim)
    if len(shape) > _MOST_AXES or min(shape, default=1) < 1 or math.prod(shape) != values.size:
        axes = " x ".join(map(str, shape[: _MOST_AXES + 1])) or "one value"
        raise _Broken(f"its shape is {axes}, and there are {values.size:,} values")
    return torch.from_numpy(values).reshape(shape)


def _values(blob: Any) -> np.ndarray[Any, Any]:
    """Writable, in the machine's byte order. Doubles, where there are any, come before floats, as in Caffe."""
    packed = b"".join(blob.double_data), b"".join(blob.data)
    if any(packed):
        dtype, content = ("<f8", packed[0]) if packed[0] else ("<f4", packed[1])
        if len(content) % np.dtype(dtype).itemsize:
            raise _Broken(f"{len(content):,} bytes are no whole number of values")
        values = np.frombuffer(content, dtype)
        return values.astype(values.dtype.newbyteorder("="))
    # One by one, each with its tag: no Caffe writes so, but protobuf says that a reader takes both.
    single = _messages()["UnpackedBlob"].FromString(blob.SerializeToString())
    return np.fromiter(single.double_data, np.float64) if single.double_data else np.fromiter(single.data, np.float32)


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _Broken(f"{content[:40]!r} is no name") from None


@functools.cache
def _messages() -> dict[str, Any]:
    """The messages, with the few fields that are read; protobuf passes over all others.

    Packed values are declared as bytes, which look the same in a file: as numbers, Python would see them one by one.
    """
    kind = descriptor_pb2.FieldDescriptorProto
    once, many = kind.LABEL_OPTIONAL, kind.LABEL_REPEATED
    fields: dict[str, list[tuple[int, str, Any, Any]]] = {
        "Shape": [(1, "dim", many, kind.TYPE_INT64)],
        "Blob": [
            (1, "num", once, kind.TYPE_INT64),
            (2, "channels", once, kind.TYPE_INT64),
            (3, "height", once, kind.TYPE_INT64),
            (4, "width", once, kind.TYPE_INT64),
            (5, "data", many, kind.TYPE_BYTES),
            (7, "shape", once, "Shape"),
            (8, "double_data", many, kind.TYPE_BYTES),
        ],
        "UnpackedBlob": [(5, "data", many, kind.TYPE_FLOAT), (8, "double_data", many, kind.TYPE_DOUBLE)],
        "Layer": [(1, "name", once, kind.TYPE_BYTES), (2, "type", once, kind.TYPE_BYTES), (7, "blobs", many, "Blob")],
        "V1Layer": [
            (1, "v0", once, kind.TYPE_BYTES),
            (4, "name", once, kind.TYPE_BYTES),
            (5, "type", once, kind.TYPE_INT32),
            (6, "blobs", many, "Blob"),
        ],
    }
    package = "segzoo.caffemodel"
    file = descriptor_pb2.FileDescriptorProto(name="segzoo/caffemodel.proto", package=package, syntax="proto2")
    for message, rows in fields.items():
        described = file.message_type.add(name=message)
        for number, name, label, type_ in rows:
            field = described.field.add(number=number, name=name, label=label)
            if isinstance(type_, str):
                field.type, field.type_name = kind.TYPE_MESSAGE, f".{package}.{type_}"
            else:
                field.type = type_
    pool = descriptor_pool.DescriptorPool()  # a pool of our own: nothing of another Caffe in this process meets it
    pool.Add(file)
    return {
        message: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{message}"))
        for message in fields
    }
