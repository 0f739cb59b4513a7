"""An exported file as a model repository of NVIDIA's Triton Inference Server, whole or not at all.

    REPOSITORY/NAME/config.pbtxt     REPOSITORY/NAME/labels.txt     REPOSITORY/NAME/1/model.onnx

The fields are those of model_config.proto in triton-inference-server/common.
"""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from segzoo import spec
from segzoo.classes import LabelSet
from segzoo.errors import ExportError
from segzoo.exporting.onnx.file import read_graph

if TYPE_CHECKING:
    import onnx

MAX_BATCH = 8
"""As many images as segzoo.inference runs together unless told otherwise; edit config.pbtxt for more."""

_OURS = {"config.pbtxt", "labels.txt", "1", "1/model.onnx"}


def check(repository: Path, name: str, force: bool) -> Path:
    """The folder of the model, which is free or may be replaced.

    Raises:
        ExportError: the name is no name, something is there, or it holds more than `written` would write again.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ExportError(
            f"{name!r} is no name for a model: use letters, digits, _, - and dots. Pass another as --name."
        )
    if repository.exists() and not repository.is_dir():
        raise ExportError(f"{repository} is a file. Name a folder with --triton.")
    folder = repository / name
    if os.path.lexists(folder):
        if not force:
            raise ExportError(f"{folder} exists. Pass --force to replace it, or another name with --name.")
        if folder.is_symlink() or not folder.is_dir():
            raise ExportError(f"{folder} is no folder. Move it away, or pass another name with --name.")
        more = sorted({path.relative_to(folder).as_posix() for path in folder.rglob("*")} - _OURS)
        if more:
            raise ExportError(
                f"{folder} holds more than segzoo wrote, such as {more[0]}, which --force would delete. Move it away, "
                "or pass another name with --name."
            )
    return folder


@contextmanager
def written(repository: Path, name: str, force: bool) -> Iterator[Path]:
    """Gives a path to export model.onnx to; at the end all of the model's folder appears, or nothing after an error."""
    target = check(repository, name, force)
    made = not repository.exists()
    repository.mkdir(parents=True, exist_ok=True)
    aside = repository / f".{name}.{secrets.token_hex(4)}.part"
    old = aside.with_suffix(".old")
    try:
        (aside / "1").mkdir(parents=True)
        model = aside / "1" / "model.onnx"
        yield model
        graph = read_graph(model)
        (aside / "config.pbtxt").write_text(config(graph, name), encoding="utf-8")
        (aside / "labels.txt").write_text("".join(f"{one}\n" for one in _labels(graph).names), encoding="utf-8")
        # A folder cannot be renamed onto one that holds files.
        if check(repository, name, force).exists():
            target.rename(old)
        try:
            aside.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    finally:
        for left in (aside, old):
            shutil.rmtree(left, ignore_errors=True)
        if made and not any(repository.iterdir()):
            repository.rmdir()


def config(graph: "onnx.ModelProto", name: str) -> str:
    """The text of config.pbtxt for a graph that segzoo exported.

    Where the batch is free, Triton gathers requests of one size into batches, and the shapes below are without it.
    Where the file fixes the batch, Triton must not touch it: max_batch_size is 0, and the shapes are whole.
    """
    free = not graph.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")
    inputs = [_value(value, free, "") for value in graph.graph.input]
    outputs = [
        _value(value, free, '    label_filename: "labels.txt"\n' if value.name == "labels" else "")
        for value in graph.graph.output
    ]
    return (
        f"name: {json.dumps(name)}\n"
        'platform: "onnxruntime_onnx"\n'
        f"max_batch_size: {MAX_BATCH if free else 0}\n"
        f"input [\n{','.join(inputs)}]\n"
        f"output [\n{','.join(outputs)}]\n" + ("dynamic_batching { }\n" if free else "")
    )


def _value(value: "onnx.ValueInfoProto", free: bool, more: str) -> str:
    import numpy as np
    import onnx

    tensor = value.type.tensor_type
    kinds = {"uint8": "TYPE_UINT8", "int32": "TYPE_INT32", "float32": "TYPE_FP32"}
    kind = kinds[np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name]
    axes = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim]
    dims = ", ".join(map(str, axes[1:] if free else axes))
    return f"  {{\n    name: {json.dumps(value.name)}\n    data_type: {kind}\n    dims: [ {dims} ]\n{more}  }}\n"


def _labels(graph: "onnx.ModelProto") -> LabelSet:
    return LabelSet.from_dict(spec.decode({pair.key: pair.value for pair in graph.metadata_props})["labels"])
