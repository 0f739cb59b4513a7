"""Bayesian SegNet: mean and variance of samples with dropout."""

import numpy as np
import pytest
import torch
from torch import nn

import segzoo
from segzoo.errors import OptionError
from segzoo.inference import sampling
from segzoo.models.base import SegmentationModel

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 35, 3), dtype=np.uint8)


def basic() -> SegmentationModel:
    torch.manual_seed(0)
    model = segzoo.create("paper/bayesian_segnet_basic", num_classes=4)
    nn.init.normal_(model.get_submodule("dense_softmax_inner_prod").weight, std=0.5)
    return model.eval()


def dropout_on(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()


@torch.inference_mode()
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_mean_and_variance_are_those_of_the_stacked_samples(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = basic()
    monkeypatch.setattr(sampling, "MAX_BATCH_PIXELS", batch_size * 24 * 35)
    torch.manual_seed(5)
    sampled = model.predict(IMAGE, samples=7)
    image = model.normalize(torch.from_numpy(IMAGE)[None])
    dropout_on(model)
    torch.manual_seed(5)
    batches = [min(batch_size, 7 - start) for start in range(0, 7, batch_size)]
    stacked = torch.cat([model(image.repeat(count, 1, 1, 1)).softmax(1) for count in batches]).double().numpy()
    assert stacked.shape == (7, 4, 24, 35)
    np.testing.assert_allclose(sampled.probabilities, stacked.mean(0), atol=1e-6)
    np.testing.assert_allclose(sampled.variance, stacked.var(0), atol=1e-6)
    assert sampled.variance.max() > 1e-3
    np.testing.assert_array_equal(sampled.mask, sampled.probabilities.argmax(0))
    assert (sampled.mask.dtype, sampled.probabilities.dtype, sampled.variance.dtype) == (
        np.uint8,
        np.float32,
        np.float32,
    )


def test_the_same_seed_gives_the_same_result() -> None:
    model = basic()
    first, repeated, other = [
        torch.manual_seed(seed) and model.predict(IMAGE, samples=3).probabilities for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(first, repeated)
    assert not np.array_equal(first, other)


def test_without_samples_it_is_deterministic_and_leaves_the_generator_alone() -> None:
    model = basic()
    before = torch.random.get_rng_state()
    np.testing.assert_array_equal(model.predict(IMAGE), model.predict(IMAGE))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_without_dropout_there_is_no_variance() -> None:
    model = basic()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 1e-12  # not 0, which is no dropout
    sampled = model.predict(IMAGE, samples=5)
    assert not sampled.variance.any()
    np.testing.assert_array_equal(sampled.mask, model.predict(IMAGE))


def test_training_modes_are_restored() -> None:
    model = basic().train()
    model.get_submodule("conv1_bn").eval()
    before = [module.training for module in model.modules()]
    model.predict(IMAGE, samples=2)
    assert [module.training for module in model.modules()] == before


def test_a_list_of_images_gives_a_list() -> None:
    sampled = basic().predict([IMAGE, IMAGE[:5, :9]], samples=2)
    assert [item.variance.shape for item in sampled] == [(4, 24, 35), (4, 5, 9)]


@pytest.mark.parametrize(
    ("samples", "message"), [(0, "1 or more"), (-1, "1 or more"), (2.0, "a whole number"), (True, "a whole number")]
)
def test_invalid_numbers_of_samples_are_rejected(samples: object, message: str) -> None:
    with pytest.raises(OptionError, match=f"samples must be {message}"):
        basic().predict(IMAGE, samples=samples)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("paper/bayesian_segnet", ["encdrop3", "decdrop3", "encdrop4", "decdrop4", "encdrop5", "decdrop5"]),
        ("paper/bayesian_segnet_basic", ["encdrop3", "decdrop3", "encdrop4", "decdrop4"]),
        ("paper/segnet", []),
    ],
)
def test_positions_of_dropout(name: str, layers: list[str]) -> None:
    with torch.device("meta"):
        model = segzoo.create(name)
    rates = {layer: module.p for layer, module in model.named_modules() if isinstance(module, nn.Dropout)}
    assert rates == dict.fromkeys(layers, 0.5)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("paper/bayesian_segnet", [(256, 4), (512, 2), (512, 1), (512, 2), (256, 4), (128, 8)]),
        ("paper/bayesian_segnet_basic", [(64, 4), (64, 2), (64, 4), (64, 8)]),
    ],
)
def test_maps_that_dropout_applies_to(name: str, sizes: list[tuple[int, int]]) -> None:
    shapes: list[tuple[int, int]] = []
    with torch.device("meta"):
        model = segzoo.create(name).eval()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape[1:3])))
        model(torch.zeros(1, 3, 32, 32))
    assert shapes == sizes


@torch.inference_mode()
def test_without_dropout_it_equals_segnet() -> None:
    """Both have the same tensors under the same names, so a strict load works."""
    torch.manual_seed(0)
    plain = segzoo.create("paper/segnet", num_classes=3).eval()
    bayesian = segzoo.create("paper/bayesian_segnet", num_classes=3).eval()
    bayesian.load_state_dict(plain.state_dict())
    image = 255 * torch.rand(1, 3, 17, 33)
    torch.testing.assert_close(bayesian(image), plain(image), rtol=0, atol=0)
