"""Explains why a run diverged, from the weights, the logits and the gradients of the failing step."""

import math

import torch
from torch import Tensor, nn

_ADVICE = "Lower optimizer.lr, lengthen schedule.warmup, or set optimizer.clip_grad_norm."


def explain_divergence(loss: float, norm: float | None, model: nn.Module, logits: Tensor | None, precision: str) -> str:
    """Says what is not finite and what to do. It reports the first such value, which causes the later ones.

    Args:
        loss: of the whole batch.
        norm: of all gradients together; None after the step.
        logits: of the last part of the batch in this process, computed from the current weights; None after the step.
        precision: the recipe's precision.
    """
    facts = f"the loss is {loss:g}" + ("." if norm is None else f" and the gradient norm is {norm:g}.")
    for label, tensors in (("weights", model.named_parameters()), ("statistics", model.named_buffers())):
        for name, tensor in tensors:
            if not torch.isfinite(tensor).all():
                return f"{facts} The {label} {name} are no longer finite: the steps were too large. {_ADVICE}"
    if logits is not None and not torch.isfinite(logits).all():
        if precision == "fp16":
            return (
                f"{facts} The weights are finite, but the logits exceed float16's maximum of 65504. Set "
                "hardware.precision to bf16 or fp32."
            )
        return f"{facts} The weights are finite, but the logits are not: the weights have grown too large. {_ADVICE}"
    if not math.isfinite(loss):
        return (
            f"{facts} Weights and logits are finite in this process, so the loss itself failed, on this batch or in "
            "another process. Check the options of the loss, and whether the images have labeled pixels."
        )
    for name, weight in model.named_parameters():
        if weight.grad is not None and not torch.isfinite(weight.grad).all():
            return f"{facts} The loss is finite, but the gradient of {name} is not. {_ADVICE}"
    return f"{facts} Each gradient is finite, but their joint norm is too large. {_ADVICE}"
