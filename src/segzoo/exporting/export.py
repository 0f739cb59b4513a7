"""export: a model as one self-contained .onnx file, verified against the model before the file appears."""

import copy
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import torch

from segzoo._arguments import explained
from segzoo._io import atomic_write, require_suffix
from segzoo.errors import ExportError, OptionError
from segzoo.exporting.onnx.calibration import Calibration, CalibrationImages, open_calibration
from segzoo.exporting.onnx.graph import build_graph, keep_outputs, name_padded_logits, strip_origin
from segzoo.exporting.onnx.int8 import MAX_IOU_LOSS, MIN_INT8_AGREEMENT, Quantization, quantize
from segzoo.exporting.onnx.verify import Verification, open_session, verify
from segzoo.models.base import SegmentationModel, evaluating
from segzoo.models.parameters import weights_sha256
from segzoo.spec import ExportSpec, GraphInput, Precision


@dataclass(frozen=True)
class Export:
    """An exported file, and the evidence that it computes what the model computes."""

    path: Path
    size: int
    """Bytes."""
    seconds: float
    opset: int
    precision: Precision
    verification: Verification
    """The comparison with the model; for int8, of the float32 graph before quantization."""
    quantization: Quantization | None = None
    """How int8 differs from float32 on images that did not calibrate it; None for the other precisions."""

    def __str__(self) -> str:
        text = (
            f"{self.path}: {self.size / 1e6:.1f} MB, {self.precision}, opset {self.opset}, {self.seconds:.0f} s; "
            f"verified on {len(self.verification.cases)} batches of images: logits within "
            f"{self.verification.logits_difference:.1e} of the largest, the same class on "
            f"{self.verification.pixel_agreement:.4%} of pixels"
        )
        return f"{text}; {self.quantization}" if self.quantization else text


@explained
def export(
    model: SegmentationModel,
    path: str | os.PathLike[str],
    *,
    input: GraphInput = "image",
    precision: Precision = "fp32",
    confidence: bool = False,
    logits: bool = False,
    static_shape: tuple[int, int, int] | None = None,
    opset: int = 18,
    calibration: Calibration | None = None,
    max_iou_loss: float = MAX_IOU_LOSS,
    min_agreement: float = MIN_INT8_AGREEMENT,
    progress: Callable[[str], None] | None = None,
) -> Export:
    """Writes the model as one .onnx file for any batch size and any height and width from 1 up.

    The file names no path of this machine and holds no source lines, and exporting again gives the same bytes. It
    appears only after onnxruntime has reproduced torch's results at four sizes other than the traced one, among them a
    single pixel and a batch of three. Logits must agree within 1e-4 of the largest, and the class on 99.99 % of pixels
    (fp16: 99.5 %; its logits are only reported). For networks that unpool, the logits of 95 % of
    pixels must agree as closely and the class on 99 % (fp16: 95 %), for the best of four images at each size: rounding
    can break a near-tie the other way, which changes a pooling index and moves a value by one pixel.

    Args:
        path: the file; ".onnx" is appended if it has no suffix.
        input: "image": the input `image` is uint8 (batch, height, width, channels), RGB, 0-255; the output `mask` is
            uint8 (batch, height, width), or int32 for more than 256 classes. The graph contains normalization, padding,
            cropping and argmax. "tensor": the input `image` is float32 (batch, channels, height, width), normalized;
            the output is `logits`.
        precision: "fp32"; "fp16", with the inputs and outputs of fp32; or "int8", quantized with `calibration`.
        confidence: adds the output `confidence`, float32 (batch, height, width): the probability of each pixel's class,
            0 to 1.
        logits: adds the output `logits`, float32 (batch, classes, height, width), which "tensor" always has.
        static_shape: (batch, height, width) of a file for this shape only; its graph contains no arithmetic on sizes.
        opset: version of the ONNX operators. onnxruntime's CUDA provider has no MaxPool from 22 on.
        calibration: for int8, ten to a hundred images like those the model will see: a folder, an array (N, H, W, C),
            an iterable of paths, PIL images or arrays, or a `SegmentationData`. Two of three calibrate the file; the
            others compare it with float32.
        max_iou_loss: for int8 and a `SegmentationData`, the largest loss of mean IoU, 0-1.
        min_agreement: for int8 and images without masks, the smallest share of pixels, 0-1, with float32's class.
        progress: called with a line of text at each step.

    Returns:
        The path, the size and the verification, which the file's metadata hold too.

    Raises:
        ExportError: the exporter failed, an axis is fixed, the verification failed, int8 changes the masks too much, a
            weight is not finite, or the folder is not writable. No partial file remains, and an existing file is
            unchanged.
        OptionError: `path` has another suffix.
        ImageError: a calibration image cannot be read.
    """
    if not isinstance(model, SegmentationModel):
        raise ExportError(f"segzoo.export takes a model from segzoo.create or segzoo.load, not {type(model).__name__}.")
    target = require_suffix(Path(path), ".onnx")
    _check_shape(static_shape)
    try:
        spec = ExportSpec(input, precision, static_shape, confidence, logits or input == "tensor", opset)
    except OptionError as error:
        raise ExportError(str(error)) from None
    _check(target, spec, calibration is not None)
    images = None if calibration is None else open_calibration(calibration, model.spec.in_channels)
    if images is not None and images.classes is not None and len(images.classes) != model.spec.num_classes:
        raise ExportError(
            f"The masks for the calibration have {len(images.classes)} classes, and the model has "
            f"{model.spec.num_classes}. Pass data with the classes it was trained on."
        )
    model.warn_of_new_head()
    if infinities := model.describe_infinities():
        raise ExportError(f"{infinities} No file was written.")
    notify = progress or (lambda _: None)
    start = time.perf_counter()
    on_cpu = model if next(model.parameters()).device.type == "cpu" else copy.deepcopy(model).cpu()
    try:
        with atomic_write(target) as draft:
            with evaluating(on_cpu):
                verification, proto, quantization = _build_verified_graph(on_cpu, draft, spec, images, notify)
            if quantization is not None:
                quantization.require(max_iou_loss, min_agreement)
            notify("writing")
            if input == "image":
                requested = {"mask": True, "confidence": confidence, "logits": logits}
                keep_outputs(proto, {name for name, kept in requested.items() if kept})
            facts = replace(
                spec,
                padded_logits=name_padded_logits(proto) if input == "image" else None,
                weights_sha256=weights_sha256(on_cpu),
                torch=str(torch.__version__),
                verification=verification.to_dict(),
                quantization=quantization.to_dict() if quantization else None,
            )
            strip_origin(proto)
            onnx.helper.set_model_props(proto, on_cpu.spec.portable().to_metadata() | facts.to_metadata())
            proto.producer_name, proto.producer_version = "segzoo", on_cpu.spec.version
            onnx.save(proto, draft)
            open_session(draft)  # the verified file had more outputs: make sure that this one loads
    except OSError as error:
        raise ExportError(f"Cannot write {target}: {error}.") from error
    seconds = time.perf_counter() - start
    return Export(target, target.stat().st_size, seconds, opset, precision, verification, quantization)


def _build_verified_graph(
    model: SegmentationModel,
    draft: Path,
    spec: ExportSpec,
    images: CalibrationImages | None,
    notify: Callable[[str], None],
) -> tuple[Verification, onnx.ModelProto, Quantization | None]:
    """Traces, checks, verifies and quantizes the model, with `draft` as the working file."""
    notify("tracing")
    with torch.no_grad():
        proto = build_graph(model, spec)
    notify("checking")
    onnx.save(proto, draft)
    _check_graph(draft)
    verification = verify(model, draft, spec, notify)
    if images is None:
        return verification, proto, None
    quantized, quantization = quantize(draft, spec, images, notify)
    return verification, quantized, quantization


def _check_shape(shape: Any) -> None:
    if shape is not None and not (
        isinstance(shape, tuple | list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)
    ):
        raise ExportError(f"static_shape must be (batch, height, width), whole numbers from 1 up, not {shape!r}.")


def _check(target: Path, spec: ExportSpec, calibrated: bool) -> None:
    """Raises ExportError for wrong arguments, before any work is done."""
    if spec.confidence and spec.input == "tensor":
        raise ExportError("confidence=True needs input='image'. A tensor graph returns logits: take their softmax.")
    if (spec.precision == "int8") != calibrated:
        raise ExportError(
            "precision='int8' needs calibration=[...]: ten to a hundred images like those the model will see."
            if spec.precision == "int8"
            else "calibration= is for precision='int8' only."
        )
    if spec.precision == "int8" and spec.input == "tensor":
        raise ExportError("precision='int8' needs input='image': it is calibrated with images, not with tensors.")
    if spec.opset < 18:
        raise ExportError(f"opset must be 18 or higher (torch's exporter writes no older ones), not {spec.opset}.")
    if not target.parent.is_dir():
        raise ExportError(f"There is no folder {target.parent}. Create it first.")


def _check_graph(path: Path) -> None:
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The exporter produced a graph that is not valid ONNX: {error}") from error
