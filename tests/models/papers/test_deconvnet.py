"""DeconvNet: parameter counts, the sizes of figure 2, and other sizes than the paper's."""

import pytest
import torch

import segzoo
from segzoo.models.layers.unpooling import Unpool
from segzoo.models.parameters import count_parameters


@pytest.mark.parametrize("k", [2, 21, 60])
def test_the_number_of_parameters(k: int) -> None:
    with torch.device("meta"):
        assert count_parameters(segzoo.create("paper/deconvnet", num_classes=k)) == 251_804_288 + 65 * k


@pytest.mark.parametrize(
    ("image", "deepest", "unpooled"),
    [
        ((224, 224), (1, 1), [(14, 14), (28, 28), (56, 56), (112, 112), (224, 224)]),
        ((225, 310), (2, 4), [(16, 20), (32, 40), (64, 80), (128, 160), (256, 320)]),
        ((1, 1), (1, 1), [(14, 14), (28, 28), (56, 56), (112, 112), (224, 224)]),
    ],
)
def test_sizes_of_intermediate_maps(
    image: tuple[int, int], deepest: tuple[int, int], unpooled: list[tuple[int, int]]
) -> None:
    sizes: list[torch.Size] = []
    with torch.device("meta"):
        model = segzoo.create("paper/deconvnet").eval()
        for module in (model.get_submodule("fc7"), *(m for m in model.modules() if isinstance(m, Unpool))):
            module.register_forward_hook(lambda _, inputs, out: sizes.append(out.shape[2:]))
        assert model(torch.zeros(1, 3, *image)).shape == (1, 21, *image)
    assert sizes == [deepest, *unpooled]


@pytest.mark.usefixtures("narrow_vgg16")
def test_training_on_one_image() -> None:
    """fc6 reduces 224 x 224 to a single position, on which batch normalization cannot train."""
    model = segzoo.create("paper/deconvnet", num_classes=3)
    model(torch.randn(1, 3, 224, 224) * 100).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
