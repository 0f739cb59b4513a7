"""fp16, int8, static shapes and more outputs."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_cache import ExportCache, TinyModel, small_model

from segzoo import export
from segzoo.errors import ExportError, ImageError
from segzoo.models.parameters import weights_sha256
from segzoo.spec import ExportSpec


def run(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def assert_masks_agree(mask: np.ndarray, logits: torch.Tensor) -> None:
    """Each id of a mask (H, W) is that of the highest logit (K, H, W), or of one that rounding may put first."""
    chosen = logits.gather(0, torch.from_numpy(mask[None].astype(np.int64)))[0]
    assert (logits.amax(0) - chosen).max() <= 1e-4


@torch.inference_mode()
def test_confidence_and_logits(photograph: np.ndarray, export_cache: ExportCache) -> None:
    model = small_model()
    result = export_cache(model, confidence=True, logits=True)
    batch = np.ascontiguousarray(photograph[None, :70, :97])
    outputs = run(result.path, batch)
    _, logits = model.eval().classify(torch.from_numpy(batch.copy()))
    assert list(outputs) == ["mask", "confidence", "logits"]
    assert_masks_agree(outputs["mask"][0], logits[0])
    np.testing.assert_allclose(outputs["logits"], logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(outputs["confidence"], logits.softmax(1).amax(1).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "names"),
    [({}, ["mask"]), ({"confidence": True}, ["mask", "confidence"]), ({"logits": True}, ["mask", "logits"])],
)
def test_a_file_has_the_outputs_that_were_requested(
    options: dict[str, bool], names: list[str], export_cache: ExportCache
) -> None:
    """It holds no node, no constant and no type that only another output needs."""
    everything = onnx.load(export_cache(small_model(), confidence=True, logits=True).path).graph
    graph = onnx.load(export_cache(small_model(), **options).path).graph
    assert [output.name for output in graph.output] == names
    operators = {node.op_type for node in graph.node}
    assert ("Softmax" in operators) == ("confidence" in names)
    assert len(graph.node) < len(everything.node)
    needed = {name for node in graph.node for name in node.input} | set(names)
    assert {name for node in graph.node for name in node.output if needed.isdisjoint(node.output)} == set()
    assert {tensor.name for tensor in graph.initializer} <= needed
    assert {info.name for info in graph.value_info} <= needed


@torch.inference_mode()
def test_a_static_shape(photograph: np.ndarray, export_cache: ExportCache) -> None:
    model = small_model()
    result = export_cache(model, static_shape=(2, 70, 97))
    assert {(c.batch, c.height, c.width) for c in result.verification.cases} == {(2, 70, 97)}
    graph = onnx.load(result.path).graph
    assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [2, 70, 97, 3]
    assert not {"Shape", "Reshape", "Squeeze"} & {node.op_type for node in graph.node}
    batch = np.stack([photograph[:70, :97], photograph[100:170, 200:297]])
    _, logits = model.eval().classify(torch.from_numpy(batch))
    assert_masks_agree(run(result.path, batch)["mask"][1], logits[1])


@pytest.mark.parametrize("decoder", ["unet", "segnet"])
def test_half_precision_keeps_its_inputs_and_outputs(decoder: str, export_cache: ExportCache) -> None:
    full = export_cache(small_model(decoder), logits=True)
    half = export_cache(small_model(decoder), precision="fp16", logits=True)
    assert half.size < 0.6 * full.size
    assert half.verification.half and half.verification.pixel_agreement >= (0.95 if decoder == "segnet" else 0.995)
    outputs = run(half.path, np.zeros((1, 33, 47, 3), np.uint8))
    assert (outputs["mask"].dtype, outputs["logits"].dtype) == (np.uint8, np.float32)
    types = {t.data_type for t in onnx.load(half.path).graph.initializer if t.dims}
    assert onnx.TensorProto.FLOAT16 in types


def test_int8_reports_how_it_differs(photograph: np.ndarray, tmp_path: Path, export_cache: ExportCache) -> None:
    images = [np.ascontiguousarray(photograph[i : i + 64, i : i + 96]) for i in (0, 90, 180, 270)]
    model = small_model("fcn8s", "vgg11_bn")
    full = export_cache(model)
    with export_cache.cached_tracing():
        small = export(model, tmp_path / "int8.onnx", precision="int8", calibration=images)
    assert small.size < 0.35 * full.size
    assert small.quantization.images == 4
    agreement = np.mean([(run(small.path, i[None])["mask"] == run(full.path, i[None])["mask"]).mean() for i in images])
    assert small.quantization.pixel_agreement == pytest.approx(agreement, abs=1e-3)
    assert 0 < small.quantization.mean_iou <= 1
    assert "int8 and float32 give the same class on" in str(small)
    operators = {node.op_type for node in onnx.load(small.path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    assert os.listdir(tmp_path) == ["int8.onnx"]


def test_int8_with_a_bad_image_leaves_nothing(tmp_path: Path, export_cache: ExportCache) -> None:
    (tmp_path / "bad.png").write_bytes(b"not an image")
    with export_cache.cached_tracing(), pytest.raises(ImageError, match=r"bad\.png"):
        export(small_model(), tmp_path / "m.onnx", precision="int8", calibration=[tmp_path / "bad.png"])
    assert os.listdir(tmp_path) == ["bad.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "'fp32', 'fp16' or 'int8', not 'fp8'"),
        ({"precision": "int8"}, "needs calibration"),
        ({"calibration": [1]}, "for precision='int8' only"),
        ({"static_shape": (1, 0, 5)}, "whole numbers from 1 up"),
        ({"static_shape": (64, 64)}, r"\(batch, height, width\)"),
        ({"confidence": True, "input": "tensor"}, "needs input='image'"),
        ({"precision": "int8", "input": "tensor", "calibration": [1]}, "calibrated with images"),
        ({"opset": 17}, "18 or higher .*, not 17"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export(TinyModel(), tmp_path / "m.onnx", **options)


def test_the_weights_are_identified_by_their_sha256(export_cache: ExportCache) -> None:
    model, other = small_model(in_channels=4), small_model(in_channels=4)
    assert weights_sha256(model) == weights_sha256(other)
    with torch.no_grad():
        other.decoder.head.bias[0] += 1
    assert weights_sha256(model) != weights_sha256(other)
    proto = onnx.load(export_cache(model, input="tensor").path)
    pairs = {pair.key: pair.value for pair in proto.metadata_props}
    assert ExportSpec.from_metadata(pairs).weights_sha256 == weights_sha256(model)
