"""Writes .caffemodel files byte by byte, following protobuf's description of its wire format, and prototxt files.

It uses no protobuf library and nothing of segzoo, so that segzoo's reader is not tested against itself.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

V1_TYPES = {"Convolution": 4, "Pooling": 17, "ReLU": 18, "Deconvolution": 39, "BN": 43}
"""Numbers from caffe.proto; BN's is from DeconvNet's fork of Caffe."""

LayerFormat = Literal["v1", "v2"]
"""V1LayerParameter or LayerParameter."""


@dataclass(frozen=True)
class Blob:
    """An array, and how to write it."""

    values: np.ndarray
    old_shape: bool = False
    """Write num, channels, height and width, for an array with four axes, instead of a BlobShape."""
    packed: bool = True


@dataclass(frozen=True)
class Layer:
    name: str
    type: str
    blobs: Sequence[Blob] = ()


def varint(value: int) -> bytes:
    out = bytearray()
    value &= 2**64 - 1
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def content(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def fixed(field: int, value: float, double: bool) -> bytes:
    return varint(field << 3 | (1 if double else 5)) + struct.pack("<d" if double else "<f", value)


def blob(it: Blob) -> bytes:
    double = it.values.dtype == np.float64
    field = 8 if double else 5
    flat = it.values.ravel()
    if it.packed:
        data = content(field, flat.astype("<f8" if double else "<f4").tobytes())
    else:
        data = b"".join(fixed(field, float(value), double) for value in flat)
    if it.old_shape:
        return b"".join(number(axis, size) for axis, size in enumerate(it.values.shape, 1)) + data
    return data + content(7, content(1, b"".join(map(varint, it.values.shape))))


def layer(it: Layer, form: LayerFormat) -> bytes:
    blobs = [blob(each) for each in it.blobs]
    if form == "v1":
        head = [content(2, b"below"), content(3, b"above"), content(4, it.name.encode()), number(5, V1_TYPES[it.type])]
        return content(2, b"".join([*head, *(content(6, each) for each in blobs), fixed(7, 2.0, False)]))
    head = [content(1, it.name.encode()), content(2, it.type.encode()), content(3, b"below"), number(10, 1)]
    return content(100, b"".join([*head, *(content(7, each) for each in blobs), content(106, number(1, 64))]))


def caffemodel(layers: Iterable[Layer], form: LayerFormat, name: str = "net") -> bytes:
    """A NetParameter with fields before, between and after the layers that a reader of weights must skip."""
    dims = b"".join(number(4, size) for size in (1, 3, 8, 8))
    head = content(1, name.encode()) + content(3, b"data") + dims
    return head + b"".join(layer(it, form) for it in layers) + number(5, 0)


def prototxt(layers: Iterable[tuple[str, str, str, str]], height: int, width: int) -> str:
    """A V2 network in text, from (name, type, bottoms, parameters). The only top of a layer has its name."""
    lines = [f'name: "net" input: "data" input_dim: 1 input_dim: 3 input_dim: {height} input_dim: {width}']
    for name, layer_type, bottoms, parameters in layers:
        below = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
        lines.append(f'layer {{ name: "{name}" type: "{layer_type}" {below} top: "{name}" {parameters} }}')
    return "\n".join(lines)
