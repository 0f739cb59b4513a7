"""Models of other libraries, with weights that reveal a wrongly converted layer."""

import torch
from torch import nn


def shaken(model: nn.Module) -> nn.Module:
    """Randomizes statistics, scales and shifts of batch normalization, which start as 0 and 1; eval mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return model.eval()


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Asserts that logits agree to 1e-5 of the largest one."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * max(1.0, float(theirs.abs().max())))
