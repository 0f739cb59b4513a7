"""The grid that the zoo is named for, whole: every decoder on each of its four encoders, by those names."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segzoo import create, export, load, save
from segzoo.decoders import DECODERS
from segzoo.model import SegmentationModel
from segzoo.runtime import Session

ENCODERS = ["vgg16", "resnet101", "xception", "mobilenet"]


CLASSIFIER = ["fcn32s", "fcn16s", "fcn8s", "deconvnet"]
"""On VGG these carry its hidden layers, 7 x 7 x 4096: 120 to 240 million weights, narrowed here but for `nox -s matrix`."""


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_create_run_train_save_load_export(decoder: str, encoder: str, photograph: np.ndarray, tmp_path: Path) -> None:
    narrow = {"hidden": (7, 64)} if encoder == "vgg16" and decoder in CLASSIFIER else {}
    check(create(decoder, encoder=encoder, num_classes=4, **narrow), photograph, tmp_path)


@pytest.mark.matrix
@pytest.mark.parametrize("decoder", CLASSIFIER)
def test_the_largest_at_full_width(decoder: str, photograph: np.ndarray, tmp_path: Path) -> None:
    check(create(decoder, encoder="vgg16", num_classes=4), photograph, tmp_path)


def check(model: SegmentationModel, photograph: np.ndarray, folder: Path) -> None:
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
    model = load(save(model, folder / "model"))
    assert np.array_equal(model.predict(picture), mask)

    export(model, folder / "model.onnx")
    labels = Session(folder / "model.onnx", device="cpu").predict(picture)
    assert (labels == mask).mean() >= (
        0.97 if model.config.decoder in ("segnet", "deconvnet") else 0.9999
    )  # a switch may flip
