"""An .onnx file appears only if it computes what the model computes, at sizes that were not traced."""

import copy
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cuda_kernels
import numpy as np
import onnx
import pytest
import torch
from export_cache import ExportCache, TinyModel, small_model
from onnx import numpy_helper
from safetensors import safe_open

from segzoo import save
from segzoo.errors import ExportError
from segzoo.exporting.export import export
from segzoo.exporting.onnx import graph, verify
from segzoo.inference import OnnxBackend, Predictor
from segzoo.models.decoders import DECODERS
from segzoo.spec import ExportSpec, ModelSpec


def axes(value: onnx.ValueInfoProto) -> list[str | int]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def metadata(proto: onnx.ModelProto) -> dict[str, str]:
    return {pair.key: pair.value for pair in proto.metadata_props}


def computed_from_constants(proto: onnx.ModelProto) -> list[str]:
    """Operators whose inputs are all constants, so that their results could be constants too."""
    constants = {tensor.name for tensor in proto.graph.initializer} | {""}
    return [node.op_type for node in proto.graph.node if constants.issuperset(node.input)]


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder(decoder: str, photograph: np.ndarray, tmp_path: Path, export_cache: ExportCache) -> None:
    model = small_model(decoder).train()
    image = np.ascontiguousarray(photograph[:201, :155])
    with export_cache.cached_tracing():
        result = export(model, tmp_path / "m.onnx")
    assert model.training  # as before
    assert os.listdir(tmp_path) == ["m.onnx"]
    assert result.size == result.path.stat().st_size
    assert len({(c.batch, c.height, c.width) for c in result.verification.cases}) >= 4
    assert result.verification.unpooling == (decoder in ("segnet", "deconvnet"))

    session = Predictor(tmp_path / "m.onnx", device="cpu")
    expected = model.predict(image).mask
    assert len(np.unique(expected)) > 2
    assert (session.predict(image).mask == expected).mean() >= (0.97 if result.verification.unpooling else 0.9999)

    proto = onnx.load(tmp_path / "m.onnx")
    assert [(o.domain, o.version) for o in proto.opset_import if o.domain in ("", "ai.onnx")] == [("", 18)]
    operators = Counter(node.op_type for node in proto.graph.node)
    assert not {"MaxUnpool", "ScatterND", "ScatterElements", "Loop", "If"} & set(operators)
    kernels = cuda_kernels.table()
    unknown = {use for use in cuda_kernels.uses(proto).values() if use[1] not in kernels.get(use[0], ())}
    assert unknown == set()  # no operator that onnxruntime is not known to run on CUDA
    assert axes(proto.graph.input[0]) == ["batch", "height", "width", 3]
    assert axes(proto.graph.output[0]) == ["batch", "height", "width"]
    assert [o.name for o in proto.graph.output] == ["mask"]
    assert computed_from_constants(proto) == []


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_model_is_left_as_it_was(precision: str, tmp_path: Path) -> None:
    """With real tracing, which the other tests share."""
    model = TinyModel().train()
    before = copy.deepcopy(model.state_dict())
    export(model, tmp_path / "m.onnx", precision=precision)
    assert model.training
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, before[name])


def test_normalization_is_one_multiplication_and_one_addition(tmp_path: Path) -> None:
    """The exporter computes 1 / (255 * std) and -mean / std, not the graph."""
    model = TinyModel()
    proto = onnx.load(export(model, tmp_path / "m.onnx").path)
    nodes = list(proto.graph.node)
    first = [node.op_type for node in nodes].index("Conv")
    assert [node.op_type for node in nodes[:first]] == ["Transpose", "Cast", "Mul", "Add"]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    scale, shift = (constants[nodes[i].input[1]].reshape(-1) for i in (2, 3))
    mean, std = np.float32(model.spec.mean), np.float32(model.spec.std)
    np.testing.assert_allclose(scale, 1 / (255 * std), rtol=1e-6)
    np.testing.assert_allclose(shift, -mean / std, rtol=1e-6)


def test_tensor_input(export_cache: ExportCache) -> None:
    model = small_model(in_channels=4)
    path = export_cache(model, input="tensor").path
    images = torch.randint(0, 256, (2, 31, 45, 4), dtype=torch.uint8)
    batch = model.normalize(images)
    logits = OnnxBackend(path, device="cpu").run_tensor(batch.numpy())
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(logits), model.eval()(batch), atol=1e-5, rtol=1e-4)
    proto = onnx.load(path)
    assert axes(proto.graph.input[0]) == ["batch", 4, "height", "width"]
    assert axes(proto.graph.output[0]) == ["batch", 5, "height", "width"]


def test_the_suffix_is_appended(tmp_path: Path) -> None:
    export(TinyModel(), tmp_path / "m", input="tensor")
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_the_metadata_describe_model_and_graph(tmp_path: Path, export_cache: ExportCache) -> None:
    lines: list[str] = []
    model = small_model(classes="camvid").with_info(license="CC0-1.0")
    with export_cache.cached_tracing():
        result = export(model, tmp_path / "m.onnx", progress=lines.append)
    pairs = metadata(onnx.load(tmp_path / "m.onnx"))
    model_spec, export_spec = ModelSpec.from_metadata(pairs), ExportSpec.from_metadata(pairs)
    assert (model_spec.decoder, model_spec.encoder, export_spec.input) == ("unet", "test_resnet", "image")
    assert model_spec.classes == model.classes
    assert (model_spec.mean, model_spec.std) == (model.spec.mean, model.spec.std)
    np.testing.assert_allclose(model_spec.mean, model.mean)
    np.testing.assert_allclose(model_spec.std, model.std)
    assert model_spec.info == {"license": "CC0-1.0"}
    assert model_spec == model.spec
    assert export_spec.verification == result.verification.to_dict()
    assert len(export_spec.verification["cases"]) == 8
    assert lines[0] == "tracing" and any("8/8" in line for line in lines)
    assert "100.0000%" in str(result)


def test_a_checkpoint_and_an_export_describe_the_model_with_the_same_pairs(
    tmp_path: Path, export_cache: ExportCache
) -> None:
    model = small_model(classes="camvid").with_info(license="CC0-1.0")
    exported = metadata(onnx.load(export_cache(model).path))
    with safe_open(save(model, tmp_path / "m.safetensors"), "pt") as file:
        saved = file.metadata()
    assert json.loads(exported.pop("segzoo.export"))["precision"] == "fp32"
    assert {key: value for key, value in saved.items() if key.startswith("segzoo.")} == exported
    assert ModelSpec.from_metadata(saved) == ModelSpec.from_metadata(exported) == model.spec


def test_more_than_256_classes(export_cache: ExportCache) -> None:
    path = export_cache(TinyModel(num_classes=300)).path
    assert Predictor(path, device="cpu").predict(np.zeros((9, 8, 3), np.uint8)).mask.dtype == np.int32


def test_on_real_frames(camvid: Path, export_cache: ExportCache) -> None:
    model = small_model("fcn8s", "vgg11_bn")
    frames = sorted((camvid / "val" / "images").iterdir())[:3]
    masks = Predictor(export_cache(model).path, device="cpu").predict(frames)
    for mask, expected in zip(masks, model.predict(frames), strict=True):
        assert mask.size == (360, 480)
        assert (mask.mask == expected.mask).mean() >= 0.9999


# Exports that must fail without leaving a file.


def wrong_weights(proto: onnx.ModelProto) -> None:
    for tensor in proto.graph.initializer:
        if tensor.name.endswith("weight"):
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(values * np.float32(-1.5), tensor.name))


def impossible_reshape(proto: onnx.ModelProto) -> None:
    node = next(n for n in proto.graph.node if "logits" in n.output)
    node.output[0] = "before"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([7, -1, 7, 11]), "impossible"))
    proto.graph.node.append(onnx.helper.make_node("Reshape", ["before", "impossible"], ["logits"]))
    for other in proto.graph.node:
        if other.op_type == "ArgMax":
            other.input[0] = "before"


@pytest.mark.parametrize("decoder", ["unet", "segnet"])
def test_a_graph_that_differs_is_refused(decoder: str, tmp_path: Path, export_cache: ExportCache) -> None:
    (tmp_path / "m.onnx").write_bytes(b"an older, good file")
    with (
        export_cache.cached_tracing(wrong_weights),
        pytest.raises(ExportError, match="onnxruntime and torch disagree"),
    ):
        export(small_model(decoder), tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == b"an older, good file"


def test_a_graph_that_onnxruntime_cannot_run_is_refused(tmp_path: Path, export_cache: ExportCache) -> None:
    with (
        export_cache.cached_tracing(impossible_reshape),
        pytest.raises(ExportError, match=r"onnxruntime cannot run the graph at 1 x 1 x 1|not valid ONNX"),
    ):
        export(small_model(), tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == []


def test_a_slight_difference_of_logits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export_cache: ExportCache
) -> None:
    """All masks can agree although the graph is wrong."""
    compare = verify._compare

    def compare_with_difference(*arguments: Any) -> verify.Case:
        return replace(compare(*arguments), logits_difference=2e-4)

    monkeypatch.setattr(verify, "_compare", compare_with_difference)
    with export_cache.cached_tracing(), pytest.raises(ExportError, match=r"logits by 0\.0002"):
        export(small_model(), tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == []


NAN = float("nan")


@pytest.mark.parametrize(
    ("difference", "fraction_close", "agreement", "unpooling", "passed"),
    [
        (1e-5, 1.0, 1.0, False, True),
        (2e-4, 0.999, 1.0, False, False),
        (1e-5, 1.0, 0.9997, False, False),
        (NAN, 0.0, 1.0, False, False),
        (0.3, 0.96, 0.995, True, True),
        (0.3, 0.96, 0.97, True, False),
        (0.3, 0.85, 1.0, True, False),
        (0.3, 0.7, 1.0, True, False),
        (NAN, 0.0, 1.0, True, False),
    ],
)
def test_the_limits_of_verification(
    difference: float, fraction_close: float, agreement: float, unpooling: bool, passed: bool
) -> None:
    case = verify.Case(1, 100, 100, "noise", difference, fraction_close, agreement)
    good = verify.Case(1, 1, 1, "noise", 0.0, 1.0, 1.0)
    assert verify.Verification((case, case), unpooling).passed is passed
    assert verify.Verification((good, case), unpooling).passed is passed  # one bad case is enough


def test_an_image_on_which_float32_differs_from_float64_is_inconclusive() -> None:
    inconclusive = verify.Case(1, 100, 100, "scene", 0.3, 0.1, 0.8, float64_agreement=0.14)
    wrong = replace(inconclusive, float64_agreement=1.0)
    good = verify.Case(1, 100, 100, "noise", 1e-6, 1.0, 1.0)
    other_size = verify.Case(1, 50, 50, "noise", 1e-6, 1.0, 1.0)
    assert verify.Verification((good, inconclusive), unpooling=True).passed
    assert not verify.Verification((good, wrong), unpooling=True).passed
    assert not verify.Verification((other_size, inconclusive), unpooling=True).passed  # its size has no other case
    assert not verify.Verification((inconclusive,), unpooling=True).passed


def test_the_rounding_of_torch_itself_is_measured() -> None:
    model = small_model("segnet").eval()
    images = verify._images((1, 64, 64), 3, "noise", seed=1)
    assert verify._float64_agreement(model, copy.deepcopy(model).double(), images) > 0.9
    other = copy.deepcopy(model).double()
    with torch.no_grad():
        for weight in other.decoder.parameters():
            weight.neg_()
    assert verify._float64_agreement(model, other, images) < 0.5


def test_changed_pooling_indices_are_distinguished_from_a_wrong_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export_cache: ExportCache
) -> None:
    """One bad image out of two at a size is bad luck; the report says that it took two."""
    compare, calls = verify._compare, []

    def first_fails(*arguments: Any) -> verify.Case:
        calls.append(arguments)
        case = compare(*arguments)
        return replace(case, fraction_close=0.0, logits_difference=0.3) if len(calls) == 1 else case

    def all_fail(*arguments: Any) -> verify.Case:
        return replace(compare(*arguments), fraction_close=0.5, logits_difference=0.3)

    with export_cache.cached_tracing():
        monkeypatch.setattr(verify, "_compare", first_fails)
        result = export(small_model("segnet"), tmp_path / "m.onnx")
        assert result.verification.cases[0].images == 2
        assert not torch.equal(calls[0][2], calls[1][2])
        monkeypatch.setattr(verify, "_compare", all_fail)
        with pytest.raises(ExportError):
            export(small_model("segnet"), tmp_path / "m.onnx")


def test_weights_that_are_nan_are_refused(tmp_path: Path) -> None:
    model = TinyModel()
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    with pytest.raises(ExportError, match="not a number"):
        export(model, tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == []


class SpecializedModel(TinyModel):
    """The tracer has to fix the width to evaluate the condition."""

    def forward_padded(self, image: torch.Tensor, auxiliary: bool) -> tuple[torch.Tensor, None]:
        logits, _ = super().forward_padded(image, auxiliary)
        return logits[..., : int(image.shape[-1])] if image.shape[-1] == 90 else logits, None


def test_a_fixed_axis_is_refused(tmp_path: Path) -> None:
    model = SpecializedModel()
    assert graph.example_input(model, ExportSpec()).shape[2] == 90
    with pytest.raises(ExportError, match=r"fixed width=90|could not export"):
        export(model, tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == []


class UntraceableModel(TinyModel):
    """Its result depends on a value, which a tracer does not have."""

    def forward_padded(self, image: torch.Tensor, auxiliary: bool) -> tuple[torch.Tensor, None]:
        logits, _ = super().forward_padded(image, auxiliary)
        return logits * 2 if logits.sum().item() > 0 else logits, None


def test_a_model_that_cannot_be_traced(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"torch\.onnx could not export"):
        export(UntraceableModel(), tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == []


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="input must be 'image' or 'tensor'"):
        export(TinyModel(), tmp_path / "m.onnx", input="video")
    with pytest.raises(ExportError, match="There is no folder"):
        export(TinyModel(), tmp_path / "absent" / "m.onnx")


def test_too_large_for_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "_MAX_WEIGHTS", 1000)
    with pytest.raises(ExportError, match="2 GiB at most"):
        export(small_model(), tmp_path / "m.onnx")


@pytest.mark.parametrize("unit", [16, 32, 224])
def test_verification_covers_sizes_that_were_not_traced(unit: int) -> None:
    model = small_model()
    model.spec = model.spec.replace(size_divisibility=unit)
    traced = tuple(graph.example_input(model, ExportSpec()).shape[:3])
    sizes = verify._sizes(graph.size_unit(model), None)
    assert sizes == verify._sizes(unit, None)
    assert len(sizes) >= 4 and traced not in sizes
    assert (1, 1, 1) in sizes
    assert any(h % 2 and w % 2 and h > 1 for _, h, w in sizes)
    assert any(n != traced[0] and n > 1 for n, _, _ in sizes)
    assert any(h > traced[1] and w > traced[2] for _, h, w in sizes)


def test_the_table_of_cuda_kernels() -> None:
    kernels = cuda_kernels.table()
    assert {"Conv", "ConvTranspose", "Resize", "MaxPool", "ArgMax", "Cast", "Pad", "Where", "DepthToSpace"} <= set(
        kernels
    )
    assert {"MaxUnpool", "ScatterND"}.isdisjoint(kernels)
