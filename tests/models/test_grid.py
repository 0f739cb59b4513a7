"""The grid that the zoo is named for, whole: every decoder on each of its four encoders, by those names."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segzoo import create, export, load, save
from segzoo.inference import Session
from segzoo.models.base import SegmentationModel
from segzoo.models.decoders import DECODERS

ENCODERS = ["vgg16", "resnet101", "xception", "mobilenet"]


CLASSIFIER = ["fcn32s", "fcn16s", "fcn8s", "deconvnet"]
"""On VGG these carry its hidden layers, 7 x 7 x 4096, over 120 million weights: narrow but in `nox -s matrix`."""

EVERY = [(decoder, encoder) for decoder in DECODERS for encoder in ENCODERS]
DIAGONAL = {(decoder, ENCODERS[i % 4]) for i, decoder in enumerate(DECODERS)}


def model_for(decoder: str, encoder: str, *, full: bool = False) -> SegmentationModel:
    narrow = encoder == "vgg16" and decoder in CLASSIFIER and not full
    return create(decoder, encoder=encoder, num_classes=4, **({"hidden": (7, 64)} if narrow else {}))


@pytest.mark.parametrize(("decoder", "encoder"), EVERY)
def test_create_run_train_save_load(decoder: str, encoder: str, photograph: np.ndarray, tmp_path: Path) -> None:
    model = model_for(decoder, encoder)
    optimiser = torch.optim.SGD(model.parameters(), 1e-3)
    before = next(model.decoder.parameters()).clone()
    loss = torch.nn.functional.cross_entropy(
        model(model.normalise(torch.randint(0, 256, (2, 40, 50, 3), dtype=torch.uint8))),
        torch.randint(0, 4, (2, 40, 50)),
    )
    loss.backward()
    optimiser.step()
    assert loss.isfinite() and not torch.equal(next(model.decoder.parameters()), before)

    picture = np.ascontiguousarray(photograph[100:170, 200:297])
    mask = model.predict(picture)
    assert mask.shape == (70, 97)
    assert np.array_equal(load(save(model, tmp_path / "model")).predict(picture), mask)


@pytest.mark.parametrize(
    ("decoder", "encoder"),
    # An export takes half a minute: every decoder and every encoder here, every pair in `nox -s matrix`.
    [pytest.param(*pair, marks=[] if pair in DIAGONAL else pytest.mark.matrix) for pair in EVERY],
)
def test_export(decoder: str, encoder: str, photograph: np.ndarray, tmp_path: Path) -> None:
    export_and_run(model_for(decoder, encoder), photograph, tmp_path)


@pytest.mark.matrix
@pytest.mark.parametrize("decoder", CLASSIFIER)
def test_export_at_full_width(decoder: str, photograph: np.ndarray, tmp_path: Path) -> None:
    export_and_run(model_for(decoder, "vgg16", full=True), photograph, tmp_path)


def export_and_run(model: SegmentationModel, photograph: np.ndarray, folder: Path) -> None:
    picture = np.ascontiguousarray(photograph[100:170, 200:297])
    export(model, folder / "model.onnx")
    labels = Session(folder / "model.onnx", device="cpu").predict(picture)
    flips = model.config.decoder in ("segnet", "deconvnet")  # a switch may
    # One of the 6,790 pixels may be a tie between two classes.
    assert (labels == model.predict(picture)).mean() >= (0.95 if flips else 0.9998)
