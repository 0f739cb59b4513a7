"""A model as an ONNX graph: from pixels to mask, for any batch, height and width, or for one static shape."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Collection, Iterator

import onnx
import torch
from google.protobuf.message import Message
from torch import Tensor, nn

from segzoo.errors import ExportError
from segzoo.models.base import SegmentationModel
from segzoo.spec import ExportSpec

_MAX_WEIGHTS = 2**31 - 2**20
"""Bytes: the limit of one protobuf message, minus some room for the graph itself."""

PADDED_LOGITS = "padded_logits"
"""Name of the value that the argmax reads."""


class _Graph(nn.Module):
    """The module that is traced. It has every output: verification compares the logits with the model's."""

    def __init__(self, model: SegmentationModel, spec: ExportSpec) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).half() if spec.half else model
        self.spec = spec

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        normalized = self.model.normalize(image) if self.spec.input == "image" else image
        height, width = normalized.shape[-2:]
        # float16 starts after the normalization and ends before the argmax: one cast each.
        x = normalized.half() if self.spec.half else normalized
        padded = self.model.forward_padded(x, auxiliary=False)[0].float()
        logits = padded[..., :height, :width]
        if self.spec.input == "tensor":
            return (logits,)
        # The mask is cropped last, as in `classify`: a file without logits then never copies them.
        mask = self.model.to_mask(padded)[:, :height, :width]
        return mask, padded.softmax(1).amax(1)[:, :height, :width], logits


def size_unit(model: SegmentationModel) -> int:
    """The unit of the sizes to trace and verify: the model's size divisibility, or 32 if it takes any size."""
    return max(model.spec.size_divisibility if model.spec.size_divisibility > 1 else 32, model.spec.min_size)


def example_input(model: SegmentationModel, spec: ExportSpec) -> Tensor:
    """The input to trace with: the static shape, or batch 2 and a little more than two units on each side.

    A tracer could take a size of 1, or one that equals another number in the graph, for a constant.
    """
    unit = size_unit(model)
    batch, height, width = spec.static_shape or (2, 2 * unit + 6, 2 * unit + 26)
    channels = model.spec.in_channels
    if spec.input == "image":
        return torch.zeros(batch, height, width, channels, dtype=torch.uint8)
    return torch.zeros(batch, channels, height, width)


def build_graph(model: SegmentationModel, spec: ExportSpec) -> onnx.ModelProto:
    """Traces the model (in eval mode, on the CPU) into a graph whose dynamic axes are named batch, height and width.

    The outputs are `mask`, `confidence` and `logits`, whatever the spec asks for; `keep_outputs` removes the others.
    With input="tensor", the only output is `logits`.

    Raises:
        ExportError: the exporter failed or fixed a dynamic axis, or the model does not fit into one file.
    """
    size = sum(tensor.nbytes for tensor in model.state_dict().values()) // (2 if spec.half else 1)
    if size > _MAX_WEIGHTS:
        raise ExportError(
            f"The weights take {size / 2**30:.1f} GiB, and one .onnx file holds 2 GiB at most. "
            "Choose a smaller encoder, or precision='fp16'."
        )
    axes = {0: "batch", 1: "height", 2: "width"} if spec.input == "image" else {0: "batch", 2: "height", 3: "width"}
    try:
        with _quiet():
            program = torch.onnx.export(
                _Graph(model, spec).eval(),
                (example_input(model, spec),),
                dynamo=True,
                opset_version=spec.opset,
                input_names=["image"],
                output_names=["mask", "confidence", "logits"] if spec.input == "image" else ["logits"],
                # Names, not torch.export.Dim: a strict Dim cannot express guards such as "1/32 of it is not 1".
                dynamic_shapes=None if spec.static_shape else (axes,),
                verbose=False,
            )
    except Exception as error:  # the exporter's errors have no common base class
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"torch.onnx could not export this model: {type(error).__name__}: {reason}") from error
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    written = next(entry.version for entry in proto.opset_import if entry.domain == "")
    if written != spec.opset:
        raise ExportError(f"torch {torch.__version__} cannot write opset {spec.opset}; it wrote {written}.")
    if not spec.static_shape:
        _require_symbolic(proto, axes)
        _name_output_axes(proto)
    return proto


def strip_origin(message: Message) -> None:
    """Removes what says how a graph was made: source lines, paths and names of modules, 2 % of a small file.

    Exporter, optimizer and quantizer write it into the `metadata_props` and `doc_string` of the model, its graphs,
    functions, nodes, values and tensors.
    """
    for field in ("metadata_props", "doc_string"):
        if field in message.DESCRIPTOR.fields_by_name:
            message.ClearField(field)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                strip_origin(part)


def keep_outputs(proto: onnx.ModelProto, names: Collection[str]) -> None:
    """Removes all other outputs from a graph, and every node, constant and type that only they need.

    onnxruntime would still run the nodes and warn about the constants.
    """
    graph = proto.graph
    needed = set(names)
    nodes = []
    for node in reversed(graph.node):  # in topological order: a value's producer precedes its consumers
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    for field, kept in (
        (graph.output, [output for output in graph.output if output.name in names]),
        (graph.node, nodes[::-1]),
        (graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed]),
        (graph.value_info, [info for info in graph.value_info if info.name in needed]),
    ):
        del field[:]
        field.extend(kept)


def name_padded_logits(proto: onnx.ModelProto) -> str:
    """Renames the value that the mask's argmax reads to `PADDED_LOGITS`. Returns the value's name.

    A runtime can fetch the value by this name, to blend tiles or views. If the value is the output `logits` itself (the
    graph crops nothing), it keeps that name.

    Raises:
        ExportError: the mask does not come from an argmax.
    """
    graph = proto.graph
    producers = {output: node for node in graph.node for output in node.output}
    node = producers.get("mask")
    while node is not None and node.op_type != "ArgMax":
        node = producers.get(node.input[0])
    if node is None:
        raise ExportError("The exporter produced a graph whose mask does not come from an argmax.")
    name: str = node.input[0]
    if name in {output.name for output in graph.output}:
        return name
    for other in graph.node:
        other.input[:] = [PADDED_LOGITS if value == name else value for value in other.input]
        other.output[:] = [PADDED_LOGITS if value == name else value for value in other.output]
    for info in graph.value_info:
        if info.name == name:
            info.name = PADDED_LOGITS
    return PADDED_LOGITS


def _require_symbolic(proto: onnx.ModelProto, axes: dict[int, str]) -> None:
    """Refuses a graph with a fixed axis. The tracer fixes one without an error if it cannot express a guard on it."""
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    fixed = [f"{name}={dims[axis].dim_value}" for axis, name in axes.items() if not dims[axis].dim_param]
    if fixed:
        raise ExportError(
            f"The exporter fixed {', '.join(fixed)}: the sizes that this model computes cannot be traced as dynamic. "
            "Pass static_shape=(batch, height, width) to export it for one size."
        )


def _name_output_axes(proto: onnx.ModelProto) -> None:
    # The exporter writes "Min(height, 32*(((height + 31)//32)))", which equals height.
    for output in proto.graph.output:
        dims = output.type.tensor_type.shape.dim
        dims[0].dim_param, dims[-2].dim_param, dims[-1].dim_param = "batch", "height", "width"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the exporter's own warnings and log lines. Every graph is checked and verified afterwards."""
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
