"""Where onnxruntime's own CUDA provider would run each node, on a machine without a GPU."""

from collections import Counter
from pathlib import Path

import fake_cuda
import onnx
import pytest

from segzoo import create, export
from segzoo.models.decoders import DECODERS

ARITHMETIC_ON_SIZES = {
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
"""What onnxruntime keeps on the CPU on purpose, where it computes sizes; no picture passes through it, since then there
would be a copy."""


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reason = fake_cuda.why_not()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("stand-ins")
    fake_cuda.build(folder)
    return folder


def written(folder: Path, decoder: str, encoder: str = "test_resnet", **options: object) -> Path:
    narrow = {"hidden": (3, 16)} if decoder in ("fcn32s", "fcn16s", "fcn8s", "deconvnet") else {}
    model = create(decoder, encoder=encoder, num_classes=5, **narrow)
    path = folder / f"{decoder}-{encoder}-{len(list(folder.iterdir()))}.onnx"
    export(model, path, **options)
    return path


def test_every_decoder_stays_on_the_gpu(stand_ins: Path, tmp_path: Path) -> None:
    files = [written(tmp_path, decoder, scores=True, logits=True) for decoder in DECODERS]
    for path, placed in fake_cuda.placement(stand_ins, files).items():
        assert placed["copies"] == 0, path
        assert set(placed["cpu"]) <= ARITHMETIC_ON_SIZES, path
        assert {"Conv", "Resize", "ArgMax", "Softmax"} <= set(placed["cuda"]), path


def test_a_fixed_size_is_wholly_on_the_gpu(stand_ins: Path, tmp_path: Path) -> None:
    files = [written(tmp_path, decoder, fixed=(1, 70, 97)) for decoder in ("unet", "segnet")]
    for placed in fake_cuda.placement(stand_ins, files).values():
        assert (placed["cpu"], placed["copies"]) == ([], 0)


def test_so_does_half_precision(stand_ins: Path, tmp_path: Path) -> None:
    (placed,) = fake_cuda.placement(stand_ins, [written(tmp_path, "unet", precision="fp16")]).values()
    assert placed["copies"] == 0 and set(placed["cpu"]) <= ARITHMETIC_ON_SIZES


def test_this_can_fail(stand_ins: Path, tmp_path: Path) -> None:
    """MaxUnpool, and MaxPool from opset 22 on, have no CUDA kernel: what the exporter has to avoid is really seen."""
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, "height", "width"])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["a"]),
        onnx.helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        onnx.helper.make_node("Relu", ["b"], ["y"]),
    ]
    found = {}
    for opset in (18, 22):
        graph = onnx.helper.make_graph(nodes, "g", [x], [y])
        onnx.save(
            onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10),
            tmp_path / f"{opset}.onnx",
        )
        (found[opset],) = fake_cuda.placement(stand_ins, [tmp_path / f"{opset}.onnx"]).values()
    assert (found[18]["cpu"], found[18]["copies"]) == ([], 0)
    assert Counter(found[22]["cpu"])["MaxPool"] == 1 and found[22]["copies"] == 2
