"""What an .onnx file says about itself, checked against the graph it holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort

from segzoo import spec
from segzoo.classes import LabelSet
from segzoo.errors import CheckpointError


def read_record(session: ort.InferenceSession, path: Path) -> tuple[dict[str, Any], LabelSet]:
    """What the file says about itself, checked against the graph it holds."""
    again = "Export the model again with segzoo.export."
    try:
        record = spec.decode(session.get_modelmeta().custom_metadata_map)
    except ValueError as error:
        raise CheckpointError(f"The record in {str(path)!r} is damaged: {error}. {again}") from error
    if not record:
        raise CheckpointError(
            f"{str(path)!r} is an ONNX file without segzoo's record, so its classes and normalisation are unknown. "
            "Export the model with segzoo.export, or run the file with onnxruntime itself."
        )
    missing = [key for key in ("labels", "num_classes", "in_channels", "io") if record.get(key) is None]
    if missing:
        raise CheckpointError(f"The record in {str(path)!r} lacks {', '.join(missing)}. {again}")
    try:
        labels = LabelSet.from_dict(record["labels"])
    except ValueError as error:
        raise CheckpointError(f"The record in {str(path)!r} is damaged: {error} {again}") from error
    problem = _contradiction(session, record, labels)
    if problem:
        raise CheckpointError(f"{str(path)!r} contradicts its own record: {problem}. {again}")
    return record, labels


def _contradiction(session: ort.InferenceSession, record: Mapping[str, Any], labels: LabelSet) -> str | None:
    if record["num_classes"] != len(labels):
        return f"{record['num_classes']} classes and {len(labels)} names for them"
    expected = {"image": ("tensor(uint8)", 3), "tensor": ("tensor(float)", 1)}
    if record["io"] not in expected:
        return f"io is {record['io']!r}, neither 'image' nor 'tensor'"
    inputs = session.get_inputs()
    if len(inputs) != 1:
        return f"it has {len(inputs)} inputs and should have one"
    kind, axis = expected[record["io"]]
    shape = inputs[0].shape
    if inputs[0].type != kind or len(shape) != 4:
        return f"io is {record['io']!r}, and its input is {inputs[0].type} {shape}"
    if shape[axis] != record["in_channels"]:
        return f"in_channels is {record['in_channels']}, and its input is {shape}"
    main = {"image": "labels", "tensor": "logits"}[record["io"]]
    if main not in [output.name for output in session.get_outputs()]:
        return f"io is {record['io']!r}, and it has no output named {main!r}"
    return None
