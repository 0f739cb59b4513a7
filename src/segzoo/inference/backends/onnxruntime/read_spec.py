"""Reads the specs of an .onnx file and checks them against its graph."""

from pathlib import Path

from segzoo.errors import CheckpointError, OptionError, shown
from segzoo.inference.backends.onnxruntime import ort
from segzoo.spec import ExportSpec, ModelSpec


def read_spec(session: ort.InferenceSession, path: Path) -> tuple[ModelSpec, ExportSpec]:
    """The specs of the model and of the graph.

    Raises:
        CheckpointError: segzoo did not write the file, its metadata is damaged or contradicts the graph, or it needs a
            newer segzoo.
    """
    again = "Export the model again with segzoo.export."
    try:
        pairs = session.get_modelmeta().custom_metadata_map
        for value in (*session.get_inputs(), *session.get_outputs()):
            _ = value.name, value.shape  # decoded when they are read, by whoever reads them
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{str(path)!r} is damaged: its names are not UTF-8 ({error}). {again}") from error
    try:
        spec = ModelSpec.from_metadata(pairs)
        export = None if spec is None else ExportSpec.from_metadata(pairs)
    except OptionError as error:
        raise CheckpointError(f"The metadata of {str(path)!r} is invalid: {error} {again}") from error
    if spec is None or export is None:
        raise CheckpointError(
            f"{str(path)!r} is an ONNX file without segzoo's metadata, so its classes and normalization are unknown. "
            "Export the model with segzoo.export, or run the file with onnxruntime directly."
        )
    if not spec.mean:
        raise CheckpointError(f"The metadata of {str(path)!r} is invalid: mean and std are empty. {again}")
    if (spec.task, spec.input_dtype) != ("multiclass", "uint8"):
        raise CheckpointError(
            f"{str(path)!r} holds a {spec.task} model for {spec.input_dtype} images, but this segzoo only runs "
            "multiclass models for uint8 images. Update segzoo."
        )
    problem = _contradiction(session, spec, export)
    if problem:
        raise CheckpointError(f"The metadata of {str(path)!r} contradicts its graph: {problem}. {again}")
    return spec, export


_OUTPUTS = {
    "mask": (("tensor(uint8)", "tensor(int32)"), 3),
    "confidence": (("tensor(float)",), 3),
    "logits": (("tensor(float)",), 4),
}
"""Types and number of axes."""


def _contradiction(session: ort.InferenceSession, spec: ModelSpec, export: ExportSpec) -> str | None:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        return f"the graph has {len(inputs)} inputs instead of one"
    dtype, axis, main = {
        "image": ("tensor(uint8)", 3, "mask"),
        "tensor": ("tensor(float)", 1, "logits"),
    }[export.input]
    shape = inputs[0].shape
    if inputs[0].type != dtype or len(shape) != 4:
        return f"input is {export.input!r}, but the graph takes {shown(inputs[0].type)} {shown(shape)}"
    if shape[axis] != spec.in_channels:
        return f"in_channels is {spec.in_channels}, but the graph takes {shown(shape)}"
    outputs = {output.name: output.shape for output in session.get_outputs()}
    if main not in outputs:
        return f"input is {export.input!r}, but the graph has no output named {main!r}"
    for output in session.get_outputs():
        expected = _OUTPUTS.get(output.name)
        if expected is not None and (output.type not in expected[0] or len(output.shape) != expected[1]):
            return f"the output {output.name!r} is {shown(output.type)} {shown(output.shape)}"
    for name in ("confidence", "logits"):
        if getattr(export, name) and name not in outputs:
            return f"{name} is true, but the graph has no such output"
    fixed = tuple(n for index, n in enumerate(shape) if index != axis)
    if export.static_shape is not None and fixed != export.static_shape:
        return f"static_shape is {shown(export.static_shape)}, but the graph takes {shown(shape)}"
    channels = outputs.get("logits", [])[1:2]
    if any(isinstance(n, int) and n != spec.num_classes for n in channels):
        return f"there are {spec.num_classes} classes, but the graph's logits are {shown(outputs['logits'])}"
    return None
