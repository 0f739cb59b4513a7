"""fp16, int8, fixed sizes and further outputs."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from segzoo import create, export, spec
from segzoo.errors import ExportError, ImageError
from segzoo.models.base import SegmentationModel
from segzoo.models.create import weights_sha256


def tiny(decoder: str = "unet", **options: object) -> SegmentationModel:
    return create(decoder, **{"encoder": "test_resnet", "num_classes": 5, **options})


def run(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


@torch.inference_mode()
def test_scores_and_logits(photograph: np.ndarray, tmp_path: Path) -> None:
    model = tiny()
    result = export(model, tmp_path / "m.onnx", scores=True, logits=True)
    batch = np.ascontiguousarray(photograph[None, :70, :97])
    found = run(result.path, batch)
    labels, logits = model.eval().classify(torch.from_numpy(batch.copy()))
    assert list(found) == ["labels", "scores", "logits"]
    assert (found["labels"] == labels.numpy()).mean() > 0.9999
    np.testing.assert_allclose(found["logits"], logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["scores"], logits.softmax(1).amax(1).numpy(), atol=1e-5)


def test_a_fixed_size(photograph: np.ndarray, tmp_path: Path) -> None:
    model = tiny()
    result = export(model, tmp_path / "m.onnx", fixed=(2, 70, 97))
    assert {(c.batch, c.height, c.width) for c in result.proof.cases} == {(2, 70, 97)}
    graph = onnx.load(result.path).graph
    assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [2, 70, 97, 3]
    assert not {"Shape", "Reshape", "Squeeze"} & {node.op_type for node in graph.node}
    batch = np.stack([photograph[:70, :97], photograph[100:170, 200:297]])
    assert (run(result.path, batch)["labels"][1] == model.predict(batch[1].copy())).mean() > 0.9999


@pytest.mark.parametrize("decoder", ["unet", "segnet"])
def test_half_precision_keeps_its_inputs_and_outputs(decoder: str, tmp_path: Path) -> None:
    model = tiny(decoder)
    full = export(model, tmp_path / "full.onnx", logits=True)
    half = export(model, tmp_path / "half.onnx", precision="fp16", logits=True)
    assert half.size < 0.6 * full.size
    assert half.proof.half and half.proof.label_agreement >= (0.95 if decoder == "segnet" else 0.995)
    assert next(model.parameters()).dtype == torch.float32  # the model is as it was
    found = run(half.path, np.zeros((1, 33, 47, 3), np.uint8))
    assert (found["labels"].dtype, found["logits"].dtype) == (np.uint8, np.float32)
    kinds = {t.data_type for t in onnx.load(half.path).graph.initializer if t.dims}
    assert onnx.TensorProto.FLOAT16 in kinds


def test_int8_says_what_it_changed(photograph: np.ndarray, tmp_path: Path) -> None:
    pictures = [np.ascontiguousarray(photograph[i : i + 64, i : i + 96]) for i in (0, 90, 180, 270)]
    model = tiny("fcn8s", encoder="vgg11_bn", hidden=(3, 16))
    full = export(model, tmp_path / "full.onnx")
    small = export(model, tmp_path / "int8.onnx", precision="int8", calibration=pictures)
    assert small.size < 0.35 * full.size
    assert small.quantisation.images == 4
    agreement = np.mean(
        [(run(small.path, p[None])["labels"] == run(full.path, p[None])["labels"]).mean() for p in pictures]
    )
    assert small.quantisation.label_agreement == pytest.approx(agreement, abs=1e-3)
    assert 0 < small.quantisation.mean_iu <= 1
    assert "int8 keeps the label of" in str(small)
    operators = {node.op_type for node in onnx.load(small.path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    assert sorted(os.listdir(tmp_path)) == ["full.onnx", "int8.onnx"]


def test_int8_with_a_bad_image_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"bad\.png"):
        export(tiny(), tmp_path / "m.onnx", precision="int8", calibration=[tmp_path / "bad.png"])
    assert os.listdir(tmp_path) == ["bad.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "'fp32', 'fp16' or 'int8', not 'fp8'"),
        ({"precision": "int8"}, "needs calibration"),
        ({"calibration": [1]}, "for precision='int8' only"),
        ({"fixed": (1, 0, 5)}, "each at least 1"),
        ({"fixed": (64, 64)}, r"\(batch, height, width\)"),
        ({"scores": True, "io": "tensor"}, "needs io='image'"),
        ({"opset": 17}, "oldest opset .* is 18, not 17"),
    ],
)
def test_what_cannot_be_meant(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export(tiny(), tmp_path / "m.onnx", **options)


def test_the_weights_are_named_by_their_sha256(tmp_path: Path) -> None:
    model, other = tiny(), tiny()
    other.load_state_dict(model.state_dict())
    assert weights_sha256(model) == weights_sha256(other)
    with torch.no_grad():
        other.decoder.score.bias[0] += 1
    assert weights_sha256(model) != weights_sha256(other)
    export(model, tmp_path / "m.onnx", io="tensor")
    props = {p.key: p.value for p in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert spec.decode(props)["weights_sha256"] == weights_sha256(model)
