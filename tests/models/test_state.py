"""What `save` writes, `load` reads: a network that was changed is refused before anything is replaced."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import segzoo
from segzoo.errors import CheckpointError
from segzoo.models.base import SegmentationModel

IMAGES = torch.randint(0, 256, (1, 24, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def network() -> SegmentationModel:
    torch.manual_seed(0)
    return segzoo.create("unet", "test_resnet", num_classes=3).eval()


def compile_a_part(model: SegmentationModel) -> None:
    model.encoder = torch.compile(model.encoder)
    model.decoder.head = torch.compile(model.decoder.head)


def tie(model: SegmentationModel) -> None:
    first, second = model.encoder.net.layer1[0].conv1, model.encoder.net.layer1[0].conv2
    second.weight = first.weight


@torch.no_grad()
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("change", [compile_a_part, tie, torch.compile])
def test_a_changed_network_that_is_the_same_is_saved(
    change: Callable[[SegmentationModel], SegmentationModel | None], half: bool, tmp_path: Path
) -> None:
    model = network()
    changed = change(model)
    path = segzoo.save(model if changed is None else changed, tmp_path / "m", half=half)
    expected, stored = model.state_dict(), segzoo.load(path).state_dict()
    assert [name.replace("_orig_mod.", "") for name in expected] == list(stored)
    for one, other in zip(expected.values(), stored.values(), strict=True):
        assert torch.equal(one.half().float() if half and one.ndim > 1 else one, other)


def new_head(model: SegmentationModel) -> None:
    model.decoder.head = nn.Conv2d(model.decoder.head.in_channels, 7, 1)


def added_layer(model: SegmentationModel) -> None:
    model.more = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: nn.utils.parametrizations.weight_norm(m.decoder.head),
            r"lacks decoder\.head\.weight; it has .*orig",
        ),
        (new_head, r"has decoder\.head\.weight as \(7, .*num_classes=N"),
        (added_layer, r"has more\.weight, which the model lacks"),
    ],
)
def test_a_network_that_load_cannot_rebuild_is_refused(
    change: Callable[[SegmentationModel], object], message: str, tmp_path: Path
) -> None:
    model = network()
    path = segzoo.save(model, tmp_path / "m.safetensors")
    before = path.read_bytes()
    change(model)
    with pytest.raises(CheckpointError, match=f"cannot be saved.*{message}"):
        segzoo.save(model, path)
    assert path.read_bytes() == before
    with pytest.raises(CheckpointError, match=message):
        segzoo.save(model, tmp_path / "folder/")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_reported(value: float, tmp_path: Path) -> None:
    model = network()
    image = np.asarray(IMAGES[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(image)
    with torch.no_grad():
        model.decoder.head.weight[0, 0] = value
    with pytest.warns(UserWarning, match=r"1 tensors of .* such as decoder\.head\.weight, so masks are meaningless"):
        model.predict(image)
    with pytest.raises(segzoo.errors.ExportError, match="masks are meaningless"):
        segzoo.export(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
