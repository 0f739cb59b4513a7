"""A file of a stranger may hold any text and any length: messages and printed lines stay short and printable."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from caffe_files import Blob, Layer, caffemodel
from onnx import TensorProto, helper
from safetensors.torch import save_file
from typer.testing import CliRunner

import segzoo
from segzoo import spec
from segzoo.classes import ClassSet
from segzoo.cli import app
from segzoo.cli.augment import read_recipe
from segzoo.data.datasets import open_data
from segzoo.data.datasets.folder import read_classes
from segzoo.errors import CheckpointError, DataError, OptionError, SegzooError, UnknownNameError, unknown
from segzoo.inference import OnnxBackend, Predictor
from segzoo.spec import ExportSpec, ModelSpec
from segzoo.training import checkpoint as resume
from segzoo.training.recipe import Recipe
from segzoo.weights.card import model_card
from segzoo.weights.safetensors_file import MAX_HEADER
from segzoo.weights.state_dict import read

STRANGE = {
    "long": "x" * 1_000_000,
    "escape": "a\x1b[31mred\x07",
    "lines": "a\nError: b\rc\x85d\u2028e",
    "reordered": "a\u202eb\u2066c",
}
each = pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in STRANGE.items()])


def assert_bounded(message: str) -> None:
    assert message.isprintable(), ascii(message[:300])
    assert len(message) <= 3500, f"{len(message)} characters"


def refusal(call: Callable[[], object], error: type[SegzooError] = SegzooError) -> str:
    with pytest.raises(error) as raised:
        call()
    assert_bounded(str(raised.value))
    return str(raised.value)


@functools.cache
def model() -> Any:
    return segzoo.create("fcn", "test_resnet", num_classes=2).eval()


def saved(path: Path, tensors: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
    """A file like that of segzoo.save, with changed fields and tensors."""
    pairs = spec.encode(model().spec.to_dict() | changes)
    save_file({name: value.contiguous() for name, value in (tensors or model().state_dict()).items()}, path, pairs)
    return path


def printed(*words: object) -> tuple[int, str]:
    """The exit code and everything that a command prints, as if piped."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    text = done.stdout + done.stderr
    assert text.replace("\n", "").isprintable(), ascii(text[:300])
    return done.exit_code, text


@each
def test_an_error_escapes_control_characters_and_has_a_limit(text: str) -> None:
    message = str(SegzooError(f"It says {text.replace(chr(10), ' ')}. Do this."))
    assert message.isprintable() and len(message) < 4100
    assert message.startswith("It says ") and message.endswith("Do this.")


def test_an_error_of_several_lines_keeps_them() -> None:
    assert str(SegzooError("a\n\tb", 3)) == "('a\\n\\tb', 3)" and str(SegzooError("a\n\tb")) == "a\n\tb"


@each
def test_an_unknown_name(text: str) -> None:
    assert_bounded(str(unknown("encoder", text, ["x" * 200, "resnet50"], "See there.")))
    refusal(lambda: segzoo.create("fcn", text), UnknownNameError)


@each
@pytest.mark.parametrize("field", ["decoder", "encoder"])
def test_a_checkpoint_of_an_unknown_network(field: str, text: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "m.safetensors", **{field: text})
    refusal(lambda: segzoo.load(path), CheckpointError)
    code, lines = printed("predict", path, tmp_path)
    assert code == 1 and len(lines) < 1500


@each
def test_a_checkpoint_of_a_plugin_that_is_not_imported(text: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "m.safetensors", decoder=text, requires=["some.plugin"])
    assert "--import some.plugin" in refusal(lambda: segzoo.load(path), CheckpointError)


@each
def test_a_checkpoint_of_another_version(text: str, tmp_path: Path) -> None:
    refusal(lambda: segzoo.load(saved(tmp_path / "m.safetensors", decoder="none", version=text)), CheckpointError)


@each
def test_a_checkpoint_with_other_tensors(text: str, tmp_path: Path) -> None:
    tensors = model().state_dict()
    strange = {f"{text}{index}": torch.zeros(1) for index in range(9)}
    path = saved(tmp_path / "m.safetensors", tensors | strange)
    assert "; and 6 more" in refusal(lambda: segzoo.load(path), CheckpointError)
    assert printed("export", path, "-o", tmp_path / "m.onnx")[0] == 1


@each
def test_a_checkpoint_with_other_classes(text: str, tmp_path: Path) -> None:
    for names in ([text, text], [text, 3]):
        classes = {"names": names, "palette": [[0, 0, 0], [1, 1, 1]], "ignore_index": None}
        refusal(lambda c=classes: segzoo.load(saved(tmp_path / "m.safetensors", classes=c)), CheckpointError)


@each
def test_info_of_a_checkpoint(text: str, tmp_path: Path) -> None:
    names = [text[:1000], "road"]
    classes = {"names": names, "palette": [[0, 0, 0], [1, 1, 1]], "ignore_index": None}
    info = {"note": text, text: 1, "recipe": {text: text}, "metrics": {text: text}}
    path = saved(tmp_path / "m.safetensors", classes=classes, version=text, info=info, options={"a": text})
    code, lines = printed("info", path)
    assert code == 0 and "road" in lines and len(lines) < 30_000


def test_info_of_a_checkpoint_with_a_hundred_thousand_facts(tmp_path: Path) -> None:
    info = {f"fact {index}": index for index in range(100_000)}
    code, lines = printed("info", saved(tmp_path / "m.safetensors", info=info))
    assert code == 0 and len(lines.splitlines()) < 300
    assert "fact 50" in lines and " more" in lines


@each
def test_a_class_name(text: str) -> None:
    colors = ((0, 0, 0), (1, 1, 1))
    for names, ignore_index in (((text, text), None), ((text, ""), None), ((text, "b"), 0), ((text, "b"), text)):
        refusal(lambda n=names, i=ignore_index: ClassSet(n, colors, i), OptionError)
    for record in ({"names": text}, {"names": ["a"], "palette": text}, {"names": ["a"], "palette": [text]}):
        refusal(lambda r=record: ClassSet.from_dict(r), OptionError)


def test_a_class_name_has_a_limit() -> None:
    assert len(ClassSet(("a" * 1000,), ((0, 0, 0),))) == 1
    assert "at most 1,000 characters" in refusal(lambda: ClassSet(("a" * 1001,), ((0, 0, 0),)), OptionError)


def test_a_model_card() -> None:
    for text in STRANGE.values():
        card = model_card(model().spec.replace(info={"note": text, text: 1}), 1, "hf://owner/name")
        assert card.replace("\n", "").isprintable() and len(card) < 10_000


@each
def test_tensors_of_another_library(text: str, tmp_path: Path) -> None:
    strange = {f"{text}{index}": torch.zeros(1) for index in range(100)}
    torch.save(strange, tmp_path / "w.pth")
    refusal(lambda: segzoo.convert(tmp_path / "w.pth"), CheckpointError)
    fcn = {"backbone.conv1.weight", "classifier.0.weight", "classifier.4.weight", "backbone.layer1.0.conv2.weight"}
    refusal(lambda: segzoo.convert(strange | {name: torch.zeros(1) for name in fcn}), CheckpointError)
    torch.save({text: torch.zeros(1).expand(10**12)}, tmp_path / "w.pth")
    assert "holds fewer bytes of" in refusal(lambda: read(tmp_path / "w.pth"), CheckpointError)
    refusal(lambda: segzoo.create("fcn", "test_resnet", encoder_weights=str(tmp_path / "w.pth")), CheckpointError)


@each
def test_an_encoder_that_is_not_in_the_file(text: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "m.safetensors", {"encoder.net.a": torch.zeros(1)}, encoder=text)
    weights = str(path)
    refusal(lambda: segzoo.create("fcn", "test_resnet", encoder_weights=weights), CheckpointError)


@each
def test_settings_of_smp(text: str, tmp_path: Path) -> None:
    for settings in (
        {"_model_class": text},
        {"_model_class": [text]},
        {f"{text}{index}": 1 for index in range(100)},
        {str(index): 1 for index in range(100_000)},
    ):
        (tmp_path / "config.json").write_text(json.dumps({"encoder_name": "resnet18"} | settings))
        refusal(lambda: segzoo.convert(tmp_path), CheckpointError)


@each
def test_layers_of_caffe(text: str, tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"

    def write(*names: str, title: str = "net", shape: tuple[int, ...] = (2,)) -> None:
        layers = [Layer(name, "Convolution", [Blob(np.zeros(shape, np.float32))]) for name in names]
        path.write_bytes(caffemodel(layers, "v2", title))

    for names in ([f"{text}{index}" for index in range(20)], ["fc6", text], [f"fc8_{text}", f"fc8-{text}"]):
        write(*names, title=text)
        refusal(lambda: segzoo.convert(path), CheckpointError)
    deeplab = [f"conv{n}_{i}" for n, depth in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, depth + 1)]
    write(*deeplab, "fc6", "fc7", f"fc8_{text}")
    refusal(lambda: segzoo.convert(path), CheckpointError)


def exported(
    path: Path, height: str = "h", dtype: int = TensorProto.UINT8, output: str = "mask", **changes: Any
) -> Path:
    """A small file like that of segzoo.export: a pixel's class is its largest channel."""
    record = ModelSpec("unet", "vgg16", ClassSet.generic(3), mean=(0.5,) * 3, std=(0.2,) * 3).to_dict()
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["real"], ["index"], axis=3, keepdims=0),
        helper.make_node("Cast", ["index"], [output], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "largest",
        [helper.make_tensor_value_info("image", dtype, ["n", height, "w", 3])],
        [helper.make_tensor_value_info(output, TensorProto.UINT8, ["n", height, "w"])],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    pairs = spec.encode(record | {"export": ExportSpec().to_dict()} | changes)
    helper.set_model_props(whole, pairs)
    onnx.save(whole, path)
    return path


@each
@pytest.mark.parametrize(
    "change",
    [
        lambda text: {"height": text, "dtype": TensorProto.INT32},
        lambda text: {"output": text},
        lambda text: {"height": text, "export": ExportSpec().to_dict() | {"static_shape": [1, 2, 3]}},
        lambda text: {"classes": {"names": [text, text], "palette": [[0, 0, 0], [1, 1, 1]], "ignore_index": 255}},
    ],
)
def test_an_exported_graph(change: Callable[[str], dict[str, Any]], text: str, tmp_path: Path) -> None:
    path = exported(tmp_path / "m.onnx", **change(text))
    refusal(lambda: Predictor(path, device="cpu"), CheckpointError)
    assert len(printed("info", path)[1]) < 10_000


@pytest.mark.parametrize("damaged", ["height_", "image", "mask", "segzoo.decoder", "unet", "another_key"])
def test_a_graph_with_text_that_is_not_utf8(damaged: str, tmp_path: Path) -> None:
    path = exported(tmp_path / "m.onnx", height="height_", another_key=0)
    content = path.read_bytes()
    assert damaged.encode() in content
    path.write_bytes(content.replace(damaged.encode(), b"\xff" + damaged[1:].encode()))
    refusal(lambda: Predictor(path, device="cpu"), CheckpointError)
    for command in (["info", path], ["predict", path, tmp_path, "-o", tmp_path / "masks"]):
        code, text = printed(*command)
        assert code == 1 and text.count("\n") < 5, text


@each
def test_an_exported_graph_that_cannot_be_loaded(text: str, tmp_path: Path) -> None:
    path = exported(tmp_path / "m.onnx")
    whole = onnx.load(path)
    whole.graph.node[0].op_type = text
    onnx.save(whole, path)
    with pytest.raises(CheckpointError) as raised:
        Predictor(path, device="cpu")
    assert str(raised.value).replace("\n", "").isprintable() and len(str(raised.value)) < 4100
    assert len(printed("predict", path, tmp_path)[1]) < 4500
    assert len(printed("info", path)[1]) < 10_000


@each
def test_an_output_that_the_graph_lacks(text: str, tmp_path: Path) -> None:
    path = exported(tmp_path / "m.onnx")
    whole = onnx.load(path)
    for index in range(25):
        whole.graph.output.append(helper.make_tensor_value_info(f"{text}{index}", TensorProto.FLOAT, [1]))
        whole.graph.node.append(
            helper.make_node(
                "Constant", [], [f"{text}{index}"], value=helper.make_tensor("", TensorProto.FLOAT, [1], [1])
            )
        )
    onnx.save(whole, path)
    backend = OnnxBackend(path, device="cpu")
    message = refusal(lambda: backend.run(np.zeros((1, 4, 5, 3), np.uint8), ("confidence",)), OptionError)
    assert "and 6 more" in message


@each
def test_the_classes_of_a_folder(text: str, tmp_path: Path) -> None:
    for names in ([text, text], [text, 1], text):
        (tmp_path / "classes.json").write_text(json.dumps({"names": names}))
        refusal(lambda: read_classes(tmp_path / "classes.json"), DataError)


@each
def test_the_lists_of_lfw(text: str, tmp_path: Path) -> None:
    for folder in ("lfw_funneled", "parts_lfw_funneled_gt_images"):
        (tmp_path / folder).mkdir()
    for line in (text, f"{text} 1", "name 1\n" + text):
        (tmp_path / "parts_train.txt").write_text(line, encoding="utf-8", newline="")
        refusal(lambda: open_data("lfw", tmp_path, "train")[0])


@each
def test_the_class_table_of_drone(text: str, tmp_path: Path) -> None:
    for folder in ("original_images", "label_images_semantic"):
        (tmp_path / folder).mkdir()
    flat = text.replace("\n", " ").replace("\r", " ")
    for rows in (f"{flat},1,2,{flat}", f"{flat},1,2,3\n{flat},1,2,3", f"a,1,2,999\n{flat}"):
        (tmp_path / "class_dict_seg.csv").write_text(f"name,r,g,b\n{rows}\n", encoding="utf-8")
        refusal(lambda: open_data("drone", tmp_path), DataError)


def test_a_thousand_splits(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('{"names": ["a"]}')
    for index in range(1000):
        (tmp_path / f"split\x1b{index}" / "images").mkdir(parents=True)
    message = refusal(lambda: open_data("folder", tmp_path, "train"), UnknownNameError)
    assert "and 980 more" in message


@each
def test_a_file_to_resume_from(text: str, tmp_path: Path) -> None:
    settings = Recipe.from_dict({"data": {"name": "camvid", "root": "camvid"}})
    parts: Any = SimpleNamespace(settings=settings, objects={"data": "own"})
    objects = {text: text, "data": text}
    content = {"progress": {}, "recipe": settings.to_dict(), "objects": objects, "states": {}}
    torch.save(content, tmp_path / "resume.pt")
    refusal(lambda: resume.read(tmp_path, parts))
    torch.save({"progress": {text: 1}}, tmp_path / "resume.pt")
    with pytest.raises(SegzooError) as raised:
        resume.read(tmp_path, parts)
    assert len(str(raised.value)) < 4100 and str(raised.value).replace("\n", "").isprintable()


JSON = {
    "nested": "[" * 100_000,
    "nested objects": '{"a":' * 100_000,
    "a number of 5,000 digits": '{"names": ["a"], "ignore_index": ' + "9" * 5000 + "}",
    "infinity": '{"names": ["a"], "ignore_index": 1e999}',
    "nan": '{"names": ["a"], "palette": [[NaN, 0, 0]]}',
    "not UTF-8": b'{"names": ["\xff"]}',
    "20 MB": '{"names": ["a"]}' + " " * 20_000_000,
}


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in JSON.items()])
def test_json_that_no_reader_expects(content: str | bytes, tmp_path: Path) -> None:
    for name in ("classes.json", "config.json"):
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    refusal(lambda: read_classes(tmp_path / "classes.json"), DataError)
    refusal(lambda: segzoo.convert(tmp_path), CheckpointError)


@pytest.mark.parametrize("content", [b"\xff 1\n", b"a 1\n" * 5_000_000])
def test_a_list_that_is_no_text_or_too_large(content: bytes, tmp_path: Path) -> None:
    for folder in ("lfw_funneled", "parts_lfw_funneled_gt_images"):
        (tmp_path / folder).mkdir()
    (tmp_path / "parts_train.txt").write_bytes(content)
    assert "is not a list of faces" in refusal(lambda: open_data("lfw", tmp_path, "train"), DataError)


@pytest.mark.parametrize("content", [b"a = " + b"[" * 100_000, b"a = " + b"9" * 5000, b'a = "\xff"'])
def test_toml_that_no_reader_expects(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "steps.toml").write_bytes(content)
    assert "is not valid TOML" in refusal(lambda: read_recipe(tmp_path / "steps.toml"))


def test_a_large_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER + 1).to_bytes(8, "little") + b"{")
        file.truncate(MAX_HEADER + 9)
    reason = "its header claims 16,777,217 bytes, and at most 16,777,216 are read"
    assert reason in refusal(lambda: segzoo.load(path), CheckpointError)
    assert reason in refusal(lambda: read(path), CheckpointError)
    code, lines = printed("info", path)
    assert code == 1 and reason in lines


def test_the_header_of_65_536_classes_is_read(tmp_path: Path) -> None:
    names = [f"class {index:90}" for index in range(65_536)]
    classes = ClassSet(tuple(names), ClassSet.generic(65_536).palette)
    path = saved(tmp_path / "m.safetensors", {"a": torch.zeros(1)}, classes=classes.to_dict())
    assert MAX_HEADER / 3 < int.from_bytes(path.read_bytes()[:8], "little") < MAX_HEADER
    assert "does not hold" in refusal(lambda: segzoo.load(path), CheckpointError)


def test_a_file_whose_header_would_be_too_large_is_not_written(tmp_path: Path) -> None:
    annotated = segzoo.create("fcn", "test_resnet", num_classes=2).with_info(note=["x" * 100_000] * 170)
    assert "its header claims" in refusal(lambda: segzoo.save(annotated, tmp_path / "m.safetensors"), CheckpointError)
    assert not list(tmp_path.iterdir())
