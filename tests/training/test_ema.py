"""The moving average of weights."""

import torch
from torch import nn

from segzoo.training.ema import averaged


def test_it_is_the_recurrence_with_a_decay_that_rises():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = averaged(model, 0.5)
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
    found = average.module.state_dict()
    for name in ("0.weight", "1.running_var"):
        torch.testing.assert_close(found[name], expected[name].float())
    assert found["1.num_batches_tracked"] == 12
