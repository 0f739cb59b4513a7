"""Optimizers and networks of a recipe."""

import pytest
import torch
from torch import nn

import segzoo
from segzoo.classes import class_set
from segzoo.training.build import build_model, build_optimizer
from segzoo.training.recipe import ModelConfig, OptimizerConfig


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
