"""The exponential moving average of the weights."""

import torch
from torch import nn

from segzoo.training.ema import build_ema


def test_it_is_the_recurrence_with_a_rising_decay():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = build_ema(model, 0.5)
    expected = None
    for count in range(12):
        with torch.no_grad():
            model[0].weight.normal_()
            model[1].running_var.uniform_()
            model[1].num_batches_tracked += 1
        average.update_parameters(model)
        now = {name: tensor.double() for name, tensor in model.state_dict().items()}
        decay = min(0.5, (1 + count) / (10 + count))
        expected = now if expected is None else {n: decay * expected[n] + (1 - decay) * now[n] for n in now}
    actual = average.module.state_dict()
    for name in ("0.weight", "1.running_var"):
        torch.testing.assert_close(actual[name], expected[name].float())
    assert actual["1.num_batches_tracked"] == 12
