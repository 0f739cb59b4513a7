"""Reads Caffe's weights file, a binary NetParameter, without Caffe.

Released files have one of two formats, and both are supported: V1 (`layers`, with numbers as types) and V2 (`layer`,
with names as types). Only the name, type and blobs of each layer are read. All other fields are skipped, so files from
the Caffe forks of SegNet, DeconvNet and DeepLab read like any other.

Source: BVLC Caffe, src/caffe/proto/caffe.proto (NetParameter, LayerParameter, V1LayerParameter, BlobProto).
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from torch import Tensor

from segzoo.errors import CheckpointError, quoted
from segzoo.weights.wire_format import Damaged, Message, decode, open_message

# fmt: off
V1_TYPES = (
    "None", "Accuracy", "BNLL", "Concat", "Convolution", "Data", "Dropout", "EuclideanLoss", "Flatten", "HDF5Data",
    "HDF5Output", "Im2col", "ImageData", "InfogainLoss", "InnerProduct", "LRN", "MultinomialLogisticLoss", "Pooling",
    "ReLU", "Sigmoid", "Softmax", "SoftmaxWithLoss", "Split", "TanH", "WindowData", "Eltwise", "Power",
    "SigmoidCrossEntropyLoss", "HingeLoss", "MemoryData", "ArgMax", "Threshold", "DummyData", "Slice", "MVN", "AbsVal",
    "Silence", "ContrastiveLoss", "Exp", "Deconvolution",
)
# fmt: on
"""V2's names of V1's layer types, 0 to 39. From 40 on, each fork of Caffe assigned the numbers differently."""

_NAME, _V1_LAYER, _V2_LAYER = 1, 2, 100  # fields of NetParameter
_MAX_LAYERS = 10_000  # an empty layer takes two bytes in the file and a hundred times as much memory
_MAX_AXES = 32  # Caffe's own limit


@dataclass(frozen=True)
class CaffeLayer:
    """A layer: its name, its type by V2's name ("Convolution"), and its blobs.

    Blobs have the shape stated in the file (four axes in old files) and its dtype, float32 or float64.
    """

    name: str
    type: str
    blobs: tuple[Tensor, ...]


@dataclass(frozen=True)
class CaffeNet:
    """The name of a network and all its layers, with or without weights, in the order of the file."""

    name: str
    layers: tuple[CaffeLayer, ...]


def read_caffemodel(path: str | Path) -> CaffeNet:
    """Reads a .caffemodel, V1 or V2. Such a file contains no code.

    The file is read layer by layer: 1 GB (DeconvNet) needs as much memory, and briefly twice the size of its largest
    layer. So protobuf's limit of 2 GiB per message applies to each layer; Caffe itself never writes a larger file.
    Every length in the file is checked against the bytes that remain.

    Raises:
        CheckpointError: the file is missing, truncated, damaged in a detectable way, or of another format. Truncation
            exactly between two layers leaves a valid file; `convert_caffe` then names the missing layers.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder. Pass the path of a .caffemodel file.")
    if not path.is_file():
        raise CheckpointError(f"No file {path}. Pass the path of a .caffemodel file.")
    try:
        with open_message(path) as message:
            return _read_net(message)
    except (Damaged, DecodeError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a complete .caffemodel ({error}). Copy or download it again, and compare its sha256. "
            "A .prototxt (text) and a .caffemodel.h5 (HDF5) are other formats."
        ) from error


def _read_net(net: Message) -> CaffeNet:
    name = ""
    layers: list[CaffeLayer] = []
    versions: set[int] = set()
    for field, value in net.messages():
        if field == _NAME:
            name = value.text()
        elif field in (_V1_LAYER, _V2_LAYER):
            versions.add(field)
            if len(layers) == _MAX_LAYERS or len(versions) > 1:
                raise Damaged("layers of both V1 and V2" if len(versions) > 1 else f"over {_MAX_LAYERS:,} layers")
            layers.append(_read_layer(value.content(), "V1Layer" if field == _V1_LAYER else "Layer"))
    if not layers:
        raise Damaged("it has no layers")
    return CaffeNet(name, tuple(layers))


def _read_layer(content: bytes, message: str) -> CaffeLayer:
    layer = _messages()[message].FromString(content)
    del content  # the message holds a copy, and this may be 400 MB
    name = decode(layer.name)
    if message == "V1Layer":
        if layer.HasField("v0"):
            raise Damaged("its layers are older than V1; Caffe's tool upgrade_net_proto_binary converts them")
        layer_type = V1_TYPES[layer.type] if 0 <= layer.type < len(V1_TYPES) else f"V1 type {layer.type}"
    else:
        layer_type = decode(layer.type)
    blobs = []
    for index, blob in enumerate(layer.blobs):
        try:
            blobs.append(_read_blob(blob))
        except Damaged as error:
            raise Damaged(f"blob {index} of layer {quoted(name)}: {error}") from None
    return CaffeLayer(name, layer_type, tuple(blobs))


def _read_blob(blob: Any) -> Tensor:
    values = _values(blob)
    # As in Caffe, the four legacy fields take precedence over `shape`.
    legacy = ("num", "channels", "height", "width")
    shape = [getattr(blob, axis) for axis in legacy] if any(map(blob.HasField, legacy)) else list(blob.shape.dim)
    if len(shape) > _MAX_AXES or min(shape, default=1) < 1 or math.prod(shape) != values.size:
        axes = " x ".join(map(str, shape[: _MAX_AXES + 1])) or "one value"
        raise Damaged(f"its shape is {axes}, and there are {values.size:,} values")
    return torch.from_numpy(values).reshape(shape)


def _values(blob: Any) -> np.ndarray[Any, Any]:
    """The values as a writable array in native byte order. As in Caffe, doubles take precedence over floats."""
    packed = b"".join(blob.double_data), b"".join(blob.data)
    if any(packed):
        dtype, content = ("<f8", packed[0]) if packed[0] else ("<f4", packed[1])
        if len(content) % np.dtype(dtype).itemsize:
            raise Damaged(f"{len(content):,} bytes are not a whole number of values")
        values = np.frombuffer(content, dtype)
        return values.astype(values.dtype.newbyteorder("="))
    # Unpacked, each value with its own tag: Caffe never writes this, but protobuf requires readers to accept it.
    single = _messages()["UnpackedBlob"].FromString(blob.SerializeToString())
    return np.fromiter(single.double_data, np.float64) if single.double_data else np.fromiter(single.data, np.float32)


@functools.cache
def _messages() -> dict[str, Any]:
    """The message classes, with only the fields that are read; protobuf skips all others.

    Packed values are declared as bytes, which have the same encoding; as numbers, Python would convert them one by one.
    """
    proto = descriptor_pb2.FieldDescriptorProto
    once, many = proto.LABEL_OPTIONAL, proto.LABEL_REPEATED
    fields: dict[str, list[tuple[int, str, Any, Any]]] = {
        "Shape": [(1, "dim", many, proto.TYPE_INT64)],
        "Blob": [
            (1, "num", once, proto.TYPE_INT64),
            (2, "channels", once, proto.TYPE_INT64),
            (3, "height", once, proto.TYPE_INT64),
            (4, "width", once, proto.TYPE_INT64),
            (5, "data", many, proto.TYPE_BYTES),
            (7, "shape", once, "Shape"),
            (8, "double_data", many, proto.TYPE_BYTES),
        ],
        "UnpackedBlob": [(5, "data", many, proto.TYPE_FLOAT), (8, "double_data", many, proto.TYPE_DOUBLE)],
        "Layer": [(1, "name", once, proto.TYPE_BYTES), (2, "type", once, proto.TYPE_BYTES), (7, "blobs", many, "Blob")],
        "V1Layer": [
            (1, "v0", once, proto.TYPE_BYTES),
            (4, "name", once, proto.TYPE_BYTES),
            (5, "type", once, proto.TYPE_INT32),
            (6, "blobs", many, "Blob"),
        ],
    }
    package = "segzoo.caffemodel"
    file = descriptor_pb2.FileDescriptorProto(name="segzoo/caffemodel.proto", package=package, syntax="proto2")
    for message, rows in fields.items():
        message_type = file.message_type.add(name=message)
        for number, name, label, type_ in rows:
            field = message_type.field.add(number=number, name=name, label=label)
            if isinstance(type_, str):
                field.type, field.type_name = proto.TYPE_MESSAGE, f".{package}.{type_}"
            else:
                field.type = type_
    pool = descriptor_pool.DescriptorPool()  # private, to avoid conflicts with another caffe.proto in this process
    pool.Add(file)
    return {
        message: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{message}"))
        for message in fields
    }
