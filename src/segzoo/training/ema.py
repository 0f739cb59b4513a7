"""The exponential moving average of the weights, which is evaluated and saved instead of the weights themselves."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def build_ema(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights and batch normalization statistics.

    `update_parameters(model)` adds one step. The decay rises as min(decay, (1 + n) / (10 + n)) with the number of steps
    n, so that the average of a short run is not dominated by the random initial weights.

    Args:
        decay: the weight of the previous average, 0-1, such as 0.999.
    """

    @torch.no_grad()
    def update(average: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        n = int(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, current, weight)
        else:  # num_batches_tracked
            torch._foreach_copy_(average, current)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)  # type: ignore[arg-type]
