"""Optimizers and networks of a recipe."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

import segzoo
from segzoo import _registry
from segzoo.classes import class_set
from segzoo.errors import OptionError
from segzoo.training.build import build_model, build_optimizer
from segzoo.training.build_loss import build_loss
from segzoo.training.losses import Loss
from segzoo.training.recipe import LossConfig, ModelConfig, OptimizerConfig


@pytest.mark.parametrize(("name", "nesterov"), [("sgd", True), ("momentum", False)])
def test_momentum_is_nesterov_or_classical(name: str, nesterov: bool) -> None:
    optimizer = build_optimizer(OptimizerConfig(name, lr=0.1, momentum=0.9), nn.Conv2d(1, 1, 1))
    assert isinstance(optimizer, torch.optim.SGD)
    assert all((group["nesterov"], group["momentum"]) == (nesterov, 0.9) for group in optimizer.param_groups)


def test_a_papers_network_has_no_encoder() -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig("paper/segnet_basic"), class_set("camvid"))
    assert (model.spec.decoder, model.spec.encoder, model.spec.num_classes) == ("paper/segnet_basic", None, 11)
    assert isinstance(model, segzoo.models.base.SegmentationModel) and model.training


class Weighted(Loss):
    """Takes class weights, as "ce" does."""

    def __init__(self, ignore_index: int, *, weights: Sequence[float] | None = None) -> None:
        super().__init__(ignore_index)
        self.weights = weights


def test_a_loss_of_ones_own_gets_class_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_registry.LOSSES._entries, "weighted", _registry.Entry("weighted", "none:none"))
    monkeypatch.setitem(_registry.LOSSES._objects, "weighted", Weighted)
    loss = build_loss(LossConfig(loss="dice + 2*weighted", class_weights="enet"), 255, [1.0, 3.0])
    assert loss.factors == (1, 2) and loss.losses[1].weights == [1.0, 3.0]
    with pytest.raises(OptionError, match=r"applies to ce and focal and weighted only, but the loss is 'dice'"):
        build_loss(LossConfig(loss="dice", class_weights="enet"), 255, [1.0, 3.0])
