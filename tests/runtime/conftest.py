"""Small .onnx files as segzoo.export writes them, made by hand so that the runtime is tested without torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from segzoo import metadata
from segzoo.labels import LabelSet

MakeFile = Callable[..., Path]


def record(io: str, classes: int) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "decoder": "unet",
        "encoder": "vgg16",
        "num_classes": classes,
        "in_channels": 3,
        "labels": LabelSet.generic(classes).to_dict(),
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "io": io,
    }


def graph(io: str, classes: int, size: tuple[int | str, int | str], batch: int | str) -> onnx.GraphProto:
    """io="image": the class of a pixel is its strongest channel, red 0, green 1, blue 2. io="tensor": doubles."""
    height, width = size
    if io == "tensor":
        shape = [batch, 3, height, width]
        return helper.make_graph(
            [helper.make_node("Add", ["image", "image"], ["logits"])],
            "double",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        )
    kind = TensorProto.UINT8 if classes <= 256 else TensorProto.INT32
    return helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("ArgMax", ["real"], ["index"], axis=3, keepdims=0),
            helper.make_node("Cast", ["index"], ["labels"], to=kind),
        ],
        "strongest",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, height, width, 3])],
        [helper.make_tensor_value_info("labels", kind, [batch, height, width])],
    )


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Writes model.onnx; `change` replaces entries of its record, None leaves the record out."""

    def make(
        io: str = "image",
        classes: int = 3,
        size: tuple[int | str, int | str] = ("height", "width"),
        batch: int | str = "batch",
        change: dict[str, Any] | None = None,
        bare: bool = False,
    ) -> Path:
        model = helper.make_model(
            graph(io, classes, size, batch), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
        )
        if not bare:
            helper.set_model_props(model, metadata.encode(record(io, classes) | (change or {})))
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path

    return make
