"""fp16, int8, static shapes and more outputs."""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_cache import ExportCache, TinyModel, small_model
from PIL import Image

from segzoo import export
from segzoo.classes import ClassSet
from segzoo.data.dataset import Item, SegmentationData
from segzoo.errors import ExportError, ImageError
from segzoo.exporting.onnx.int8 import Quantization
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


def crops(photograph: np.ndarray, count: int) -> list[np.ndarray]:
    return [np.ascontiguousarray(photograph[40 * i : 40 * i + 64, 50 * i : 50 * i + 96]) for i in range(count)]


def test_int8_is_judged_on_images_that_did_not_calibrate_it(
    photograph: np.ndarray, tmp_path: Path, export_cache: ExportCache
) -> None:
    images = crops(photograph, 6)
    model = small_model("fcn8s", "vgg11_bn")
    full = export_cache(model)
    with export_cache.cached_tracing():
        small = export(model, tmp_path / "int8.onnx", precision="int8", calibration=images, min_agreement=0)
    assert small.size < 0.35 * full.size
    assert (small.quantization.images, small.quantization.judged) == (4, 2)
    judges = images[1::3]
    agreement = np.mean([(run(small.path, i[None])["mask"] == run(full.path, i[None])["mask"]).mean() for i in judges])
    assert small.quantization.pixel_agreement == pytest.approx(agreement, abs=1e-6)
    assert 0 < small.quantization.unoptimized_agreement <= 1
    assert "2 images that did not calibrate it" in str(small) and "mean IoU" not in str(small)
    operators = {node.op_type for node in onnx.load(small.path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    assert os.listdir(tmp_path) == ["int8.onnx"]


def test_int8_weights_have_7_bits_because_8_saturate_without_vnni(
    photograph: np.ndarray, tmp_path: Path, export_cache: ExportCache
) -> None:
    with export_cache.cached_tracing():
        calibration = np.stack(crops(photograph, 3))  # an array (N, H, W, C)
        export(small_model(), tmp_path / "m.onnx", precision="int8", calibration=calibration, min_agreement=0)
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4
    ]
    assert weights
    assert max(int(np.abs(values.astype(int)).max()) for values in weights) == 64


def test_int8_with_masks_reports_the_mean_iou_and_takes_a_model_in_which_nothing_is_lost(
    photograph: np.ndarray, tmp_path: Path, export_cache: ExportCache
) -> None:
    model = small_model("fcn8s", "vgg11_bn")
    full = export_cache(model)
    items = []
    for index, image in enumerate(crops(photograph, 4)):
        truth = run(full.path, image[None])["mask"][0]
        Image.fromarray(image).save(tmp_path / f"{index}.png")
        Image.fromarray(truth).save(tmp_path / f"{index}_mask.png")
        items.append(Item(str(index), tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png"))
    data = SegmentationData(items, ClassSet.generic(model.spec.num_classes))
    options = {"precision": "int8", "calibration": data}
    with export_cache.cached_tracing():
        made = export(model, tmp_path / "m.onnx", **options, max_iou_loss=1).quantization
        assert made.float_mean_iou == 1
        assert 0 < made.mean_iou <= 1 and 0 < made.unoptimized_mean_iou <= 1
        (tmp_path / "m.onnx").unlink()
        with pytest.raises(ExportError, match=r"mean IoU .*a loss of at most -100 points"):
            export(model, tmp_path / "m.onnx", **options, max_iou_loss=-1)
    assert not (tmp_path / "m.onnx").exists()
    with pytest.raises(ExportError, match="The masks for the calibration have 2 classes"):
        export(model, tmp_path / "m.onnx", precision="int8", calibration=SegmentationData(items, ClassSet.generic(2)))


GOOD = Quantization(8, 4, 0.99, 0.985)


@pytest.mark.parametrize(
    ("quantization", "floor"),
    [
        (replace(GOOD, pixel_agreement=0.979), "at least 98.00% is required"),
        (replace(GOOD, unoptimized_agreement=0.979), "at least 98.00% is required"),
        (replace(GOOD, float_mean_iou=0.6, mean_iou=0.589, unoptimized_mean_iou=0.6), "a loss of at most 1 point"),
        (replace(GOOD, float_mean_iou=0.6, mean_iou=0.6, unoptimized_mean_iou=0.58), "a loss of at most 1 point"),
        (replace(GOOD, float_mean_iou=math.nan, mean_iou=math.nan, unoptimized_mean_iou=math.nan), "a loss of"),
    ],
)
def test_int8_that_loses_too_much_is_refused(quantization: Quantization, floor: str) -> None:
    GOOD.require()
    replace(GOOD, pixel_agreement=0.5, float_mean_iou=0.6, mean_iou=0.591, unoptimized_mean_iou=0.6).require()
    with pytest.raises(ExportError, match=floor):
        quantization.require()


def test_int8_that_is_refused_leaves_nothing(photograph: np.ndarray, tmp_path: Path, export_cache: ExportCache) -> None:
    with export_cache.cached_tracing(), pytest.raises(ExportError, match=r"min_agreement.*No file was written"):
        export(
            small_model(), tmp_path / "m.onnx", precision="int8", calibration=crops(photograph, 3), min_agreement=1.01
        )
    assert os.listdir(tmp_path) == []


def test_int8_names_an_unreadable_image_and_leaves_nothing(
    photograph: np.ndarray, tmp_path: Path, export_cache: ExportCache
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "bad.png").write_bytes(b"not an image")
    Image.fromarray(photograph).save(folder / "good.png")
    arrays = (image for image in (*crops(photograph, 2), np.zeros((4, 4))))
    options = {"precision": "int8", "min_agreement": 0}
    with export_cache.cached_tracing():
        with pytest.raises(ImageError, match=r"bad\.png"):
            export(small_model(), tmp_path / "m.onnx", calibration=folder, **options)
        with pytest.raises(ImageError, match="Image 3 of 3 for the calibration: An image array must be uint8"):
            export(small_model(), tmp_path / "m.onnx", calibration=arrays, **options)
        with pytest.raises(ExportError, match="has one image, and int8 needs ten to a hundred"):
            export(small_model(), tmp_path / "m.onnx", calibration=photograph, **options)
    assert os.listdir(tmp_path) == ["photos"]


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
