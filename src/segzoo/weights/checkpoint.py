"""segzoo's own file: a .safetensors whose header holds what rebuilds the model.

Tensors and metadata only, so that opening one never runs anybody's code.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from segzoo import spec
from segzoo._io import written_aside
from segzoo.errors import CheckpointError


def halved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with kernels as float16; what has one axis (biases, normalisation) is small and stays as it is.

    Raises:
        CheckpointError: a value that float16 cannot hold.
    """
    found = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.ndim < 2:
            found[name] = tensor
            continue
        found[name] = tensor.half()
        if not found[name].isfinite().all():
            raise CheckpointError(f"{name} holds values beyond float16's 65504. Save the model without half.")
    return found


def write(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Writes aside, then renames: a good file is never replaced by a broken one.

    Raises:
        CheckpointError: it cannot be written there; an existing file is then unchanged.
    """
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    if not path.parent.is_dir():
        raise CheckpointError(f"Cannot write {path}: there is no folder {path.parent}. Make it first.")
    try:
        with written_aside(path) as aside:
            save_file(contiguous, aside, spec.encode(record))
            with aside.open("rb") as file:
                os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"Cannot write {path}: {error}. Nothing was changed there.") from error


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The record and the tensors (mapped from the file, on the CPU).

    Raises:
        CheckpointError: no file, not a whole .safetensors, or one that segzoo did not write.
    """
    with _opened(path) as (file, record):
        return record, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def read_record(path: Path) -> dict[str, Any]:
    """What the file says of itself; no tensor is read.

    Raises:
        CheckpointError: as `read`.
    """
    with _opened(path) as (_, record):
        return record


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The open file and its record."""
    if not path.is_file():
        raise CheckpointError(f"No file {path}. segzoo.load takes the path of a file that segzoo.save wrote.")
    if path.suffix == ".onnx":
        raise CheckpointError(f"{path} is an exported graph: segzoo.inference.Session({str(path)!r}) runs it.")
    try:
        with safe_open(path, framework="pt") as file:
            record = spec.decode(file.metadata() or {})
            if record:
                yield file, record
    except (OSError, SafetensorError, ValueError) as error:
        if path.suffix in (".pth", ".pt", ".bin", ".ckpt", ".caffemodel"):
            raise CheckpointError(
                f"{path} is not a file of segzoo.save. If it is torchvision's FCN, segmentation-models-pytorch's Unet "
                f"or one of the Caffe authors' networks, segzoo.convert({str(path)!r}) makes a model of it; encoder "
                "weights go to create's encoder_weights=."
            ) from error
        raise CheckpointError(
            f"{path} is not a whole .safetensors file ({error}). Copy or download it again, and compare its sha256."
        ) from error
    if not record:
        raise CheckpointError(
            f"{path} holds weights but not what rebuilds the model: segzoo.save did not write it. "
            "segzoo.convert reads those of torchvision and segmentation-models-pytorch; with any other, create the "
            "model by name, fill it with load_state_dict, and segzoo.save that."
        )
