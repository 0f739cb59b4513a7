"""Model repositories for NVIDIA's Triton Inference Server, written completely or not at all.

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

from segzoo.errors import ExportError
from segzoo.spec import ModelSpec
from segzoo.weights.onnx_file import OnnxGraph, Value, read_graph

MAX_BATCH = 8
"""Images per batch, the default of segzoo.inference too. Edit config.pbtxt for larger batches."""

_WRITTEN = {"config.pbtxt", "labels.txt", "1", "1/model.onnx"}


def check(repository: Path, name: str, force: bool) -> Path:
    """Returns the model's folder, after checking that it does not exist or may be replaced.

    Raises:
        ExportError: the name is invalid, or the folder exists and `force` is False, or it holds files that segzoo does
            not write.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ExportError(
            f"{name!r} is not a valid model name: use letters, digits, _, - and dots. Pass another name with --name."
        )
    if repository.exists() and not repository.is_dir():
        raise ExportError(f"{repository} is a file. Name a folder with --triton.")
    folder = repository / name
    if os.path.lexists(folder):
        if not force:
            raise ExportError(f"{folder} exists. Pass --force to replace it, or another name with --name.")
        if folder.is_symlink() or not folder.is_dir():
            raise ExportError(f"{folder} is not a folder. Move it away, or pass another name with --name.")
        others = sorted({path.relative_to(folder).as_posix() for path in folder.rglob("*")} - _WRITTEN)
        if others:
            raise ExportError(
                f"{folder} contains files that segzoo did not write, such as {others[0]}, and --force would delete "
                "them. Move the folder away, or pass another name with --name."
            )
    return folder


@contextmanager
def model_folder(repository: Path, name: str, force: bool) -> Iterator[Path]:
    """Yields the path to export model.onnx to. On exit the model's folder appears complete; after an error, not at all.

    Raises:
        ExportError: as `check`.
    """
    target = check(repository, name, force)
    new_repository = not repository.exists()
    repository.mkdir(parents=True, exist_ok=True)
    draft = repository / f".{name}.{secrets.token_hex(4)}.part"
    old = draft.with_suffix(".old")
    try:
        (draft / "1").mkdir(parents=True)
        model = draft / "1" / "model.onnx"
        yield model
        graph = read_graph(model)
        (draft / "config.pbtxt").write_text(config(graph, name), encoding="utf-8")
        (draft / "labels.txt").write_text("".join(f"{label}\n" for label in _class_names(graph)), encoding="utf-8")
        # A folder cannot be renamed to the name of one that holds files.
        if check(repository, name, force).exists():
            target.rename(old)
        try:
            draft.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    finally:
        for leftover in (draft, old):
            shutil.rmtree(leftover, ignore_errors=True)
        if new_repository and not any(repository.iterdir()):
            repository.rmdir()


def config(graph: OnnxGraph, name: str) -> str:
    """The text of config.pbtxt for a graph that segzoo exported.

    If the batch size is dynamic, Triton batches requests of the same image size, and shapes omit the batch axis.
    If it is static, Triton must not batch: max_batch_size is 0, and shapes include the batch axis.
    """
    dynamic = not isinstance(graph.inputs[0].shape[0], int)
    inputs = [_tensor(value, dynamic, "") for value in graph.inputs]
    outputs = [
        _tensor(value, dynamic, '    label_filename: "labels.txt"\n' if value.name == "mask" else "")
        for value in graph.outputs
    ]
    return (
        f"name: {json.dumps(name)}\n"
        'platform: "onnxruntime_onnx"\n'
        f"max_batch_size: {MAX_BATCH if dynamic else 0}\n"
        f"input [\n{','.join(inputs)}]\n"
        f"output [\n{','.join(outputs)}]\n" + ("dynamic_batching { }\n" if dynamic else "")
    )


def _tensor(value: Value, dynamic_batch: bool, more: str) -> str:
    data_type = {"uint8": "TYPE_UINT8", "int32": "TYPE_INT32", "float32": "TYPE_FP32"}[value.dtype]
    axes = [axis if isinstance(axis, int) else -1 for axis in value.shape]
    dims = ", ".join(map(str, axes[1:] if dynamic_batch else axes))
    return f"  {{\n    name: {json.dumps(value.name)}\n    data_type: {data_type}\n    dims: [ {dims} ]\n{more}  }}\n"


def _class_names(graph: OnnxGraph) -> tuple[str, ...]:
    spec = ModelSpec.from_metadata(graph.metadata)
    assert spec is not None  # segzoo.export has just written it
    return spec.classes.names
