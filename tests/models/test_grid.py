"""The full grid: every decoder on each of the four encoders vgg16, resnet101, xception and mobilenet.

tests/exporting/test_matrix.py exports the same pairs.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from segzoo import create, load, save
from segzoo.models.base import SegmentationModel
from segzoo.models.decoders import DECODERS

ENCODERS = ["vgg16", "resnet101", "xception", "mobilenet"]

WITH_FC6_FC7 = ["fcn32s", "fcn16s", "fcn8s", "deconvnet"]
"""On VGG they have its fc6 and fc7 with over 120 million weights, which are reduced here."""

EVERY = [(decoder, encoder) for decoder in DECODERS for encoder in ENCODERS]


def model_for(decoder: str, encoder: str) -> SegmentationModel:
    reduced = encoder == "vgg16" and decoder in WITH_FC6_FC7
    return create(decoder, encoder=encoder, num_classes=4, **({"fc_head": (7, 64)} if reduced else {}))


@pytest.mark.parametrize(("decoder", "encoder"), EVERY)
def test_create_run_train_save_load(decoder: str, encoder: str, photograph: np.ndarray, tmp_path: Path) -> None:
    model = model_for(decoder, encoder)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    before = next(model.decoder.parameters()).clone()
    loss = torch.nn.functional.cross_entropy(
        model(model.normalize(torch.randint(0, 256, (2, 40, 50, 3), dtype=torch.uint8))),
        torch.randint(0, 4, (2, 40, 50)),
    )
    loss.backward()
    optimizer.step()
    assert loss.isfinite() and not torch.equal(next(model.decoder.parameters()), before)

    image = np.ascontiguousarray(photograph[100:170, 200:297])
    mask = model.predict(image).mask
    assert mask.shape == (70, 97)
    assert np.array_equal(load(save(model, tmp_path / "model")).predict(image), mask)
