"""Adds an output to an exported graph without the onnx package: a few bytes after the file's own.

An .onnx file is one protobuf message, ModelProto. Parsers merge messages that follow each other: repeated fields are
concatenated. So a ModelProto whose graph holds nothing but one `output`, appended to a file, adds that output. Numbers
of fields: onnx.proto, ModelProto.graph = 7, GraphProto.output = 12, ValueInfoProto.name = 1.
"""


def with_output(model: bytes, name: str) -> bytes:
    """The bytes of a model with one more graph output.

    Args:
        model: the bytes of an .onnx file.
        name: a value that a node of the graph computes; onnxruntime infers its type and refuses unknown names.
    """
    return model + _field(7, _field(12, _field(1, name.encode())))


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field, protobuf's wire type 2."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits per byte, the lowest first; the top bit of a byte says that another follows."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
