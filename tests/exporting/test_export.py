"""An .onnx file exists only if it does what the model does, at sizes that nobody traced."""

import copy
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cuda_kernels
import numpy as np
import onnx
import pytest
import torch

from segzoo import create, spec
from segzoo.errors import ExportError
from segzoo.exporting.export import export
from segzoo.exporting.onnx import graph, verify
from segzoo.inference import Session
from segzoo.models.base import SegmentationModel
from segzoo.models.decoders import DECODERS


def balance(model: SegmentationModel, picture: np.ndarray) -> None:
    """Shifts the scores so that no class wins everywhere, as random ones often do: labels must say something."""
    scores = [m for m in model.decoder.modules() if isinstance(m, torch.nn.Conv2d) and m.out_channels == 5]
    with torch.no_grad():
        _, logits = model.eval().classify(torch.tensor(picture)[None])
        scores[-1].bias -= logits.mean((0, 2, 3))


def tiny(decoder: str = "unet", **options: object) -> SegmentationModel:
    if decoder in ("fcn32s", "fcn16s", "fcn8s", "deconvnet"):
        options["hidden"] = (3, 16)
    return create(decoder, **{"encoder": "test_resnet", "num_classes": 5, **options})


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder(decoder: str, photograph: np.ndarray, tmp_path: Path) -> None:
    model = tiny(decoder)
    picture = np.ascontiguousarray(photograph[:201, :155])
    balance(model, picture)
    model.train()
    result = export(model, tmp_path / "m.onnx")
    assert model.training  # as it was
    assert os.listdir(tmp_path) == ["m.onnx"]
    assert result.size == result.path.stat().st_size
    assert len({(c.batch, c.height, c.width) for c in result.proof.cases}) >= 4
    assert result.proof.unpooling == (decoder in ("segnet", "deconvnet"))

    session = Session(tmp_path / "m.onnx", device="cpu")
    ours = model.predict(picture)
    assert len(np.unique(ours)) > 2
    assert (session.predict(picture) == ours).mean() >= (0.97 if result.proof.unpooling else 0.9999)

    proto = onnx.load(tmp_path / "m.onnx")
    assert [(o.domain, o.version) for o in proto.opset_import if o.domain in ("", "ai.onnx")] == [("", 18)]
    used = Counter(node.op_type for node in proto.graph.node)
    assert not {"MaxUnpool", "ScatterND", "ScatterElements", "Loop", "If"} & set(used)
    kernels = cuda_kernels.table()
    strangers = {use for use in cuda_kernels.uses(proto).values() if use[1] not in kernels.get(use[0], ())}
    assert strangers == set()  # nothing that onnxruntime is not known to run on CUDA
    assert axes(proto.graph.input[0]) == ["batch", "height", "width", 3]
    assert axes(proto.graph.output[0]) == ["batch", "height", "width"]
    assert [o.name for o in proto.graph.output] == ["labels"]


def axes(value: onnx.ValueInfoProto) -> list[str | int]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_tensor_io(tmp_path: Path) -> None:
    model = tiny(in_channels=4)
    export(model, tmp_path / "m", io="tensor")
    images = torch.randint(0, 256, (2, 31, 45, 4), dtype=torch.uint8)
    batch = model.normalise(images)
    theirs = Session(tmp_path / "m.onnx", device="cpu").run_tensor(batch.numpy())
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(theirs), model.eval()(batch), atol=1e-5, rtol=1e-4)
    proto = onnx.load(tmp_path / "m.onnx")
    assert axes(proto.graph.input[0]) == ["batch", 4, "height", "width"]
    assert axes(proto.graph.output[0]) == ["batch", 5, "height", "width"]


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    lines: list[str] = []
    model = tiny(labels="camvid", num_classes=None).with_info(licence="CC0-1.0")
    result = export(model, tmp_path / "m.onnx", progress=lines.append)
    proto = onnx.load(tmp_path / "m.onnx")
    found = spec.decode({p.key: p.value for p in proto.metadata_props})
    assert (found["decoder"], found["encoder"], found["io"]) == ("unet", "test_resnet", "image")
    assert found["labels"] == model.labels.to_dict()
    assert (found["mean"], found["std"]) == (list(model.mean), list(model.std))
    assert found["info"] == {"licence": "CC0-1.0"}
    assert found["proof"] == result.proof.to_dict()
    assert len(found["proof"]["cases"]) == 8
    assert lines[0] == "tracing" and any("8/8" in line for line in lines)
    assert "100.0000%" in str(result)


def test_more_than_256_classes(tmp_path: Path) -> None:
    export(tiny(num_classes=300), tmp_path / "m.onnx")
    assert Session(tmp_path / "m.onnx", device="cpu").predict(np.zeros((9, 8, 3), np.uint8)).dtype == np.int32


def test_on_real_frames(camvid: Path, tmp_path: Path) -> None:
    model = tiny("fcn8s", encoder="vgg11_bn")
    export(model, tmp_path / "m.onnx")
    frames = sorted((camvid / "val" / "images").iterdir())[:3]
    masks = Session(tmp_path / "m.onnx", device="cpu").predict(frames)
    for mask, ours in zip(masks, model.predict(frames), strict=True):
        assert mask.shape == (360, 480)
        assert (mask == ours).mean() >= 0.9999


# What must fail, and leave nothing.


def left_behind(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("decoder", ["unet", "segnet"])
def test_a_graph_that_differs_is_refused(decoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(b"an older, good file")

    def spoiled(*arguments: object) -> onnx.ModelProto:
        proto = graph.build_graph(*arguments)
        for tensor in proto.graph.initializer:
            if tensor.name.endswith("weight"):
                values = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(-1.5), tensor.name))
        return proto

    monkeypatch.setattr("segzoo.exporting.export.build_graph", spoiled)
    with pytest.raises(ExportError, match="onnxruntime and torch disagree"):
        export(tiny(decoder), tmp_path / "m.onnx")
    assert left_behind(tmp_path) == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == b"an older, good file"


def test_a_graph_that_onnxruntime_cannot_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(*arguments: object) -> onnx.ModelProto:
        proto = graph.build_graph(*arguments)
        node = next(n for n in proto.graph.node if "logits" in n.output)
        node.output[0] = "before"
        shape = onnx.numpy_helper.from_array(np.array([7, -1, 7, 11]), "impossible")
        proto.graph.initializer.append(shape)
        proto.graph.node.append(onnx.helper.make_node("Reshape", ["before", "impossible"], ["logits"]))
        for other in proto.graph.node:
            if other.op_type == "ArgMax":
                other.input[0] = "before"
        return proto

    monkeypatch.setattr("segzoo.exporting.export.build_graph", spoiled)
    with pytest.raises(ExportError, match=r"onnxruntime cannot run the graph at 1 x 1 x 1|not valid ONNX"):
        export(tiny(), tmp_path / "m.onnx")
    assert left_behind(tmp_path) == []


def test_a_slight_difference_of_logits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels can all agree and the graph still be wrong."""
    compare = verify._compare

    def off(*arguments: object) -> verify.Case:
        case = compare(*arguments)
        return replace(case, logits_difference=2e-4)

    monkeypatch.setattr(verify, "_compare", off)
    with pytest.raises(ExportError, match=r"logits by 0\.0002"):
        export(tiny(), tmp_path / "m.onnx")
    assert left_behind(tmp_path) == []


NAN = float("nan")


@pytest.mark.parametrize(
    ("difference", "near", "agreement", "unpooling", "holds"),
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
def test_what_holds(difference: float, near: float, agreement: float, unpooling: bool, holds: bool) -> None:
    case = verify.Case(1, 100, 100, "noise", difference, near, agreement)
    good = verify.Case(1, 1, 1, "noise", 0.0, 1.0, 1.0)
    assert verify.Proof((case, case), unpooling).holds is holds
    assert verify.Proof((good, case), unpooling).holds is holds  # one bad case is enough


def test_an_image_on_which_torch_itself_is_unsure_proves_nothing() -> None:
    unsure = verify.Case(1, 100, 100, "scene", 0.3, 0.1, 0.8, own_near=0.14)
    wrong = replace(unsure, own_near=1.0)
    good = verify.Case(1, 100, 100, "noise", 1e-6, 1.0, 1.0)
    elsewhere = verify.Case(1, 50, 50, "noise", 1e-6, 1.0, 1.0)
    assert verify.Proof((good, unsure), unpooling=True).holds
    assert not verify.Proof((good, wrong), unpooling=True).holds
    assert not verify.Proof((elsewhere, unsure), unpooling=True).holds  # nothing is left at its size
    assert not verify.Proof((unsure,), unpooling=True).holds


def test_the_rounding_of_torch_itself_is_measured() -> None:
    model = tiny("segnet").eval()
    images = verify._images((1, 64, 64), 3, "noise", seed=1)
    assert verify._own_near(model, copy.deepcopy(model).double(), images) > 0.9
    other = copy.deepcopy(model).double()
    with torch.no_grad():
        for weight in other.decoder.parameters():
            weight.neg_()
    assert verify._own_near(model, other, images) < 0.5


def test_a_flipped_switch_is_told_from_a_wrong_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad image out of two at a size is luck; the report says that it took two."""
    compare, calls = verify._compare, []

    def unlucky(*arguments: object) -> verify.Case:
        calls.append(arguments)
        case = compare(*arguments)
        return replace(case, near=0.0, logits_difference=0.3) if len(calls) == 1 else case

    monkeypatch.setattr(verify, "_compare", unlucky)
    result = export(tiny("segnet"), tmp_path / "m.onnx")
    assert result.proof.cases[0].images == 2
    assert not torch.equal(calls[0][2], calls[1][2])
    calls.clear()
    with pytest.raises(ExportError):
        monkeypatch.setattr(verify, "_compare", lambda *a: replace(compare(*a), near=0.5, logits_difference=0.3))
        export(tiny("segnet"), tmp_path / "m.onnx")


def test_weights_that_are_not_finite_prove_nothing(tmp_path: Path) -> None:
    model = tiny()
    with torch.no_grad():
        model.decoder.score.bias[0] = float("nan")
    with pytest.raises(ExportError, match="NaN"):
        export(model, tmp_path / "m.onnx")
    assert left_behind(tmp_path) == []


def test_a_fixed_axis_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    scores = type(model).scores

    def specialised(self: SegmentationModel, image: torch.Tensor, auxiliary: bool) -> tuple[torch.Tensor, None]:
        logits, _ = scores(self, image, auxiliary)
        return logits[..., : int(image.shape[-1])] if image.shape[-1] == 90 else logits, None

    monkeypatch.setattr(type(model), "scores", specialised)
    with pytest.raises(ExportError, match=r"fixed width=90|could not export"):
        export(model, tmp_path / "m.onnx")
    assert left_behind(tmp_path) == []


def test_a_model_that_cannot_be_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    scores = type(model).scores

    def by_value(self: SegmentationModel, image: torch.Tensor, auxiliary: bool) -> tuple[torch.Tensor, None]:
        logits, _ = scores(self, image, auxiliary)
        return logits * 2 if logits.sum().item() > 0 else logits, None

    monkeypatch.setattr(type(model), "scores", by_value)
    with pytest.raises(ExportError, match=r"torch\.onnx could not export"):
        export(model, tmp_path / "m.onnx")
    assert left_behind(tmp_path) == []


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="io is 'image' or 'tensor'"):
        export(tiny(), tmp_path / "m.onnx", io="video")
    with pytest.raises(ExportError, match="No folder"):
        export(tiny(), tmp_path / "absent" / "m.onnx")


def test_too_large_for_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "_LIMIT", 1000)
    with pytest.raises(ExportError, match="2 GiB at most"):
        export(tiny(), tmp_path / "m.onnx")


def test_the_proof_looks_where_nobody_traced() -> None:
    for k in (16, 32, 224):
        model = tiny()
        model.multiple = k
        traced = tuple(graph.example(model, graph.Form()).shape[:3])
        sizes = list(verify._sizes(k, None))
        assert len(sizes) >= 4 and traced not in sizes
        assert (1, 1, 1) in sizes
        assert any(h % 2 and w % 2 and h > 1 for _, h, w in sizes)
        assert any(n != traced[0] and n > 1 for n, _, _ in sizes)
        assert any(h > traced[1] and w > traced[2] for _, h, w in sizes)


def test_the_table_of_cuda_kernels_is_what_it_says() -> None:
    kernels = cuda_kernels.table()
    assert {"Conv", "ConvTranspose", "Resize", "MaxPool", "ArgMax", "Cast", "Pad", "Where", "DepthToSpace"} <= set(
        kernels
    )
    assert {"MaxUnpool", "ScatterND"}.isdisjoint(kernels)
