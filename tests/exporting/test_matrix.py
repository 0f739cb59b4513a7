"""Every decoder on one encoder of each kind, and every paper's network: `nox -s matrix`, some twenty minutes.

Each is exported, proved, and placed.
"""

from pathlib import Path

import fake_cuda
import onnx
import pytest

from segzoo import create, export
from segzoo.models.base import SegmentationModel
from segzoo.models.decoders import DECODERS
from segzoo.models.papers import PAPERS

ENCODERS = ["vgg16_bn", "resnet50", "xception", "mobilenet", "convnext_atto", "efficientnet_b0"]


@pytest.mark.matrix
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_exported_proved_and_on_the_gpu(decoder: str, encoder: str, tmp_path: Path) -> None:
    narrow = {"hidden": (3, 64)} if decoder in ("fcn32s", "fcn16s", "fcn8s", "deconvnet") else {}
    model = create(decoder, encoder=encoder, num_classes=7, **narrow)
    require_proved_and_placed(model, tmp_path, {"Conv", "Resize", "ArgMax"})


@pytest.mark.matrix
@pytest.mark.parametrize("name", PAPERS)
def test_papers_are_exported_proved_and_on_the_gpu(name: str, tmp_path: Path) -> None:
    require_proved_and_placed(create(name), tmp_path, {"Conv", "ArgMax"})


def require_proved_and_placed(model: SegmentationModel, tmp_path: Path, on_cuda: set[str]) -> None:
    result = export(model, tmp_path / "m.onnx", scores=True)  # raises unless proved
    assert result.proof.holds
    operators = {node.op_type for node in onnx.load(result.path).graph.node}
    assert not {"MaxUnpool", "ScatterND", "ScatterElements", "NonZero", "Loop", "If"} & operators
    if fake_cuda.why_not() is None:
        fake_cuda.build(tmp_path)
        (placed,) = fake_cuda.placement(tmp_path, [result.path]).values()
        assert placed["copies"] == 0
        assert on_cuda <= set(placed["cuda"])
