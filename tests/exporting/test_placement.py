"""Where onnxruntime's own CUDA provider would run each node, on a machine without a GPU."""

from collections import Counter
from pathlib import Path

import fake_cuda
import onnx
from export_cache import ExportCache, small_model

from segzoo.models.decoders import DECODERS

SIZE_ARITHMETIC = {
    "Shape",
    "Squeeze",
    "Unsqueeze",
    "Gather",
    "Slice",
    "Concat",
    "Reshape",
    "Range",
    "Cast",
    "Ceil",
} | {*("Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Equal", "Where", "ConstantOfShape", "Expand")}
"""Operators that onnxruntime keeps on the CPU on purpose because they compute sizes. No image passes through them: that
would need a copy."""


def test_every_decoder_stays_on_the_gpu(cuda_stubs: Path, export_cache: ExportCache) -> None:
    files = [export_cache(small_model(decoder), confidence=True, logits=True).path for decoder in DECODERS]
    for path, placed in fake_cuda.placement(cuda_stubs, files).items():
        assert placed["copies"] == 0, path
        assert set(placed["cpu"]) <= SIZE_ARITHMETIC, path
        assert {"Conv", "Resize", "ArgMax", "Softmax"} <= set(placed["cuda"]), path


def test_a_static_shape_is_entirely_on_the_gpu(cuda_stubs: Path, export_cache: ExportCache) -> None:
    files = [export_cache(small_model(decoder), static_shape=(2, 70, 97)).path for decoder in ("unet", "segnet")]
    for placed in fake_cuda.placement(cuda_stubs, files).values():
        assert (placed["cpu"], placed["copies"]) == ([], 0)


def test_half_precision_stays_on_the_gpu(cuda_stubs: Path, export_cache: ExportCache) -> None:
    path = export_cache(small_model(), precision="fp16").path
    (placed,) = fake_cuda.placement(cuda_stubs, [path]).values()
    assert placed["copies"] == 0 and set(placed["cpu"]) <= SIZE_ARITHMETIC


def test_operators_without_a_cuda_kernel_are_detected(cuda_stubs: Path, tmp_path: Path) -> None:
    """MaxPool has no CUDA kernel from opset 22 on."""
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, "height", "width"])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["a"]),
        onnx.helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        onnx.helper.make_node("Relu", ["b"], ["y"]),
    ]
    placed = {}
    for opset in (18, 22):
        graph = onnx.helper.make_graph(nodes, "g", [x], [y])
        onnx.save(
            onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10),
            tmp_path / f"{opset}.onnx",
        )
        (placed[opset],) = fake_cuda.placement(cuda_stubs, [tmp_path / f"{opset}.onnx"]).values()
    assert (placed[18]["cpu"], placed[18]["copies"]) == ([], 0)
    assert Counter(placed[22]["cpu"])["MaxPool"] == 1 and placed[22]["copies"] == 2
