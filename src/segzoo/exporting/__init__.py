"""A model as one .onnx file that carries all it needs, proved equal to the model before it gets its name."""

import copy
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
import torch

from segzoo import metadata
from segzoo.errors import ExportError
from segzoo.exporting.graph import IO, build_graph
from segzoo.exporting.proof import Case, Proof, prove
from segzoo.factory import record
from segzoo.model import SegmentationModel

__all__ = ["Case", "Export", "Proof", "export"]


@dataclass(frozen=True)
class Export:
    """A file that was written, and why it can be believed."""

    path: Path
    size: int
    """Bytes."""
    seconds: float
    opset: int
    proof: Proof

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.size / 1e6:.1f} MB, opset {self.opset}, {self.seconds:.0f} s; proved on "
            f"{len(self.proof.cases)} images: logits within {self.proof.logits_difference:.1e} of the largest, the "
            f"same label on {self.proof.label_agreement:.4%} of pixels"
        )


def export(
    model: SegmentationModel,
    path: str | os.PathLike[str],
    *,
    io: IO = "image",
    opset: int = 18,
    progress: Callable[[str], None] | None = None,
) -> Export:
    """Writes the model as one .onnx file, for any batch and any height and width from 1 up.

    The file appears only after onnxruntime has computed with it what torch computes, at four sizes other than the
    traced one, a single pixel and a batch of three among them: logits within 1e-4 of the largest, the same label on
    99.99 % of pixels. Networks that unpool must come as near on 98 % of pixels, with the same label on 99.9 %, for one
    of four images at each size: a near-tie that rounds differently flips a switch and moves a value by a pixel.

    Args:
        io: "image": input `image`, uint8 (batch, height, width, channels), RGB, 0-255; output `labels`, uint8 (batch,
            height, width). Normalisation, padding, cropping and argmax are inside. "tensor": input `image`, float32
            (batch, channels, height, width), normalised; output `logits` (batch, classes, height, width).
        opset: of the ONNX operators. onnxruntime's CUDA provider has no MaxPool from 22 on.
        progress: called with a line on what is being done.

    Returns:
        the path, its size, and the proof, which the file's metadata hold too.

    Raises:
        ExportError: the exporter failed, an axis came out fixed, the proof failed, or the folder cannot be written to.
            Nothing is left behind, and a file that was there stays.
    """
    target = Path(path)
    if io not in ("image", "tensor"):
        raise ExportError(f"io is 'image' or 'tensor', not {io!r}.")
    if target.suffix != ".onnx":
        target = target.with_name(f"{target.name}.onnx")
    if not target.parent.is_dir():
        raise ExportError(f"No folder {target.parent}. Make it first.")
    tell = progress or (lambda _: None)
    start = time.perf_counter()
    training, device = model.training, next(model.parameters()).device
    ours = model if device.type == "cpu" else copy.deepcopy(model).cpu()
    ours.eval()
    handle, aside = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=".onnx", dir=target.parent)
    os.close(handle)
    try:
        tell("tracing")
        with torch.no_grad():
            proto = build_graph(ours, io, opset)
        tell("checking")
        onnx.save(proto, aside)
        onnx.checker.check_model(aside, full_check=True)
        proof = prove(ours, aside, io, tell)
        tell("writing")
        if io == "image":
            del proto.graph.output[1]  # the logits were there to be compared
        facts = {**record(ours), "io": io, "proof": proof.to_dict(), "torch": torch.__version__}
        onnx.helper.set_model_props(proto, metadata.encode(facts))
        proto.producer_name, proto.producer_version = "segzoo", facts["version"]
        onnx.save(proto, aside)
        _require_loads(aside)
        os.chmod(aside, 0o644)
        os.replace(aside, target)
    except OSError as error:
        raise ExportError(f"Cannot write {target}: {error}.") from error
    finally:
        ours.train(training)
        if os.path.exists(aside):
            os.unlink(aside)
    return Export(target, target.stat().st_size, time.perf_counter() - start, opset, proof)


def _require_loads(path: str) -> None:
    """The file without its logits is another file than the one that was proved."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
