import pytest
import torch
from torch import nn

import segzoo
from segzoo.classes import label_set
from segzoo.training.build import model_of, optimiser_of
from segzoo.training.recipe import ModelPart, OptimiserPart


@pytest.mark.parametrize(("name", "nesterov"), [("sgd", True), ("momentum", False)])
def test_there_are_two_kinds_of_momentum(name: str, nesterov: bool) -> None:
    optimiser = optimiser_of(OptimiserPart(name, lr=0.1, momentum=0.9), nn.Conv2d(1, 1, 1))
    assert isinstance(optimiser, torch.optim.SGD)
    assert all((group["nesterov"], group["momentum"]) == (nesterov, 0.9) for group in optimiser.param_groups)


def test_a_papers_network_has_no_encoder() -> None:
    with torch.device("meta"):
        model = model_of(ModelPart("paper/segnet_basic"), label_set("camvid"))
    assert (model.config.decoder, model.config.encoder, model.config.num_classes) == ("paper/segnet_basic", None, 11)
    assert isinstance(model, segzoo.models.base.SegmentationModel) and model.training
