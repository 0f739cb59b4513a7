"""A model as an ONNX graph: from pixels to labels, for any batch, height and width, or for one fixed size."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import onnx
import torch
from torch import Tensor, nn

from segzoo.errors import ExportError
from segzoo.models.base import SegmentationModel

IO = Literal["image", "tensor"]
Precision = Literal["fp32", "fp16", "int8"]

_LIMIT = 2**31 - 2**20
"""Bytes of one protobuf message, less some room for the graph itself."""


@dataclass(frozen=True)
class Form:
    """What a graph takes and gives."""

    io: IO = "image"
    fixed: tuple[int, int, int] | None = None
    """(batch, height, width) of a graph for one size only; None leaves all three free."""

    half: bool = False
    """Weights and arithmetic in float16; inputs and outputs stay as they are."""

    scores: bool = False
    """With io="image": a further output, the probability of each pixel's label."""


class _Graph(nn.Module):
    """What is traced. The logits are always an output: they are what the proof compares."""

    def __init__(self, model: SegmentationModel, form: Form) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).half() if form.half else model
        self.form = form

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        normalised = self.model.normalise(image) if self.form.io == "image" else image
        height, width = normalised.shape[-2:]
        # Half precision begins after the normalisation and ends before the argmax: one cast each.
        given = normalised.half() if self.form.half else normalised
        padded = self.model.scores(given, auxiliary=False)[0].float()
        logits = padded[..., :height, :width]
        if self.form.io == "tensor":
            return (logits,)
        # Cropped last, as in `classify`; the cropped logits fall out of the file where nobody asked for them.
        labels = self.model.labels_of(padded)[:, :height, :width]
        return (labels, padded.softmax(1).amax(1)[:, :height, :width], logits) if self.form.scores else (labels, logits)


def output_names(form: Form) -> list[str]:
    """Names of the outputs that are traced, in order."""
    if form.io == "tensor":
        return ["logits"]
    return ["labels", "scores", "logits"] if form.scores else ["labels", "logits"]


def unit(model: SegmentationModel) -> int:
    """What sizes are made of when a graph is traced and proved: the model's multiple, 32 where it takes any size."""
    return max(model.multiple if model.multiple > 1 else 32, model.smallest)


def example(model: SegmentationModel, form: Form) -> Tensor:
    """What the model is traced on: the fixed size, or batch 2 and more than two of the encoder's multiple on each side.

    A size of 1, or one that equals another number in the graph, could be taken for a constant.
    """
    k = unit(model)
    batch, height, width = form.fixed or (2, 2 * k + 6, 2 * k + 26)
    channels = model.config.in_channels
    if form.io == "image":
        return torch.zeros(batch, height, width, channels, dtype=torch.uint8)
    return torch.zeros(batch, channels, height, width)


def build_graph(model: SegmentationModel, form: Form, opset: int) -> onnx.ModelProto:
    """Traces the model (in eval mode, on the CPU) into a graph whose free axes are called batch, height and width.

    Raises:
        ExportError: the exporter failed, fixed a free axis, or the model does not fit one file.
    """
    size = sum(tensor.nbytes for tensor in model.state_dict().values()) // (2 if form.half else 1)
    if size > _LIMIT:
        raise ExportError(f"The weights take {size / 2**30:.1f} GiB, and one .onnx file holds 2 GiB at most.")
    axes = {0: "batch", 1: "height", 2: "width"} if form.io == "image" else {0: "batch", 2: "height", 3: "width"}
    try:
        with _quiet():
            program = torch.onnx.export(
                _Graph(model, form).eval(),
                (example(model, form),),
                dynamo=True,
                opset_version=opset,
                input_names=["image"],
                output_names=output_names(form),
                # Names, not torch.export.Dim: a strict Dim cannot express guards such as "1/32 of it is not 1".
                dynamic_shapes=None if form.fixed else (axes,),
                verbose=False,
            )
    except Exception as error:  # the exporter's own errors share no base
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"torch.onnx could not export this model: {type(error).__name__}: {reason}") from error
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    written = next(entry.version for entry in proto.opset_import if entry.domain == "")
    if written != opset:
        raise ExportError(f"opset={opset} cannot be had: torch {torch.__version__} wrote {written} instead.")
    if not form.fixed:
        _require_symbolic(proto, axes)
        _name_output_axes(proto)
    return proto


def drop_last_output(proto: onnx.ModelProto) -> None:
    """Takes the last output out of a graph, with the nodes and constants that worked for it alone.

    onnxruntime would still run the nodes, and warn of the constants.
    """
    graph = proto.graph
    del graph.output[-1]
    wanted = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):  # in topological order: who takes a value stands after who gives it
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _require_symbolic(proto: onnx.ModelProto, axes: dict[int, str]) -> None:
    """A tracer that met a guard it could not keep can fix an axis in silence; such a file would serve one size only."""
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    fixed = [f"{name}={dims[axis].dim_value}" for axis, name in axes.items() if not dims[axis].dim_param]
    if fixed:
        raise ExportError(
            f"The exporter fixed {', '.join(fixed)}: this encoder's arithmetic on sizes cannot be traced for any size. "
            "fixed=(batch, height, width) exports it for one."
        )


def _name_output_axes(proto: onnx.ModelProto) -> None:
    # They come out as "Min(height, 32*(((height + 31)//32)))", which is height.
    for output in proto.graph.output:
        dims = output.type.tensor_type.shape.dim
        dims[0].dim_param, dims[-2].dim_param, dims[-1].dim_param = "batch", "height", "width"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's remarks on itself from the user: what counts is asserted and proved afterwards."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
