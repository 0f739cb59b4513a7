"""Reads the tensors of any weights file without executing code from it."""

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from segzoo._io import similar_paths
from segzoo.errors import CheckpointError, did_you_mean, shown
from segzoo.weights.diagnosis import describe_content
from segzoo.weights.resolve import OTHER_PROGRAMS, foreign
from segzoo.weights.safetensors_file import check_header

_WRAPPER_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
"""Keys under which training programs store the weights, next to the optimizer's state and the epoch."""

COMPILED = "_orig_mod."
"""What torch.compile adds to names, at any depth."""

_DEPTH = 5
"""How deep wrappers are nested at most."""


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU.

    Args:
        path: a .safetensors file, or a .pth, .pt, .bin or .ckpt file that torch.load(weights_only=True) can read: a
            state_dict, or a dictionary that holds one under "state_dict", "model_state_dict", "model", "net", "network"
            or "weights".

    Raises:
        CheckpointError: the file is missing, damaged, holds code (which is not executed) or anything but tensors.
    """
    if not path.is_file():
        hint = did_you_mean(similar_paths(path))
        raise CheckpointError(f"No file {path}.{hint} Pass the path of a weights file.")
    if path.suffix.lower() in OTHER_PROGRAMS:
        raise CheckpointError(foreign(path))
    try:
        if path.suffix == ".safetensors":
            check_header(path)
            return load_file(path)
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's errors have no common base: UnpicklingError, KeyError, IndexError, ...
        raise CheckpointError(describe_content(path) or _describe_error(path, error)) from error
    for key in _WRAPPER_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if isinstance(content, dict):
        content.pop("mask_values", None)  # milesial/Pytorch-UNet keeps the values of its masks among the tensors
    if not (isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())):
        raise CheckpointError(f"{path} holds no dictionary of tensors. Save the model's state_dict() and pass that.")
    for name, tensor in content.items():
        # With strides of 0, a few bytes can claim any shape, and copying such a tensor would fill the memory.
        if tensor.layout is torch.strided and tensor.nbytes > tensor.untyped_storage().nbytes():
            shape = shown(tuple(tensor.shape))
            raise CheckpointError(f"{path} holds fewer bytes of {shown(name)} than its shape {shape} needs.")
    return {str(name): tensor for name, tensor in content.items()}


def _describe_error(path: Path, error: Exception) -> str:
    """Why a file could not be read. torch's own message suggests allowing code to run, so it is not passed on."""
    if isinstance(error, SafetensorError | OSError | RuntimeError | EOFError | ValueError | zipfile.BadZipFile):
        reason = str(error).partition("\n")[0] or "it is incomplete"
        if "weights_only" in reason:
            reason = "it is damaged, or holds more than tensors"
        return f"Cannot read {path} as weights: {reason}"
    named = re.search(r"GLOBAL ([\w.]+)|`?([\w.]+)`? was not an allowed global", str(error))
    what = f" ({shown(named[1] or named[2])})" if named else f" ({type(error).__name__})"
    return (
        f"Cannot read {path}: it holds more than tensors{what}, which could run code, so it is not opened. Save "
        "only the tensors, with torch.save(model.state_dict(), path) or as .safetensors, and pass that file."
    )


def unwrapped(
    tensors: Mapping[str, Tensor], score: Callable[[dict[str, Tensor]], int]
) -> tuple[dict[str, Tensor], list[str]] | None:
    """The tensors of a network by its own names, whatever modules wrapped it, as in `model._orig_mod.net.`.

    Args:
        score: how many names of the network are among these; 0 if it is another network.

    Returns:
        the tensors under the shortest prefix with the highest score, and the names of all others, such as the buffers
        of a Lightning module; None if no prefix scores.
    """
    plain = {name.replace(COMPILED, ""): tensor for name, tensor in tensors.items()}
    networks: dict[str, dict[str, Tensor]] = {"": {}}  # prefix -> the tensors under it
    for name, tensor in plain.items():
        parts = name.split(".")
        for depth in range(min(len(parts), _DEPTH + 1)):
            prefix = "".join(f"{part}." for part in parts[:depth])
            networks.setdefault(prefix, {})[name[len(prefix) :]] = tensor
    scores = {prefix: score(bare) for prefix, bare in networks.items()}
    best = min(scores, key=lambda prefix: (-scores[prefix], prefix.count("."), prefix))
    if not scores[best]:
        return None
    return networks[best], [name for name in plain if not name.startswith(best)]


def _check_archive(path: Path) -> None:
    """A file of torch.save is a ZIP archive that compresses nothing, so its parts never hold more bytes than the file.

    Raises:
        ValueError: they claim more. A compressed part takes a thousand times the memory of the file.
        OSError, zipfile.BadZipFile: the file cannot be read, or is damaged.
    """
    if not zipfile.is_zipfile(path):
        return  # the format before torch 1.6, or no file of torch
    with zipfile.ZipFile(path) as archive:
        expanded = sum(part.file_size for part in archive.infolist())
    size = path.stat().st_size
    if expanded > size:
        raise ValueError(
            f"its {size:,} bytes expand to {expanded:,}, but torch.save compresses nothing. Unpack the archive, or "
            "save the weights again"
        )
