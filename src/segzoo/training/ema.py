"""The moving average of the weights, which is what is evaluated and kept."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights and of the statistics of its batch normalisation.

    `update_parameters(model)` takes in one step. The decay begins low and reaches its value as steps go by,
    min(decay, (1 + n) / (10 + n)), so that a short run is not an average of its random beginning.

    Args:
        decay: the part of the old average that stays, 0-1, such as 0.999.
    """

    @torch.no_grad()
    def mix(average: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        n = int(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, current, weight)
        else:  # num_batches_tracked
            torch._foreach_copy_(average, current)

    return AveragedModel(model, multi_avg_fn=mix, use_buffers=True)  # type: ignore[arg-type]
