"""The papers' own networks as graphs: proved, and on the GPU without a copy."""

from pathlib import Path

import fake_cuda
import pytest
import torch

from segzoo import create, export
from segzoo.exporting.export import Export
from segzoo.models.papers import PAPERS


def exported(name: str, folder: Path) -> Export:
    torch.manual_seed(0)
    result = export(create(name), folder / "m.onnx", scores=True)  # raises unless proved
    if fake_cuda.why_not() is None:
        fake_cuda.build(folder)
        (placed,) = fake_cuda.placement(folder, [result.path]).values()
        assert placed["copies"] == 0
        assert {"Conv", "ArgMax"} <= set(placed["cuda"])
    return result


@pytest.mark.parametrize("name", ["paper/unet", "paper/conv_deconv"])
def test_borders_and_standardisation_are_in_the_graph(name: str, tmp_path: Path) -> None:
    """What depends on the image's size, and on all its pixels; a single pixel is among the images of the proof."""
    proof = exported(name, tmp_path).proof
    assert (1, 1, 1) in {case.size for case in proof.cases}
    assert proof.logits_difference < 1e-4


@pytest.mark.matrix
@pytest.mark.parametrize("name", PAPERS)
def test_every_network_is_exported_proved_and_on_the_gpu(name: str, tmp_path: Path) -> None:
    assert exported(name, tmp_path).proof.holds
