"""Schedules: factors against torch's own, and at their ends."""

from itertools import pairwise

import pytest
import torch

from segzoo.training.recipe import SchedulePart
from segzoo.training.schedule import factor


def factors(schedule: SchedulePart, epochs: int = 10, steps: int = 4) -> list[float]:
    return [factor(schedule, step, epochs * steps, steps) for step in range(epochs * steps)]


def torchs(make) -> list[float]:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, found = make(optimiser), []
    for _ in range(40):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return found


def test_poly_is_torchs():
    expected = torchs(lambda one: torch.optim.lr_scheduler.PolynomialLR(one, 40, power=0.9))
    assert factors(SchedulePart("poly", power=0.9)) == pytest.approx(expected, abs=1e-9)


def test_cosine_is_torchs():
    expected = torchs(lambda one: torch.optim.lr_scheduler.CosineAnnealingLR(one, 40, eta_min=0.1))
    assert factors(SchedulePart("cosine", least=0.1)) == pytest.approx(expected, abs=1e-9)


def test_step_is_torchs():
    expected = torchs(lambda one: torch.optim.lr_scheduler.MultiStepLR(one, [12, 24], gamma=0.1))
    assert factors(SchedulePart("step", milestones=(3, 6), gamma=0.1)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["constant", "poly", "cosine", "step"])
def test_it_warms_up_and_never_starts_at_nothing(name):
    found = factors(SchedulePart(name, warmup=2))
    assert found[:9] == pytest.approx([1 / 9, 2 / 9, 3 / 9, 4 / 9, 5 / 9, 6 / 9, 7 / 9, 8 / 9, 1])
    assert all(before >= after > 0 for before, after in pairwise(found[8:]))


def test_constant_stays():
    assert factors(SchedulePart("constant")) == [1.0] * 40
