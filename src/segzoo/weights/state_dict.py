"""Anybody's file of weights, read without running anybody's code."""

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from segzoo.errors import CheckpointError

_WRAPPED_IN = ("state_dict", "model_state_dict", "model")
"""Where training programs put the weights, beside the optimiser's state and the epoch."""


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU.

    Args:
        path: .safetensors, or a .pth/.pt/.bin/.ckpt that torch.load(weights_only=True) reads: a state_dict, or a
            dictionary that holds one under "state_dict", "model_state_dict" or "model".

    Raises:
        CheckpointError: no such file, not whole, it holds code (which is not run), or something else than tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"No file {path}. Pass the path of a weights file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0] or "it is not whole"
        raise CheckpointError(f"Cannot read {path} as weights: {reason}") from error
    except Exception as error:  # pickle's own errors share no base: UnpicklingError, KeyError, IndexError, ...
        # torch's own text advises to allow the code.
        named = re.search(r"GLOBAL ([\w.]+)|`?([\w.]+)`? was not an allowed global", str(error))
        what = f" ({named[1] or named[2]})" if named else f" ({type(error).__name__})"
        raise CheckpointError(
            f"Cannot read {path}: it holds more than tensors{what}, which could run code and is not opened. Save the "
            "tensors alone, torch.save(model.state_dict(), path) or a .safetensors, and pass that."
        ) from error
    for key in _WRAPPED_IN:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not (isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())):
        raise CheckpointError(f"{path} holds no dictionary of tensors. Save the network's state_dict() and pass that.")
    for name, tensor in content.items():
        # A few bytes can claim to be any shape, by strides of 0, and would fill the memory once they are copied.
        if tensor.layout is torch.strided and tensor.nbytes > tensor.untyped_storage().nbytes():
            raise CheckpointError(f"{path} holds fewer bytes of {name} than its shape {tuple(tensor.shape)} asks for.")
    return {str(name): tensor for name, tensor in content.items()}


def some(names: list[str], most: int = 5) -> str:
    """The first few names, and how many more there are: for messages."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
