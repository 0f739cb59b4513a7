"""What an .onnx file says about its graph, read without the onnx package and without the weights.

Source: onnx/onnx.proto3 in github.com/onnx/onnx, for the numbers of fields and data types.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from segzoo.errors import CheckpointError
from segzoo.weights.wire_format import Damaged, Message, open_message

# Numbers of fields, by message.
_GRAPH, _OPSET_IMPORT, _METADATA_PROPS, _FUNCTIONS = 7, 8, 14, 25  # ModelProto
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12  # GraphProto
_DOMAIN, _VERSION = 1, 2  # OperatorSetIdProto
_KEY, _VALUE = 1, 2  # StringStringEntryProto
_FUNCTION_NODE = 7  # FunctionProto
_OP_TYPE = 4  # NodeProto
_DIMS = 1  # TensorProto
_NAME, _TYPE = 1, 2  # ValueInfoProto
_TENSOR_TYPE = 1  # TypeProto
_ELEM_TYPE, _SHAPE = 1, 2  # TypeProto.Tensor
_DIM = 1  # TensorShapeProto
_DIM_VALUE, _DIM_PARAM = 1, 2  # TensorShapeProto.Dimension

# fmt: off
_DTYPES = (
    "undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16",
    "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16",
)
# fmt: on
"""NumPy's names of TensorProto.DataType, by number."""

_MAX_AXES = 64
"""As in NumPy. The number of values is a product of so many factors."""


@dataclass(frozen=True)
class Value:
    """An input or an output of a graph.

    Attributes:
        dtype: as NumPy calls it: "uint8"; "undefined" if the value is no tensor.
        shape: for each axis its size, or the name of a size that is chosen at run time; "?" if it has neither.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class OnnxGraph:
    """The graph of an .onnx file.

    Attributes:
        metadata: `metadata_props` of the model.
        opsets: the version of each domain; "" is ONNX's own.
        operators: how many nodes have this operator, in the graph and in the model's functions.
        stored_values: number of values in all initializers.
    """

    metadata: Mapping[str, str]
    opsets: Mapping[str, int]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    operators: Counter[str]
    stored_values: int


def read_graph(path: Path) -> OnnxGraph:
    """Reads an .onnx file. Weights are skipped, so a large file takes no longer than a small one.

    Raises:
        CheckpointError: the file is not an .onnx file, or incomplete.
        OSError: the file cannot be opened.
    """
    with open_message(path) as model:
        try:
            return _read_model(model)
        except Damaged as error:
            raise CheckpointError(f"{path} is not a complete .onnx file ({error}). Copy or export it again.") from None


def _read_model(model: Message) -> OnnxGraph:
    metadata: dict[str, str] = {}
    opsets: dict[str, int] = {}
    values: dict[int, list[Value]] = {_INPUT: [], _OUTPUT: []}
    operators: Counter[str] = Counter()
    has_nodes = False
    stored_values = 0
    for field, message in model.messages():
        if field == _OPSET_IMPORT:
            domain, version = _read_opset(message)
            opsets[domain] = version
        elif field == _METADATA_PROPS:
            texts = _texts(message, _KEY, _VALUE)
            metadata[texts[_KEY]] = texts[_VALUE]
        elif field == _FUNCTIONS:
            nodes = (part for number, part in message.messages() if number == _FUNCTION_NODE)
            operators.update(_texts(node, _OP_TYPE)[_OP_TYPE] for node in nodes)
        elif field == _GRAPH:  # a message may be written in several pieces
            for number, part in message.messages():
                if number == _NODE:
                    has_nodes = True
                    operators[_texts(part, _OP_TYPE)[_OP_TYPE]] += 1
                elif number == _INITIALIZER:
                    stored_values += prod(_dims(part))
                elif number in values:
                    values[number].append(_read_value(part))
    if not has_nodes:
        raise Damaged("it contains no graph")
    return OnnxGraph(metadata, opsets, tuple(values[_INPUT]), tuple(values[_OUTPUT]), operators, stored_values)


def _texts(message: Message, *numbers: int) -> dict[int, str]:
    """The texts of these fields of a message; "" for those that it lacks."""
    texts = dict.fromkeys(numbers, "")
    for number, value in message.messages():
        if number in texts:
            texts[number] = value.text()
    return texts


def _read_opset(opset: Message) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in opset.fields():
        if number == _DOMAIN and isinstance(value, Message):
            domain = value.text()
        elif number == _VERSION and isinstance(value, int):
            version = value
    return domain, version


def _dims(tensor: Message) -> list[int]:
    """The shape of an initializer; its values are skipped."""
    dims: list[int] = []
    for number, value in tensor.fields():
        if number == _DIMS:  # packed or not, as protobuf allows
            for size in (value,) if isinstance(value, int) else value.numbers():
                _append(dims, size)
    return dims


def _read_value(value: Message) -> Value:
    name, dtype = "", 0
    shape: list[int | str] = []
    for number, part in value.messages():
        if number == _NAME:
            name = part.text()
        elif number == _TYPE:
            for kind, tensor in part.messages():
                if kind == _TENSOR_TYPE:
                    dtype, shape = _read_tensor_type(tensor)
    return Value(name, _DTYPES[dtype] if dtype < len(_DTYPES) else f"type {dtype}", tuple(shape))


def _read_tensor_type(tensor: Message) -> tuple[int, list[int | str]]:
    dtype = 0
    shape: list[int | str] = []
    for number, value in tensor.fields():
        if number == _ELEM_TYPE and isinstance(value, int):
            dtype = value
        elif number == _SHAPE and isinstance(value, Message):
            for part, axis in value.messages():
                if part == _DIM:
                    _append(shape, _read_axis(axis))
    return dtype, shape


def _read_axis(axis: Message) -> int | str:
    size: int | str = "?"
    for number, value in axis.fields():
        if number == _DIM_VALUE and isinstance(value, int):
            size = value
        elif number == _DIM_PARAM and isinstance(value, Message):
            size = value.text() or "?"
    return size


def _append(shape: list[Any], size: int | str) -> None:
    if len(shape) == _MAX_AXES:
        raise Damaged(f"a tensor has over {_MAX_AXES} axes")
    if isinstance(size, int) and size >= 2**63:  # negative numbers are written like this
        raise Damaged("a tensor has a negative size")
    shape.append(size)
