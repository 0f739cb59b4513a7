"""Exports of the papers' networks: verified, and on the GPU without a copy."""

from pathlib import Path

import fake_cuda
import onnx
import pytest
import torch
from export_cache import ExportCache, small_paper

from segzoo import create, export
from segzoo.exporting.export import Export
from segzoo.models.papers import PAPERS


def require_placed(result: Export, cuda_stubs: Path | None) -> None:
    operators = {node.op_type for node in onnx.load(result.path).graph.node}
    assert not {"MaxUnpool", "ScatterND", "ScatterElements", "NonZero", "Loop", "If"} & operators
    if cuda_stubs is not None:
        (placed,) = fake_cuda.placement(cuda_stubs, [result.path]).values()
        assert placed["copies"] == 0
        assert {"Conv", "ArgMax"} <= set(placed["cuda"])


@pytest.mark.parametrize("name", ["paper/unet", "paper/conv_deconv"])
def test_borders_and_standardization_are_in_the_graph(
    name: str, export_cache: ExportCache, optional_cuda_stubs: Path | None
) -> None:
    """They depend on the image's size and on all of its pixels. Verification includes an image of a single pixel."""
    result = export_cache(small_paper(name), confidence=True)  # raises unless verified
    assert result.verification.passed
    assert (1, 1, 1) in {case.size for case in result.verification.cases}
    assert result.verification.logits_difference < 1e-4
    require_placed(result, optional_cuda_stubs)


@pytest.mark.matrix
@pytest.mark.parametrize("name", [name for name in PAPERS if name != "paper/unet"])  # the test above exports that one
def test_every_network(name: str, tmp_path: Path, optional_cuda_stubs: Path | None) -> None:
    torch.manual_seed(0)
    result = export(create(name), tmp_path / "m.onnx", confidence=True)  # raises unless verified
    assert result.verification.passed
    require_placed(result, optional_cuda_stubs)
    result.path.unlink()  # up to hundreds of megabytes, and pytest keeps the folder
