"""Schedules of the learning rate: a factor for each step, by arithmetic on its number alone.

Nothing is kept from one step to the next, so a run that is gone on with cannot differ.
"""

import math

from segzoo.training.recipe import SchedulePart


def factor(schedule: SchedulePart, step: int, steps: int, steps_an_epoch: int) -> float:
    """What the learning rate is multiplied by, 0-1.

    "poly" is (1 - t) ** power, of t from 0 to 1 after the warm-up (ParseNet, arXiv 1506.04579; DeepLab has power 0.9),
    "cosine" half a wave (SGDR, arXiv 1608.03983, without restarts).

    Args:
        step: from 0 up.
        steps: of the whole run.
    """
    warmup = schedule.warmup * steps_an_epoch
    if step < warmup:
        return (step + 1) / (math.floor(warmup) + 1)
    part = (step - warmup) / max(1.0, steps - warmup)
    height: float
    match schedule.name:
        case "poly":
            height = (1 - part) ** schedule.power
        case "cosine":
            height = (1 + math.cos(math.pi * part)) / 2
        case "step":
            height = math.pow(schedule.gamma, sum(step >= epoch * steps_an_epoch for epoch in schedule.milestones))
        case _:
            height = 1.0
    return schedule.least + (1 - schedule.least) * height
