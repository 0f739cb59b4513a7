"""Learning rate schedules: a factor for each step, computed from the step number alone.

No state is kept between steps, so a resumed run cannot differ.
"""

import math

from segzoo.training.recipe import ScheduleConfig


def lr_factor(schedule: ScheduleConfig, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """The factor of the learning rate, 0-1.

    With t from 0 to 1 after the warmup, "poly" is (1 - t) ** power (ParseNet, arXiv 1506.04579; DeepLab uses power 0.9)
    and "cosine" is half a cosine wave (SGDR, arXiv 1608.03983, without restarts).

    Args:
        step: counted from 0.
        total_steps: of the whole run.
    """
    warmup = schedule.warmup * steps_per_epoch
    if step < warmup:
        return (step + 1) / (math.floor(warmup) + 1)
    t = (step - warmup) / max(1.0, total_steps - warmup)
    factor: float
    match schedule.name:
        case "poly":
            factor = (1 - t) ** schedule.power
        case "cosine":
            factor = (1 + math.cos(math.pi * t)) / 2
        case "step":
            factor = math.pow(schedule.gamma, sum(step >= epoch * steps_per_epoch for epoch in schedule.milestones))
        case _:
            factor = 1.0
    return schedule.min_lr_ratio + (1 - schedule.min_lr_ratio) * factor
