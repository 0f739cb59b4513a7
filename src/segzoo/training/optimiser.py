"""The optimiser of a recipe."""

import torch
from torch import nn

from segzoo.training.recipe import OptimiserPart


def optimiser_of(part: OptimiserPart, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101) or SGD over all weights that are trained.

    Weight decay is for what has more than one axis: neither for biases, nor for the scales of normalisation.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": part.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if part.name == "sgd":
        return torch.optim.SGD(groups, part.lr, momentum=part.momentum, nesterov=part.momentum > 0)
    return torch.optim.AdamW(groups, part.lr, betas=(part.momentum, 0.999))
