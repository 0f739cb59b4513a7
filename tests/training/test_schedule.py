"""Schedules: factors compared with torch's schedulers, and the warmup."""

from itertools import pairwise

import pytest
import torch

from segzoo.training.recipe import ScheduleConfig
from segzoo.training.schedule import lr_factor


def factors(schedule: ScheduleConfig, epochs: int = 10, steps: int = 4) -> list[float]:
    return [lr_factor(schedule, step, epochs * steps, steps) for step in range(epochs * steps)]


def torch_factors(make) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, result = make(optimizer), []
    for _ in range(40):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return result


def test_poly_matches_torch():
    expected = torch_factors(lambda optimizer: torch.optim.lr_scheduler.PolynomialLR(optimizer, 40, power=0.9))
    assert factors(ScheduleConfig("poly", power=0.9)) == pytest.approx(expected, abs=1e-9)


def test_cosine_matches_torch():
    expected = torch_factors(lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40, eta_min=0.1))
    assert factors(ScheduleConfig("cosine", min_lr_ratio=0.1)) == pytest.approx(expected, abs=1e-9)


def test_step_matches_torch():
    expected = torch_factors(lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [12, 24], gamma=0.1))
    assert factors(ScheduleConfig("step", milestones=(3, 6), gamma=0.1)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["constant", "poly", "cosine", "step"])
def test_the_warmup_is_linear_and_starts_above_0(name):
    result = factors(ScheduleConfig(name, warmup=2))
    assert result[:9] == pytest.approx([1 / 9, 2 / 9, 3 / 9, 4 / 9, 5 / 9, 6 / 9, 7 / 9, 8 / 9, 1])
    assert all(before >= after > 0 for before, after in pairwise(result[8:]))


def test_constant_stays():
    assert factors(ScheduleConfig("constant")) == [1.0] * 40
