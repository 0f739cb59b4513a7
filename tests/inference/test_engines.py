"""A third engine is one file: it registers a suffix, and everything else is there."""

import dataclasses
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from channels_backend import Channels, backend

import segzoo
from segzoo.errors import OptionError
from segzoo.inference import backends
from segzoo.inference.backends.base import EngineOptions
from segzoo.weights.resolve import Located


def open_channels(located: Located, device: str, options: EngineOptions) -> Channels:
    options.refuse("numpy")
    return dataclasses.replace(backend(located.path.read_text()), device_reason="Running on the CPU, because of numpy.")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        backends.ENGINES, "numpy", backends.Engine("numpy", (".channels",), f"{__name__}:open_channels")
    )
    monkeypatch.setitem(sys.modules, __name__, types.SimpleNamespace(open_channels=open_channels))


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("options", [{}, {"tile": 16, "overlap": 4}, {"tta": "flip"}, {"tile": 16, "tta": "flip"}])
@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
def test_an_engine_of_ones_own_does_everything(task: str, options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model.channels").write_text(task)
    predictor = segzoo.Predictor(tmp_path / "model.channels")
    assert predictor.device_reason == "Running on the CPU, because of numpy."
    channels = predictor.spec.in_channels
    image = np.random.default_rng(0).integers(0, 256, (30, 41, channels), np.uint8)
    result = predictor.predict(image, confidence=True, probabilities=True, **options)
    logits = np.moveaxis(image.astype(np.float32) / 255 - 0.5, 2, 0)
    if task == "multiclass":
        expected = np.exp(logits) / np.exp(logits).sum(0)
        assert np.array_equal(result.mask, image.argmax(2))
        assert np.allclose(result.confidence, expected.max(0), atol=1e-5)
    else:
        expected = logistic(logits)
        mask, sure = image > 127, np.maximum(expected, 1 - expected)
        assert np.array_equal(result.mask, mask[..., 0] if task == "binary" else np.moveaxis(mask, 2, 0))
        assert np.allclose(result.confidence, sure[0] if task == "binary" else sure, atol=1e-5)
    assert np.allclose(result.probabilities, expected, atol=1e-5)
    assert result.task == task and result.areas().keys() == set(predictor.classes.names)
    (streamed,) = predictor.stream([image])
    assert np.array_equal(streamed, predictor.submit(image).result(20))
    predictor.close()
    with pytest.raises(OptionError, match="threads cannot be set for numpy"):
        segzoo.Predictor(tmp_path / "model.channels", threads=2)


def test_a_predictor_of_a_file_can_be_pickled(make_network: Callable[..., Path]) -> None:
    path = make_network(outputs=("mask",), padded_logits="logits")
    predictor = segzoo.Predictor(path, "cpu", threads=1)
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    expected = predictor.predict(image, tile=16)
    predictor.submit(image).result(20)  # its threads and sessions are not part of the copy
    again = pickle.loads(pickle.dumps(predictor))
    assert np.array_equal(again.predict(image, tile=16), expected)
    assert repr(again) == repr(predictor)
    predictor.close()


@pytest.mark.parametrize("model", [None, 5, object(), [], b"street.onnx"])
def test_other_objects_are_no_models(model: Any) -> None:
    with pytest.raises(
        OptionError, match="Predictor takes the path of a model, a catalog key, a URL or a segzoo model"
    ):
        segzoo.Predictor(model)
