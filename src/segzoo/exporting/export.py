"""A model as one .onnx file that carries all it needs, proved equal to the model before it gets its name."""

import copy
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from segzoo import spec
from segzoo._io import with_ending, written_aside
from segzoo.data.images import ImageLike
from segzoo.errors import ExportError
from segzoo.exporting.onnx.graph import IO, Form, Precision, build_graph, drop_last_output
from segzoo.exporting.onnx.int8 import Quantisation, quantise
from segzoo.exporting.onnx.verify import Case, Proof, open_session, prove
from segzoo.models.base import SegmentationModel, evaluating
from segzoo.models.create import record, weights_sha256

__all__ = ["Case", "Export", "Proof", "Quantisation", "export"]


@dataclass(frozen=True)
class Export:
    """A file that was written, and why it can be believed."""

    path: Path
    size: int
    """Bytes."""
    seconds: float
    opset: int
    precision: Precision
    proof: Proof
    """Of the graph; for int8, of the float32 graph that was quantised."""
    quantisation: Quantisation | None = None
    """What int8 changed, on the calibration images; None for the other precisions."""

    def __str__(self) -> str:
        text = (
            f"{self.path}: {self.size / 1e6:.1f} MB, {self.precision}, opset {self.opset}, {self.seconds:.0f} s; "
            f"proved on {len(self.proof.cases)} batches of images: logits within {self.proof.logits_difference:.1e} of "
            f"the largest, the same label on {self.proof.label_agreement:.4%} of pixels"
        )
        return f"{text}; {self.quantisation}" if self.quantisation else text


def export(
    model: SegmentationModel,
    path: str | os.PathLike[str],
    *,
    io: IO = "image",
    precision: Precision = "fp32",
    scores: bool = False,
    logits: bool = False,
    fixed: tuple[int, int, int] | None = None,
    opset: int = 18,
    calibration: Sequence[ImageLike] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Export:
    """Writes the model as one .onnx file, for any batch and any height and width from 1 up.

    The file appears only after onnxruntime has computed with it what torch computes, at four sizes other than the
    traced one, a single pixel and a batch of three among them: logits within 1e-4 of the largest, the same label on
    99.99 % of pixels (fp16: 99.5 %, and the logits are only reported). Networks that unpool must come as near on 95 %
    of pixels, with the same label on 99 % (fp16: 95 %), taking the best of four images at each size: a near-tie that
    rounds differently flips a switch and moves a value by a pixel.

    Args:
        path: the file; ".onnx" is added where it has no ending.
        io: "image": input `image`, uint8 (batch, height, width, channels), RGB, 0-255; output `labels`, uint8 (batch,
            height, width), int32 for more than 256 classes. Normalisation, padding, cropping and argmax are inside.
            "tensor": input `image`, float32 (batch, channels, height, width), normalised; output `logits`.
        precision: "fp32"; "fp16", with the inputs and outputs of fp32; or "int8", quantised on `calibration`.
        scores: a further output `scores`, float32 (batch, height, width): the probability of each label, 0 to 1.
        logits: a further output `logits`, float32 (batch, classes, height, width); "tensor" has it in any case.
        fixed: (batch, height, width) of a file for this one size; such a graph has no arithmetic on sizes left.
        opset: of the ONNX operators. onnxruntime's CUDA provider has no MaxPool from 22 on.
        calibration: for int8, some ten to a hundred images like those to come: paths, PIL images or arrays.
        progress: called with a line on what is being done.

    Returns:
        the path, its size, and the proof, which the file's metadata hold too.

    Raises:
        ExportError: the exporter failed, an axis came out fixed, the proof failed, or the folder cannot be written to.
            Nothing is left behind, and a file that was there stays.
        OptionError: `path` has another ending.
        ImageError: an image of `calibration` cannot be read.
    """
    if not isinstance(model, SegmentationModel):
        raise ExportError(f"segzoo.export takes a model of segzoo.create or segzoo.load, not {type(model).__name__}.")
    target = with_ending(Path(path), ".onnx")
    _check(target, io, precision, scores, fixed, opset, calibration)
    model.warn_of_new_head()
    tell = progress or (lambda _: None)
    start = time.perf_counter()
    ours = model if next(model.parameters()).device.type == "cpu" else copy.deepcopy(model).cpu()
    form = Form(io, fixed, half=precision == "fp16", scores=scores)
    try:
        with written_aside(target) as aside:
            with evaluating(ours):
                proof, proto, quantisation = _prove_graph(ours, aside, form, precision, opset, calibration or (), tell)
            tell("writing")
            if io == "image" and not logits:
                drop_last_output(proto)  # the logits were there to be compared
            facts = {
                **record(ours),
                "io": io,
                "precision": precision,
                "multiple": ours.multiple,
                "weights_sha256": weights_sha256(ours),
                "torch": str(torch.__version__),
                "proof": proof.to_dict(),
                "quantisation": quantisation.to_dict() if quantisation else None,
            }
            onnx.helper.set_model_props(proto, spec.encode(facts))
            proto.producer_name, proto.producer_version = "segzoo", facts["version"]
            onnx.save(proto, aside)
            open_session(aside)  # without its logits it is another file than the one that was proved
    except OSError as error:
        raise ExportError(f"Cannot write {target}: {error}.") from error
    seconds = time.perf_counter() - start
    return Export(target, target.stat().st_size, seconds, opset, precision, proof, quantisation)


def _prove_graph(
    model: SegmentationModel,
    aside: Path,
    form: Form,
    precision: Precision,
    opset: int,
    calibration: Sequence[ImageLike],
    tell: Callable[[str], None],
) -> tuple[Proof, onnx.ModelProto, Quantisation | None]:
    """Traces, checks, proves, quantises; `aside` is written to on the way."""
    tell("tracing")
    with torch.no_grad():
        proto = build_graph(model, form, opset)
    tell("checking")
    onnx.save(proto, aside)
    _check_graph(aside)
    proof = prove(model, aside, form, tell)
    if precision != "int8":
        return proof, proto, None
    quantised, account = quantise(aside, form, calibration, model.config.in_channels, tell)
    return proof, quantised, account


def _check(
    target: Path,
    io: str,
    precision: str,
    scores: bool,
    fixed: tuple[int, int, int] | None,
    opset: int,
    calibration: Sequence[ImageLike] | None,
) -> None:
    """Refuses what cannot be meant, before any work is done."""
    if io not in ("image", "tensor"):
        raise ExportError(f"io is 'image' or 'tensor', not {io!r}.")
    if precision not in ("fp32", "fp16", "int8"):
        raise ExportError(f"precision is 'fp32', 'fp16' or 'int8', not {precision!r}.")
    if scores and io == "tensor":
        raise ExportError("scores=True needs io='image': a tensor graph gives logits, of which you take the softmax.")
    whole = isinstance(fixed, tuple | list) and len(fixed) == 3 and all(isinstance(n, int) and n > 0 for n in fixed)
    if fixed is not None and not whole:
        raise ExportError(f"fixed is (batch, height, width), whole numbers, each at least 1, not {fixed!r}.")
    if (precision == "int8") != bool(calibration):
        raise ExportError(
            "precision='int8' needs calibration=[...], some ten to a hundred images like those to come."
            if precision == "int8"
            else "calibration= is for precision='int8' only."
        )
    if opset < 18:
        raise ExportError(f"The oldest opset that torch's exporter writes is 18, not {opset}.")
    if not target.parent.is_dir():
        raise ExportError(f"No folder {target.parent}. Make it first.")


def _check_graph(path: Path) -> None:
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The exporter made a graph that is not valid ONNX: {error}") from error
