"""Every decoder on the four named encoders and on four others, exported: `nox -s matrix` runs all pairs.

Each export is verified, placed, and compared with the model on a photograph.
"""

from pathlib import Path

import fake_cuda
import numpy as np
import onnx
import pytest
import torch
from export_cache import FC6_FC7

from segzoo import create, export
from segzoo.inference import Predictor
from segzoo.models.decoders import DECODERS

NAMED = ["vgg16", "resnet101", "xception", "mobilenet"]
OTHERS = ["vgg16_bn", "resnet50", "convnext_atto", "efficientnet_b0"]
PLAIN = [("fcn32s", "vgg16"), ("fcn16s", "resnet101"), ("fcn8s", "xception"), ("fcn", "mobilenet")]
"""One pair for each named encoder, in every run of the tests. An export takes up to half a minute."""

FC_HEAD = {"vgg16": (7, 64), "vgg16_bn": (3, 64)}
"""On VGG, fc6 and fc7 have over 120 million weights unless they are made narrower; on other encoders they do not."""


@pytest.mark.parametrize(
    ("decoder", "encoder"),
    [
        pytest.param(decoder, encoder, marks=[] if (decoder, encoder) in PLAIN else pytest.mark.matrix)
        for decoder in DECODERS
        for encoder in [*NAMED, *OTHERS]
    ],
)
def test_export(
    decoder: str, encoder: str, photograph: np.ndarray, tmp_path: Path, optional_cuda_stubs: Path | None
) -> None:
    options = {"fc_head": FC_HEAD[encoder]} if decoder in FC6_FC7 and encoder in FC_HEAD else {}
    require_equal_and_placed(decoder, encoder, photograph, tmp_path, optional_cuda_stubs, **options)


@pytest.mark.matrix
@pytest.mark.parametrize("decoder", FC6_FC7)
def test_export_at_full_width(
    decoder: str, photograph: np.ndarray, tmp_path: Path, optional_cuda_stubs: Path | None
) -> None:
    require_equal_and_placed(decoder, "vgg16", photograph, tmp_path, optional_cuda_stubs)


def require_equal_and_placed(
    decoder: str, encoder: str, photograph: np.ndarray, folder: Path, cuda_stubs: Path | None, **options: object
) -> None:
    torch.manual_seed(0)
    model = create(decoder, encoder, 4, **options)
    result = export(model, folder / "model.onnx", confidence=True)  # raises unless verified
    assert result.verification.passed

    image = np.ascontiguousarray(photograph[100:170, 200:297])
    mask = Predictor(result.path, device="cpu").predict(image).mask
    # Rounding may change pooling indices; else, one of the 6,790 pixels may be a tie between two classes.
    assert (mask == model.predict(image).mask).mean() >= (0.95 if decoder in ("segnet", "deconvnet") else 0.9998)

    operators = {node.op_type for node in onnx.load(result.path).graph.node}
    assert not {"MaxUnpool", "ScatterND", "ScatterElements", "NonZero", "Loop", "If"} & operators
    if cuda_stubs is not None:
        (placed,) = fake_cuda.placement(cuda_stubs, [result.path]).values()
        assert placed["copies"] == 0
        assert {"Conv", "Resize", "ArgMax"} <= set(placed["cuda"])
    result.path.unlink()  # up to hundreds of megabytes, and pytest keeps the folder
