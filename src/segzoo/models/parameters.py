"""The number of a model's parameters, and a hash of its weights."""

import hashlib

import torch
from torch import nn


def count_parameters(module: nn.Module) -> int:
    """The number of parameters of a model, or of a part of it."""
    return sum(parameter.numel() for parameter in module.parameters())


def weights_sha256(model: nn.Module) -> str:
    """The sha256 of all weights: name, dtype, shape and bytes of each tensor, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
