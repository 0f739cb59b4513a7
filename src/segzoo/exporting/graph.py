"""A model as an ONNX graph with dynamic batch, height and width."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Literal

import onnx
import torch
from torch import Tensor, nn

from segzoo.errors import ExportError
from segzoo.model import SegmentationModel

IO = Literal["image", "tensor"]

_LIMIT = 2**31 - 2**20
"""Bytes of one protobuf message, less some room for the graph itself."""


class _ImageGraph(nn.Module):
    """uint8 images (N, H, W, C) -> labels and logits."""

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.classify(image)


def example(model: SegmentationModel, kind: IO) -> Tensor:
    """What the model is traced on: batch 2, and more than two of the encoder's multiple on each side.

    A size of 1, or one that equals another number in the graph, could be taken for a constant.
    """
    k = model.encoder.multiple
    size = (2, 2 * k + 6, 2 * k + 26)
    channels = model.config.in_channels
    if kind == "image":
        return torch.zeros(*size, channels, dtype=torch.uint8)
    return torch.zeros(size[0], channels, *size[1:])


def build_graph(model: SegmentationModel, kind: IO, opset: int) -> onnx.ModelProto:
    """Traces the model (in eval mode, on the CPU) into a graph.

    Inputs and outputs are named and their dynamic axes are called batch, height and width:
        kind "image":  image uint8 (batch, height, width, channels) -> labels uint8 (batch, height, width), logits
        kind "tensor": image float32 (batch, channels, height, width) -> logits (batch, classes, height, width)

    Raises:
        ExportError: the exporter failed, fixed an axis, or the model does not fit one file.
    """
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    if size > _LIMIT:
        raise ExportError(f"The weights take {size / 2**30:.1f} GiB, and one .onnx file holds 2 GiB at most.")
    graph: nn.Module = _ImageGraph(model) if kind == "image" else model
    axes = {0: "batch", 1: "height", 2: "width"} if kind == "image" else {0: "batch", 2: "height", 3: "width"}
    outputs = ["labels", "logits"] if kind == "image" else ["logits"]
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                (example(model, kind),),
                dynamo=True,
                opset_version=opset,
                input_names=["image"],
                output_names=outputs,
                # Names, not torch.export.Dim: a strict Dim cannot express guards such as "1/32 of it is not 1".
                dynamic_shapes=(axes,),
                verbose=False,
            )
    except Exception as error:  # the exporter's own errors share no base
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"torch.onnx could not export this model: {type(error).__name__}: {reason}") from error
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    _require_symbolic(proto, axes)
    _name_output_axes(proto)
    return proto


def _require_symbolic(proto: onnx.ModelProto, axes: dict[int, str]) -> None:
    """A tracer that met a guard it could not keep can fix an axis in silence; such a file would serve one size only."""
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    fixed = [f"{name}={dims[axis].dim_value}" for axis, name in axes.items() if not dims[axis].dim_param]
    if fixed:
        raise ExportError(
            f"The exporter fixed {', '.join(fixed)}: this encoder's arithmetic on sizes cannot be traced for any size."
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
