"""FCN: parameter counts, sizes of intermediate maps, the fixed kernels, and the scales of FCN-8s at-once."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import segzoo
from segzoo.models.parameters import count_parameters

NAMES = ("fcn32s", "fcn16s", "fcn8s", "fcn8s_atonce")


@pytest.mark.parametrize("k", [2, 21, 60])
@pytest.mark.parametrize(
    ("name", "heads", "kernels"),
    [
        ("fcn32s", 4097, 64**2),
        ("fcn16s", 4097 + 513, 4**2 + 32**2),
        ("fcn8s", 4097 + 513 + 257, 2 * 4**2 + 16**2),
        ("fcn8s_atonce", 4097 + 513 + 257, 2 * 4**2 + 16**2),
    ],
)
def test_the_number_of_parameters(name: str, heads: int, kernels: int, k: int) -> None:
    with torch.device("meta"):
        model = segzoo.create(f"paper/{name}", num_classes=k)
    assert count_parameters(model) == 134_260_544 + heads * k + kernels * k**2
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained == 134_260_544 + heads * k


def test_sizes_of_intermediate_maps() -> None:
    """For an image of 500 x 375, as in the authors' prototxt."""
    with torch.device("meta"):
        model = segzoo.create("paper/fcn8s").eval()
        sizes: dict[str, tuple[int, ...]] = {}

        def record(name: str, module: nn.Module) -> None:
            module.register_forward_hook(
                lambda _, inputs, out: sizes.update({name: (inputs[0].shape[2:], out.shape[2:])})
            )

        for name in ("score_pool3", "score_pool4", "fc6", "upscore2", "upscore_pool4", "upscore8"):
            record(name, model.get_submodule(name))
        assert model(torch.zeros(1, 3, 375, 500)).shape == (1, 21, 375, 500)
    assert sizes == {
        "score_pool3": ((72, 88), (72, 88)),
        "score_pool4": ((36, 44), (36, 44)),
        "fc6": ((18, 22), (12, 16)),
        "upscore2": ((12, 16), (26, 34)),
        "upscore_pool4": ((26, 34), (54, 70)),
        "upscore8": ((54, 70), (440, 568)),
    }


@pytest.mark.usefixtures("narrow_vgg16")
@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [("fcn32s", "upscore", 64), ("fcn16s", "upscore2", 4), ("fcn16s", "upscore16", 32), ("fcn8s", "upscore8", 16)],
)
def test_upscores_interpolate_bilinearly(name: str, layer: str, size: int) -> None:
    up = segzoo.create(f"paper/{name}", num_classes=3).get_submodule(layer)
    x = torch.randn(1, 3, 6, 7)
    edge = size // 2  # one pixel of the input map, which border zeros affect
    # FCN crops a quarter of the kernel.
    cropped = up(x)[..., size // 4 : -size // 4, size // 4 : -size // 4]
    expected = F.interpolate(x, scale_factor=edge, mode="bilinear", align_corners=False)
    inner = (..., slice(edge, -edge), slice(edge, -edge))
    torch.testing.assert_close(cropped[inner], expected[inner], rtol=0, atol=1e-5)
    assert not up.weight.requires_grad


@pytest.mark.usefixtures("narrow_vgg16")
def test_the_kernel_of_size_four() -> None:
    weight = segzoo.create("paper/fcn8s", num_classes=3).get_parameter("upscore2.weight")
    profile = torch.tensor([0.25, 0.75, 0.75, 0.25])
    assert torch.equal(weight[1, 1], profile[:, None] * profile)
    assert weight[0, 1].count_nonzero() == 0


@pytest.mark.usefixtures("narrow_vgg16")
def test_at_once_is_an_fcn8s_with_scaled_pools() -> None:
    at_once, plain = (segzoo.create(f"paper/{name}", num_classes=3).eval() for name in ("fcn8s_atonce", "fcn8s"))
    state = at_once.state_dict()
    scales: dict[str, Tensor] = {pool: state.pop(f"scale_{pool}.weight") for pool in ("pool4", "pool3")}
    assert {pool: scale.unique().tolist() for pool, scale in scales.items()} == {
        "pool4": [pytest.approx(0.01)],
        "pool3": [pytest.approx(0.0001)],
    }
    for pool, scale in scales.items():
        state[f"score_{pool}.weight"] = state[f"score_{pool}.weight"] * scale[:, None, None]
    plain.load_state_dict(state)
    image = torch.randn(1, 3, 30, 40) * 100
    with torch.inference_mode():
        torch.testing.assert_close(at_once(image), plain(image), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("narrow_vgg16")
@pytest.mark.parametrize("name", NAMES)
def test_everything_except_the_kernels_is_trained(name: str) -> None:
    model = segzoo.create(f"paper/{name}", num_classes=3)
    model(torch.randn(1, 3, 20, 30) * 100).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is None) == key.startswith("upscore"), key
