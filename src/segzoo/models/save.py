"""`save`: a model as a self-contained file."""

import os
from pathlib import Path

from torch import Tensor

from segzoo._arguments import explained
from segzoo._io import atomic_write
from segzoo.errors import CheckpointError, OptionError, SegzooError
from segzoo.models.base import SegmentationModel
from segzoo.models.parameters import count_parameters
from segzoo.models.state import own_state
from segzoo.weights import checkpoint
from segzoo.weights.card import model_card
from segzoo.weights.hub import FILE


@explained
def save(model: SegmentationModel, path: str | os.PathLike[str], *, half: bool = False) -> Path:
    """Writes one .safetensors file from which `load` rebuilds the model, without any other file.

    The write is atomic: an existing file is either replaced or left unchanged.

    Args:
        path: a file; ".safetensors" is appended if missing. Or a folder, either existing or written with a trailing
            slash: it gets model.safetensors and, unless it has one, a README.md with the hub's model card.
        half: store convolution kernels as float16, in half the space. One-dimensional tensors (biases, normalization)
            are about 1 % of the weights and keep their dtype. `load` returns float32 in any case.

    Returns:
        the path of the .safetensors file.

    Raises:
        CheckpointError: the file cannot be written, a weight is too large for float16, or the network is not the one
            that `load` would build: a weight_norm was added, or a layer replaced. Compiled modules are no difference.
    """
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    if not isinstance(model, SegmentationModel):
        raise CheckpointError(f"segzoo.save takes a model from segzoo.create or load, not {type(model).__name__}.")
    if not os.fspath(path):
        raise OptionError("The path to save the model to is empty. Pass the path of a file or a folder.")
    target = Path(path)
    if target.is_dir() or os.fspath(path).endswith(("/", os.sep)):
        return _save_folder(model, target, half)
    if target.suffix != ".safetensors":
        target = target.with_name(f"{target.name}.safetensors")
    checkpoint.write(target, _tensors(model, half), model.spec)
    return target


def _tensors(model: SegmentationModel, half: bool) -> dict[str, Tensor]:
    try:
        tensors = own_state(model)
    except SegzooError as error:
        raise CheckpointError(f"The model cannot be saved: {error}. Nothing was written.") from error
    return checkpoint.halved(tensors) if half else tensors


def _save_folder(model: SegmentationModel, folder: Path, half: bool) -> Path:
    target, readme = folder / FILE, folder / "README.md"
    tensors = _tensors(model, half)
    try:
        folder.mkdir(exist_ok=True)
        checkpoint.write(target, tensors, model.spec)
        if not readme.exists():  # a card is meant to be edited
            with atomic_write(readme) as draft:
                card = model_card(model.spec.portable(), count_parameters(model), "path/to/this/folder")
                draft.write_text(card, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"Cannot write {folder}: {error}.") from error
    return target
