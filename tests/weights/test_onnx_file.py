"""The reader of .onnx files gives what the onnx package gives, reads no weights, and survives damage."""

import math
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from caffe_files import content, number, varint
from export_cache import ExportCache, small_model, small_paper
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from segzoo.errors import CheckpointError
from segzoo.weights.onnx_file import OnnxGraph, Value, read_graph

PHOTOS = [np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8) for _ in range(2)]
EXPORTS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "image": (small_model, {}),
    "every output": (small_model, {"confidence": True, "logits": True}),
    "tensor": (small_model, {"input": "tensor"}),
    "static": (small_model, {"static_shape": (2, 64, 96)}),
    "fp16": (small_model, {"precision": "fp16"}),
    "int8": (small_model, {"precision": "int8", "calibration": PHOTOS, "min_agreement": 0}),
    "unpooling": (lambda: small_model("segnet"), {}),
    "paper": (lambda: small_paper("paper/conv_deconv"), {}),
}


def as_onnx_reads_it(path: Path) -> OnnxGraph:
    model = onnx.load(path, load_external_data=False)
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    return OnnxGraph(
        {pair.key: pair.value for pair in model.metadata_props},
        {entry.domain: entry.version for entry in model.opset_import},
        tuple(map(as_value, model.graph.input)),
        tuple(map(as_value, model.graph.output)),
        Counter(node.op_type for node in nodes),
        sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
    )


def as_value(value: onnx.ValueInfoProto) -> Value:
    tensor = value.type.tensor_type
    axes = [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in tensor.shape.dim]
    return Value(value.name, str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)), tuple(axes))


@pytest.mark.parametrize("name", EXPORTS)
def test_an_exported_file_is_read_as_onnx_reads_it(name: str, export_cache: ExportCache) -> None:
    make, options = EXPORTS[name]
    path = export_cache(make(), **options).path
    graph = read_graph(path)
    assert graph == as_onnx_reads_it(path)
    assert graph.stored_values > 1000 and graph.operators["Conv"] > 1 and "segzoo.classes" in graph.metadata


def written(path: Path, *initializers: TensorProto, **changes: Any) -> Path:
    """A small file of another library."""
    shape = changes.get("shape", ["batch", None, 3])
    graph = helper.make_graph(
        [helper.make_node("Cast", ["image"], ["mask"], to=TensorProto.UINT8)],
        "g",
        [helper.make_tensor_value_info("image", changes.get("dtype", TensorProto.FLOAT), shape)],
        [helper.make_tensor_value_info("mask", TensorProto.UINT8, [])],
        initializer=initializers,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 3)]
    functions = changes.get("functions", [])
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10), path)
    return path


def test_nodes_of_functions_are_counted(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Cast", ["y"], ["z"], to=TensorProto.FLOAT)]
    function = helper.make_function("own", "F", ["x"], ["z"], nodes, [helper.make_opsetid("", 18)])
    path = written(tmp_path / "a.onnx", functions=[function])
    assert read_graph(path) == as_onnx_reads_it(path)
    assert read_graph(path).operators == {"Cast": 2, "Relu": 1}
    assert read_graph(path).opsets == {"": 18, "own": 3}


@pytest.mark.parametrize("dtype", [t for t in TensorProto.DataType.values() if 0 < t <= 16 and t != TensorProto.STRING])
def test_types_have_numpys_names(dtype: int, tmp_path: Path) -> None:
    path = written(tmp_path / "a.onnx", dtype=dtype)
    if dtype == TensorProto.BFLOAT16:  # numpy has none, and older versions of onnx name float32 instead
        assert read_graph(path).inputs[0].dtype == "bfloat16"
    else:
        assert read_graph(path) == as_onnx_reads_it(path)


def test_other_types_have_a_number(tmp_path: Path) -> None:
    assert read_graph(written(tmp_path / "a.onnx", dtype=TensorProto.FLOAT8E5M2)).inputs[0].dtype == "type 19"
    assert read_graph(written(tmp_path / "b.onnx", dtype=TensorProto.UNDEFINED)).inputs[0].dtype == "undefined"


def test_values_are_counted_however_they_are_stored(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    external = TensorProto(name="e", dims=[5, 7], data_type=1, data_location=TensorProto.EXTERNAL)
    external.external_data.add(key="location", value="missing.bin")
    tensors = [
        onnx.numpy_helper.from_array(values, "raw"),
        helper.make_tensor("list", TensorProto.FLOAT, [24], values.ravel()),
        helper.make_tensor("scalar", TensorProto.INT64, [], [3]),
        helper.make_tensor("none", TensorProto.INT64, [0, 4], []),
        external,
    ]
    path = written(tmp_path / "a.onnx", *tensors)
    assert read_graph(path) == as_onnx_reads_it(path)
    assert read_graph(path).stored_values == 24 + 24 + 1 + 0 + 35


NODE = content(1, content(4, b"Relu"))
"""A graph of one node."""


def test_shapes_may_be_packed_and_a_graph_in_pieces(tmp_path: Path) -> None:
    packed = content(5, content(1, varint(300) + varint(2)))
    path = tmp_path / "a.onnx"
    path.write_bytes(content(7, NODE + packed) + content(7, NODE + packed))
    graph = read_graph(path)
    assert graph == as_onnx_reads_it(path)
    assert graph.stored_values == 1200 and graph.operators == {"Relu": 2}


DAMAGED = {
    "empty": (b"", "it contains no graph"),
    "only metadata": (content(14, content(1, b"a")), "it contains no graph"),
    "text": (b"Dear diary, " * 9, "not a complete .onnx file"),
    "a long field": (content(7, NODE)[:-1], "claims 8 bytes, and 7 remain"),
    "a node longer than its graph": (content(7, varint(1 << 3 | 2) + varint(90)) + bytes(99), "claims 90 bytes"),
    "a name that is not UTF-8": (content(7, content(1, content(4, b"\xff\xfe"))), r"b'\xff\xfe' is not a valid name"),
    "an endless number": (varint(1 << 3) + b"\xff" * 30, "a number of over ten bytes"),
    "a number across the end": (content(7, b"\x0a\x00" + b"\x08\xff") + b"\xff\x01", "in the middle of a number"),
    "two million nodes": (content(7, b"\x0a\x00" * 2_000_000), "over 1,000,000 fields"),
    "65 axes": (content(7, NODE + content(5, content(1, b"\x01" * 65))), "over 64 axes"),
    "65 axes, one by one": (content(7, NODE + content(5, number(1, 1) * 65)), "over 64 axes"),
    "a negative size": (content(7, NODE + content(5, number(1, -1))), "a negative size"),
    "a long text": (content(14, content(2, bytes(2**24 + 1))), "a text has 16,777,217 bytes"),
}


@pytest.mark.parametrize(("damaged", "message"), DAMAGED.values(), ids=DAMAGED)
def test_the_damage_is_described(damaged: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError) as caught:
        read_graph(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_a_file_that_cannot_be_opened_is_no_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_graph(tmp_path / "missing.onnx")


def test_weights_are_not_read(tmp_path: Path) -> None:
    """The file is sparse, as far as the file system allows: its gigabyte takes no room."""
    head = content(5, number(1, 2**28) + number(2, 1))[2:] + varint(9 << 3 | 2) + varint(2**30)
    graph = NODE + varint(5 << 3 | 2) + varint(len(head) + 2**30) + head
    path = tmp_path / "a.onnx"
    with path.open("wb") as file:
        file.write(varint(7 << 3 | 2) + varint(len(graph) + 2**30) + graph)
        file.truncate(file.tell() + 2**30)
    tracemalloc.start()
    try:
        assert read_graph(path).stored_values == 2**28
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", [2**7, 2**30, 2**31, 2**63, 2**64 - 1])
@pytest.mark.parametrize("field", [7, 8, 14, 25])
def test_a_wrong_length_allocates_no_memory(field: int, length: int, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content(7, NODE) + varint(field << 3 | 2) + varint(length) + bytes(100))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=f"claims {length:,} bytes, and 100 remain"):
            read_graph(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# tmp_path is not reset between examples; each overwrites its file.
fuzzed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    tensors = [onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "a")]
    return written(tmp_path_factory.mktemp("whole") / "a.onnx", *tensors).read_bytes()


def read_or_reject(path: Path, damaged: bytes) -> OnnxGraph | None:
    """The graph, or None after a CheckpointError; any other error fails the test."""
    path.write_bytes(damaged)
    try:
        return read_graph(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        return None


@fuzzed
@given(data=st.data())
def test_a_truncated_file_is_rejected(data: st.DataObject, whole: bytes, tmp_path: Path) -> None:
    # The opsets, which follow the graph, are the last fields: without them, the file is complete for protobuf too.
    length = data.draw(st.integers(0, whole.index(b"\x0a\x00\x10\x12") - 3))
    assert read_or_reject(tmp_path / "a.onnx", whole[:length]) is None


@fuzzed
@given(data=st.data())
def test_a_changed_byte_raises_no_other_error(data: st.DataObject, whole: bytes, tmp_path: Path) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    read_or_reject(tmp_path / "a.onnx", bytes(damaged))


@fuzzed
@given(damaged=st.binary(max_size=300))
def test_noise_raises_no_other_error(damaged: bytes, tmp_path: Path) -> None:
    read_or_reject(tmp_path / "a.onnx", damaged)
