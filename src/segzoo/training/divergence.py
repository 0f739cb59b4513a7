"""Why a run diverged: found in the weights, the logits and the gradients of the step that it came up in."""

import math

import torch
from torch import Tensor, nn

_LOWER = "Lower optimiser.lr, lengthen schedule.warmup, or set optimiser.clip."


def cause_of(loss: float, norm: float | None, model: nn.Module, logits: Tensor | None, precision: str) -> str:
    """Sentences on what is not finite, and what to do; the first thing that is not is the cause of those after it.

    Args:
        loss: of the whole batch.
        norm: of all gradients together, None after the step was made.
        logits: of the last piece of the batch in this process, from the weights as they are; None after the step.
        precision: that of the recipe.
    """
    said = f"the loss is {loss:g}" + ("." if norm is None else f" and the norm of the gradients {norm:g}.")
    for kind, named in (("weights", model.named_parameters()), ("statistics", model.named_buffers())):
        for name, tensor in named:
            if not torch.isfinite(tensor).all():
                return f"{said} The {kind} {name} are not finite any more: steps were too long. {_LOWER}"
    if logits is not None and not torch.isfinite(logits).all():
        if precision == "fp16":
            return (
                f"{said} Weights are finite and logits beyond float16's 65504. Set hardware.precision to bf16 or fp32."
            )
        return f"{said} Weights are finite and logits are not: the weights have grown too large. {_LOWER}"
    if not math.isfinite(loss):
        return (
            f"{said} Weights and logits are finite in this process, so the loss itself failed, on this batch or in "
            "another process. Check the options of the loss, and whether images are labelled at all."
        )
    for name, weight in model.named_parameters():
        if weight.grad is not None and not torch.isfinite(weight.grad).all():
            return f"{said} The loss is finite, and the gradient of {name} is not. {_LOWER}"
    return f"{said} Each gradient is finite, and together they are too long. {_LOWER}"
