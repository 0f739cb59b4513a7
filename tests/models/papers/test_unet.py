"""U-Net: its sizes, its arithmetic written out, and the overlap-tile strategy."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import segzoo
from segzoo.errors import ImageError, OptionError
from segzoo.models.papers.overlap_tile import OverlapTile

NAMES = ["paper/unet", "paper/unet_caffe"]


def unet(name: str = "paper/unet") -> OverlapTile:
    torch.manual_seed(0)
    model = segzoo.create(name)
    assert isinstance(model, OverlapTile)
    return model.eval()


def by_hand(weights: dict[str, Tensor], x: Tensor, released: bool) -> Tensor:
    """Figure 1, line by line; `released`: what the authors' file does otherwise."""

    def conv(x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"]).relu()

    def up(x: Tensor, name: str) -> Tensor:
        x = F.conv_transpose2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2)
        return x.relu() if released else x

    def join(x: Tensor, across: Tensor) -> Tensor:
        cut = (across.shape[-1] - x.shape[-1]) // 2
        return torch.cat((x, across[..., cut : cut + x.shape[-2], cut : cut + x.shape[-1]]), 1)

    d0 = conv(conv(x, "conv_d0a_b"), "conv_d0b_c")
    d1 = conv(conv(F.max_pool2d(d0, 2), "conv_d1a_b"), "conv_d1b_c")
    d2 = conv(conv(F.max_pool2d(d1, 2), "conv_d2a_b"), "conv_d2b_c")
    d3 = conv(conv(F.max_pool2d(d2, 2), "conv_d3a_b"), "conv_d3b_c")
    d4 = conv(conv(F.max_pool2d(d3, 2), "conv_d4a_b"), "conv_d4b_c")
    u3 = conv(conv(join(up(d4, "upconv_d4c_u3a"), d3), "conv_u3b_c"), "conv_u3c_d")
    u2 = conv(conv(join(up(u3, "upconv_u3d_u2a"), d2), "conv_u2b_c"), "conv_u2c_d")
    u1 = conv(conv(join(up(u2, "upconv_u2d_u1a"), d1), "conv_u1b_c"), "conv_u1c_d")
    u0 = conv(conv(join(up(u1, "upconv_u1d_u0a"), d0), "conv_u0b_c"), "conv_u0c_d")
    return F.conv2d(u0, weights["conv_u0d_score.weight"], weights["conv_u0d_score.bias"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("side", "given"), [(572, 388), (204, 20), (188, 4)])
def test_the_network_gives_184_pixels_fewer(name: str, side: int, given: int) -> None:
    with torch.device("meta"):
        assert segzoo.create(name).network(torch.zeros(1, 1, side, 572)).shape == (1, 2, given, 388)


@pytest.mark.parametrize("size", [(570, 572), (572, 570), (172, 188), (60, 60)])
def test_the_network_refuses_what_does_not_halve(size: tuple[int, int]) -> None:
    with torch.device("meta"), pytest.raises(ImageError, match=r"16k \+ 60 pixels"):
        segzoo.create("paper/unet").network(torch.zeros(1, 1, *size))


def test_a_refusal_names_a_size_that_goes_through() -> None:
    with torch.device("meta"), pytest.raises(ImageError, match="such as 572 x 188, not 570 x 3"):
        segzoo.create("paper/unet").network(torch.zeros(1, 1, 570, 3))


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_it_is_the_figure(name: str) -> None:
    model = unet(name)
    for bias in (p for p in model.parameters() if p.ndim == 1):
        bias.normal_(std=0.1)
    image = torch.rand(1, 1, 188, 204)
    expected = by_hand(model.state_dict(), image, released=name == "paper/unet_caffe")
    torch.testing.assert_close(model.network(image), expected, rtol=1e-5, atol=1e-5)


def test_dropout_is_after_levels_3_and_4_in_training() -> None:
    seen: list[tuple[int, ...]] = []
    with torch.device("meta"):
        model = segzoo.create("paper/unet")
        model.dropout.register_forward_hook(lambda layer, _x, y: seen.append((layer.training, *y.shape[1:])))
        model.network(torch.zeros(1, 1, 572, 572))
    assert model.dropout.p == 0.5 and seen == [(True, 512, 64, 64), (True, 1024, 28, 28)]


@torch.inference_mode()
def test_an_image_is_seen_with_mirrored_borders() -> None:
    model = unet()
    image = np.random.default_rng(0).integers(0, 256, (20, 36), dtype=np.uint8)
    mirrored = np.pad(image, 92, mode="reflect").astype(np.float32) / 255
    expected = model.network(torch.from_numpy(mirrored)[None, None])
    torch.testing.assert_close(model(torch.from_numpy(image)[None, None] / 255), expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_tiles_are_seamless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits of every tile are those of the whole image, to 1e-5 of the largest, wherever the seams are."""
    model = unet()
    image = np.random.default_rng(1).integers(0, 256, (41, 57), dtype=np.uint8)
    whole = model(model.normalise(torch.from_numpy(image)[None, ..., None]))
    seen: list[Tensor] = []
    network = type(model).network
    monkeypatch.setattr(type(model), "network", lambda self, x: seen.append(network(self, x)) or seen[-1])
    labels = model.predict(image, tile=220)
    assert len(seen) == 4 and {one.shape for one in seen} >= {(1, 2, 36, 36), (1, 2, 20, 36)}
    for tile, (top, left) in zip(seen, [(0, 0), (0, 32), (32, 0), (32, 32)], strict=True):
        part = whole[..., top : top + 32, left : left + 32]
        difference = tile[..., : part.shape[-2], : part.shape[-1]] - part
        assert difference.abs().max() <= 1e-5 * whole.abs().max()
    monkeypatch.undo()
    sure = ((whole[0, 0] - whole[0, 1]).abs() > 2e-5 * whole.abs().max()).numpy()
    assert sure.mean() > 0.99 and 0.01 < labels.mean() < 0.99
    np.testing.assert_array_equal(labels[sure], model.predict(image)[sure])


def test_tiles_of_a_list_and_of_one_pixel() -> None:
    one, two = unet().predict([np.zeros((1, 1), np.uint8), np.zeros((3, 2), np.uint8)], tile=204)
    assert (one.shape, two.shape) == ((1, 1), (3, 2))


@pytest.mark.parametrize("tile", [188, 512, 0, True, 204.0])
def test_a_tile_is_what_the_network_takes(tile: object) -> None:
    with torch.device("meta"), pytest.raises(OptionError, match=r"tile is 16k \+ 60 pixels"):
        segzoo.create("paper/unet").predict(np.zeros((8, 8), np.uint8), tile=tile)
