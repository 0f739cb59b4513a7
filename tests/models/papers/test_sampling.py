"""Bayesian SegNet: what samples of its dropout come to."""

import numpy as np
import pytest
import torch
from torch import nn

import segzoo
from segzoo.errors import OptionError
from segzoo.models.papers import sampling
from segzoo.models.papers.sampling import Sampling

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 35, 3), dtype=np.uint8)


def basic() -> Sampling:
    torch.manual_seed(0)
    model = segzoo.create("paper/bayesian_segnet_basic", num_classes=4)
    assert isinstance(model, Sampling)
    nn.init.normal_(model.get_submodule("dense_softmax_inner_prod").weight, std=0.5)
    return model.eval()


def dropout_on(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()


@torch.inference_mode()
@pytest.mark.parametrize("together", [1, 3, 100])
def test_mean_and_variance_are_those_of_the_stacked_samples(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = basic()
    monkeypatch.setattr(sampling, "PIXELS_AT_ONCE", together * 24 * 35)
    torch.manual_seed(5)
    found = model.predict(IMAGE, samples=7)
    image = model.normalise(torch.from_numpy(IMAGE)[None])
    dropout_on(model)
    torch.manual_seed(5)
    batches = [min(together, 7 - start) for start in range(0, 7, together)]
    stacked = torch.cat([model(image.repeat(count, 1, 1, 1)).softmax(1) for count in batches]).double().numpy()
    assert stacked.shape == (7, 4, 24, 35)
    np.testing.assert_allclose(found.probabilities, stacked.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.variance, stacked.var(0), atol=1e-6)
    assert found.variance.max() > 1e-3
    np.testing.assert_array_equal(found.labels, found.probabilities.argmax(0))
    assert (found.labels.dtype, found.probabilities.dtype, found.variance.dtype) == (np.uint8, np.float32, np.float32)


def test_torchs_seed_repeats_a_result() -> None:
    model = basic()
    first, again, other = [
        torch.manual_seed(seed) and model.predict(IMAGE, samples=3).probabilities for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(first, again)
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
            module.p = 0.0
    found = model.predict(IMAGE, samples=5)
    assert not found.variance.any()
    np.testing.assert_array_equal(found.labels, model.predict(IMAGE))


def test_modes_are_left_as_they_were() -> None:
    model = basic().train()
    model.get_submodule("conv1_bn").eval()
    before = [module.training for module in model.modules()]
    model.predict(IMAGE, samples=2)
    assert [module.training for module in model.modules()] == before


def test_a_list_gives_a_list() -> None:
    found = basic().predict([IMAGE, IMAGE[:5, :9]], samples=2)
    assert [one.variance.shape for one in found] == [(4, 24, 35), (4, 5, 9)]


@pytest.mark.parametrize("samples", [0, -1, 2.0, True])
def test_samples_are_a_number(samples: object) -> None:
    with pytest.raises(OptionError, match="from 1 up"):
        basic().predict(IMAGE, samples=samples)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("paper/bayesian_segnet", ["encdrop3", "decdrop3", "encdrop4", "decdrop4", "encdrop5", "decdrop5"]),
        ("paper/bayesian_segnet_basic", ["encdrop3", "decdrop3", "encdrop4", "decdrop4"]),
        ("paper/segnet", []),
    ],
)
def test_where_the_dropout_is(name: str, layers: list[str]) -> None:
    with torch.device("meta"):
        model = segzoo.create(name)
    found = {layer: module.p for layer, module in model.named_modules() if isinstance(module, nn.Dropout)}
    assert found == dict.fromkeys(layers, 0.5)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("paper/bayesian_segnet", [(256, 4), (512, 2), (512, 1), (512, 2), (256, 4), (128, 8)]),
        ("paper/bayesian_segnet_basic", [(64, 4), (64, 2), (64, 4), (64, 8)]),
    ],
)
def test_what_is_dropped(name: str, sizes: list[tuple[int, int]]) -> None:
    seen: list[tuple[int, int]] = []
    with torch.device("meta"):
        model = segzoo.create(name).eval()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[1:3])))
        model(torch.zeros(1, 3, 32, 32))
    assert seen == sizes


@torch.inference_mode()
def test_without_dropout_it_is_segnet() -> None:
    """The same tensors in the same places: one strict load from one to the other."""
    torch.manual_seed(0)
    plain = segzoo.create("paper/segnet", num_classes=3).eval()
    bayesian = segzoo.create("paper/bayesian_segnet", num_classes=3).eval()
    bayesian.load_state_dict(plain.state_dict())
    image = 255 * torch.rand(1, 3, 17, 33)
    torch.testing.assert_close(bayesian(image), plain(image), rtol=0, atol=0)
