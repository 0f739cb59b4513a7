"""The logits before cropping can be fetched from any file that returns a mask, by the name in its metadata.

An .onnx file is a protobuf message. If the bytes of another message follow, its fields are merged into the first: that
adds an output to the graph without the onnx package.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
from export_cache import ExportCache, TinyModel, small_model, small_paper
from onnx import TensorProto, helper

from segzoo import export
from segzoo.errors import ExportError
from segzoo.exporting.export import Export
from segzoo.exporting.onnx.graph import PADDED_LOGITS, name_padded_logits
from segzoo.inference import Predictor
from segzoo.spec import ExportSpec, ModelSpec


def with_output(content: bytes, name: str) -> bytes:
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return content + onnx.ModelProto(graph=onnx.GraphProto(output=[output])).SerializeToString()


def session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def outputs(session: onnxruntime.InferenceSession, images: np.ndarray) -> dict[str, np.ndarray]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


def require_padded_logits(exported: Export, height: int = 37, width: int = 53) -> None:
    content = exported.path.read_bytes()
    onnx.checker.check_model(exported.path, full_check=True)
    plain = session(content)
    pairs = plain.get_modelmeta().custom_metadata_map
    spec = ExportSpec.from_metadata(pairs)
    assert spec.padded_logits == PADDED_LOGITS
    channels, batch = ModelSpec.from_metadata(pairs).in_channels, 2
    if spec.static_shape:
        batch, height, width = spec.static_shape

    extended = session(with_output(content, spec.padded_logits))
    assert extended.get_modelmeta().custom_metadata_map == pairs
    images = np.random.default_rng(0).integers(0, 256, (batch, height, width, channels), np.uint8)
    before, after = outputs(plain, images), outputs(extended, images)
    assert list(after) == [*before, PADDED_LOGITS]
    for name, value in before.items():
        assert np.array_equal(value, after[name]), name
    padded = after[PADDED_LOGITS]
    assert padded.dtype == np.float32
    assert padded.shape[2] >= height and padded.shape[3] >= width
    assert len(np.unique(before["mask"])) > 1
    assert np.array_equal(padded.argmax(1)[:, :height, :width], before["mask"])
    if "logits" in before:
        assert np.array_equal(padded[..., :height, :width], before["logits"])

    with pytest.raises(Exception, match="padded_logit"):
        session(with_output(content, "padded_logit"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "fp16"},
        {"static_shape": (2, 70, 97)},
        {"confidence": True},
        {"logits": True},
        {"confidence": True, "logits": True},
    ],
    ids=str,
)
def test_of_each_form(options: dict[str, object], export_cache: ExportCache) -> None:
    require_padded_logits(export_cache(small_model(), **options))


@pytest.mark.parametrize("form", ["fp32", "fp16", "int8", "static"])
def test_tiles_and_views_do_not_depend_on_an_output_of_logits(
    form: str, photograph: np.ndarray, export_cache: ExportCache
) -> None:
    calibration = [np.ascontiguousarray(photograph[i : i + 64, i : i + 96]) for i in (0, 180)]
    options: dict[str, object] = {
        "fp32": {},
        "fp16": {"precision": "fp16"},
        "int8": {"precision": "int8", "calibration": calibration, "min_agreement": 0},  # the weights are random
        "static": {"static_shape": (1, 64, 96)},
    }[form]
    plain, other = (
        Predictor(export_cache(small_model(), logits=logits, **options).path, "cpu", threads=1)
        for logits in (False, True)
    )
    assert [predictor.backend.graph_outputs for predictor in (plain, other)] == [("mask",), ("mask", "logits")]
    image = photograph[:120, :150]
    for arguments in ({"tile": (64, 96)}, {"tile": (64, 96), "overlap": (8, 24), "tta": "flip"}):
        result, expected = (
            predictor.predict(image, confidence=True, probabilities=True, **arguments) for predictor in (plain, other)
        )
        assert len(np.unique(result.mask)) > 1
        for name in ("mask", "confidence", "probabilities"):
            assert np.array_equal(getattr(result, name), getattr(expected, name)), name


def test_of_int8(photograph: np.ndarray, export_cache: ExportCache) -> None:
    images = [np.ascontiguousarray(photograph[i : i + 64, i : i + 96]) for i in (0, 180)]
    require_padded_logits(export_cache(small_model(), precision="int8", calibration=images, min_agreement=0))


def test_of_a_network_that_unpools(export_cache: ExportCache) -> None:
    require_padded_logits(export_cache(small_model("segnet")))


@pytest.mark.parametrize("name", ["paper/unet", "paper/conv_deconv"])
def test_of_a_papers_network(name: str, export_cache: ExportCache) -> None:
    require_padded_logits(export_cache(small_paper(name), confidence=True))


def test_a_graph_that_crops_nothing_may_name_its_output_logits(export_cache: ExportCache) -> None:
    for options, name in (({"logits": True}, "logits"), ({}, PADDED_LOGITS)):
        proto = onnx.load(export_cache(TinyModel(), **options).path)
        argmax = next(node for node in proto.graph.node if node.op_type == "ArgMax")
        assert argmax.input[0] == name
        spec = ExportSpec.from_metadata({pair.key: pair.value for pair in proto.metadata_props})
        assert spec.padded_logits == name
    require_padded_logits(export_cache(TinyModel()))


def test_a_tensor_graph_has_none(tmp_path) -> None:
    proto = onnx.load(export(TinyModel(), tmp_path / "m.onnx", input="tensor").path)
    assert ExportSpec.from_metadata({pair.key: pair.value for pair in proto.metadata_props}).padded_logits is None


def test_a_mask_without_an_argmax_is_refused() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    mask = helper.make_tensor_value_info("mask", TensorProto.UINT8, [1, 4])
    node = helper.make_node("Cast", ["x"], ["mask"], to=TensorProto.UINT8)
    with pytest.raises(ExportError, match="does not come from an argmax"):
        name_padded_logits(helper.make_model(helper.make_graph([node], "g", [x], [mask])))
