"""One more output of a graph by a few bytes, without the onnx package."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from segzoo.inference.backends.onnxruntime.graph_output import with_output

MakeFile = Callable[..., Path]
Scene = Callable[..., np.ndarray]


def run(model: bytes, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def test_the_model_has_one_more_output_and_nothing_else_changes(make_network: MakeFile, scene: Scene) -> None:
    model = make_network(outputs=("mask",)).read_bytes()
    more = with_output(model, "logits")
    before, after = onnx.load_from_string(model), onnx.load_from_string(more)
    assert [output.name for output in after.graph.output] == ["mask", "logits"]
    del after.graph.output[1]
    assert before == after  # metadata, weights and nodes
    image = scene(20, 30)[None]
    given = run(more, image)
    assert np.array_equal(given["mask"], run(model, image)["mask"])
    assert np.array_equal(given["logits"].argmax(1), given["mask"])


@pytest.mark.parametrize("length", [1, 113, 128, 20_000])
def test_names_of_any_length_are_encoded(length: int, make_network: MakeFile) -> None:
    """From 128 on, protobuf needs two bytes for a length, and the lengths are nested."""
    after = onnx.load_from_string(with_output(make_network().read_bytes(), "n" * length))
    assert after.graph.output[-1].name == "n" * length


def test_an_unknown_name_is_refused(make_network: MakeFile) -> None:
    with pytest.raises(Exception, match="nothing"):
        onnxruntime.InferenceSession(
            with_output(make_network().read_bytes(), "nothing"), providers=["CPUExecutionProvider"]
        )


def test_metadata_stay(make_network: MakeFile) -> None:
    session = onnxruntime.InferenceSession(
        with_output(make_network(outputs=("mask",)).read_bytes(), "logits"), providers=["CPUExecutionProvider"]
    )
    assert json.loads(session.get_modelmeta().custom_metadata_map["segzoo.decoder"]) == "unet"
