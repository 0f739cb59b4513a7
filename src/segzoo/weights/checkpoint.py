"""segzoo's checkpoint format: a .safetensors file whose header holds the `ModelSpec` that rebuilds the model.

Such a file holds only tensors and metadata, so opening it never runs code.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from segzoo._io import atomic_write, similar_paths
from segzoo.errors import CheckpointError, OptionError, did_you_mean
from segzoo.spec import ModelSpec
from segzoo.weights.diagnosis import describe_content
from segzoo.weights.resolve import foreign
from segzoo.weights.safetensors_file import check_header, open_tensors


def halved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with kernels as float16. One-dimensional tensors (biases, normalization) are small and stay as is.

    Raises:
        CheckpointError: float16 cannot represent one of the values.
    """
    stored = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.ndim < 2:
            stored[name] = tensor
            continue
        stored[name] = tensor.half()
        if not stored[name].isfinite().all():
            raise CheckpointError(f"{name} holds values beyond float16's 65504. Save the model without half.")
    return stored


def write(path: Path, tensors: Mapping[str, Tensor], spec: ModelSpec) -> None:
    """Writes the file atomically: an incomplete file never replaces an existing one.

    Raises:
        CheckpointError: the file cannot be written. An existing file is then unchanged.
    """
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    if not path.parent.is_dir():
        raise CheckpointError(f"Cannot write {path}: there is no folder {path.parent}. Create it first.")
    try:
        with atomic_write(path) as draft:
            save_file(contiguous, draft, spec.to_metadata())
            check_header(draft)  # so that no file is written that cannot be read
            with draft.open("rb") as file:
                os.fsync(file.fileno())
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"Cannot write {path}: {error}. Nothing was changed there.") from error


def read(path: Path) -> tuple[ModelSpec, dict[str, Tensor]]:
    """The spec and the tensors of a file, memory-mapped on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, written by a newer segzoo or not written by segzoo.
    """
    with _open(path) as (file, spec):
        return spec, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def read_spec(path: Path) -> ModelSpec:
    """The spec of a file; no tensor is read.

    Raises:
        CheckpointError: as `read`.
    """
    with _open(path) as (_, spec):
        return spec


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, ModelSpec]]:
    """Yields the open file and its spec."""
    if not path.is_file():
        hint = did_you_mean(similar_paths(path))
        raise CheckpointError(f"No file {path}.{hint} segzoo.load takes the path of a file that segzoo.save wrote.")
    if path.suffix == ".onnx":
        raise CheckpointError(f"{path} is an exported graph. Run it with segzoo.Predictor({str(path)!r}).")
    try:
        with open_tensors(path, "pt") as file:
            try:
                spec = ModelSpec.from_metadata(file.metadata() or {})
            except OptionError as error:
                raise CheckpointError(
                    f"The record in {path} is damaged or newer than this segzoo: {error} If it is damaged, copy or "
                    "save the file again."
                ) from error
            if spec is not None:
                yield file, spec
    except (OSError, SafetensorError, ValueError) as error:
        if (advice := describe_content(path) or foreign(path)) is not None:
            raise CheckpointError(advice) from error
        raise CheckpointError(
            f"{path} is not a complete .safetensors file ({error}). Copy or download it again, and compare its sha256."
        ) from error
    if spec is None:
        raise CheckpointError(
            f"{path} holds weights but no description of the model: segzoo.save did not write it. segzoo.convert "
            "reads weights of torchvision and segmentation-models-pytorch. For any others, create the model by name, "
            "call its load_state_dict, and save it with segzoo.save."
        )
