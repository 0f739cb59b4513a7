"""U-Net: sizes, the network compared with a plain reimplementation, and the overlap-tile strategy."""

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


def reference(weights: dict[str, Tensor], x: Tensor, released: bool) -> Tensor:
    """Figure 1, line by line; `released` includes the ReLUs of the authors' released network."""

    def conv(x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"]).relu()

    def up(x: Tensor, name: str) -> Tensor:
        x = F.conv_transpose2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2)
        return x.relu() if released else x

    def concatenate(x: Tensor, skip: Tensor) -> Tensor:
        crop = (skip.shape[-1] - x.shape[-1]) // 2
        return torch.cat((x, skip[..., crop : crop + x.shape[-2], crop : crop + x.shape[-1]]), 1)

    d0 = conv(conv(x, "conv_d0a_b"), "conv_d0b_c")
    d1 = conv(conv(F.max_pool2d(d0, 2), "conv_d1a_b"), "conv_d1b_c")
    d2 = conv(conv(F.max_pool2d(d1, 2), "conv_d2a_b"), "conv_d2b_c")
    d3 = conv(conv(F.max_pool2d(d2, 2), "conv_d3a_b"), "conv_d3b_c")
    d4 = conv(conv(F.max_pool2d(d3, 2), "conv_d4a_b"), "conv_d4b_c")
    u3 = conv(conv(concatenate(up(d4, "upconv_d4c_u3a"), d3), "conv_u3b_c"), "conv_u3c_d")
    u2 = conv(conv(concatenate(up(u3, "upconv_u3d_u2a"), d2), "conv_u2b_c"), "conv_u2c_d")
    u1 = conv(conv(concatenate(up(u2, "upconv_u2d_u1a"), d1), "conv_u1b_c"), "conv_u1c_d")
    u0 = conv(conv(concatenate(up(u1, "upconv_u1d_u0a"), d0), "conv_u0b_c"), "conv_u0c_d")
    return F.conv2d(u0, weights["conv_u0d_score.weight"], weights["conv_u0d_score.bias"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("side", "output_side"), [(572, 388), (204, 20), (188, 4)])
def test_outputs_are_184_pixels_smaller(name: str, side: int, output_side: int) -> None:
    with torch.device("meta"):
        assert segzoo.create(name).network(torch.zeros(1, 1, side, 572)).shape == (1, 2, output_side, 388)


@pytest.mark.parametrize("size", [(570, 572), (572, 570), (172, 188), (60, 60)])
def test_sizes_that_pools_cannot_halve_are_rejected(size: tuple[int, int]) -> None:
    with torch.device("meta"), pytest.raises(ImageError, match=r"16k \+ 60 pixels"):
        segzoo.create("paper/unet").network(torch.zeros(1, 1, *size))


def test_the_message_suggests_a_valid_size() -> None:
    with torch.device("meta"), pytest.raises(ImageError, match="such as 572 x 188, not 570 x 3"):
        segzoo.create("paper/unet").network(torch.zeros(1, 1, 570, 3))


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_it_equals_the_figure(name: str) -> None:
    model = unet(name)
    for bias in (p for p in model.parameters() if p.ndim == 1):
        bias.normal_(std=0.1)
    image = torch.rand(1, 1, 188, 204)
    expected = reference(model.state_dict(), image, released=name == "paper/unet_caffe")
    torch.testing.assert_close(model.network(image), expected, rtol=1e-5, atol=1e-5)


def test_dropout_follows_levels_3_and_4_in_training() -> None:
    calls: list[tuple[int, ...]] = []
    with torch.device("meta"):
        model = segzoo.create("paper/unet")
        model.dropout.register_forward_hook(lambda layer, _x, y: calls.append((layer.training, *y.shape[1:])))
        model.network(torch.zeros(1, 1, 572, 572))
    assert model.dropout.p == 0.5 and calls == [(True, 512, 64, 64), (True, 1024, 28, 28)]


@torch.inference_mode()
def test_borders_are_mirrored() -> None:
    model = unet()
    image = np.random.default_rng(0).integers(0, 256, (20, 36), dtype=np.uint8)
    mirrored = np.pad(image, 92, mode="reflect").astype(np.float32) / 255
    expected = model.network(torch.from_numpy(mirrored)[None, None])
    torch.testing.assert_close(model(torch.from_numpy(image)[None, None] / 255), expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_tiles_are_seamless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits of every tile equal those of the whole image, to 1e-5 of the largest, at any seam."""
    model = unet()
    image = np.random.default_rng(1).integers(0, 256, (250, 270), dtype=np.uint8)
    expected = model(model.normalize(torch.from_numpy(image)[None, ..., None]))
    tiles: list[Tensor] = []
    network = type(model).network
    monkeypatch.setattr(type(model), "network", lambda self, x: tiles.append(network(self, x)) or tiles[-1])
    mask = model.predict(image, tile=(224, 240)).mask
    # 96 pixels of context on each side: rows 0-128 are of the first tile, columns 0-136; the rest is of the second.
    assert [tile.shape for tile in tiles] == 4 * [(1, 2, 228, 244)]  # sides of 16k + 4
    for tile, (row, column) in zip(tiles, [(0, 0), (0, 1), (1, 0), (1, 1)], strict=True):
        top, left = 32 * row, 32 * column
        rows, columns = ((0, 128), (128, 250))[row], ((0, 136), (136, 270))[column]
        part = expected[..., slice(*rows), slice(*columns)]
        own = tile[..., rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left]
        assert (own - part).abs().max() <= 1e-5 * expected.abs().max()
    monkeypatch.undo()
    confident = ((expected[0, 0] - expected[0, 1]).abs() > 2e-5 * expected.abs().max()).numpy()
    assert confident.mean() > 0.99 and 0.01 < mask.mean() < 0.99
    np.testing.assert_array_equal(mask[confident], model.predict(image).mask[confident])


def test_tiles_of_many_images_and_of_one_pixel() -> None:
    first, second = unet().predict([np.zeros((1, 1), np.uint8), np.zeros((3, 2), np.uint8)], tile=208)
    assert (first.size, second.size) == ((1, 1), (3, 2))


@pytest.mark.parametrize(
    ("tile", "message"),
    [(188, "208 or more"), (207, "208 or more"), *((wrong, "a number of pixels") for wrong in (0, True, 204.0))],
)
def test_invalid_tile_sizes_are_rejected(tile: object, message: str) -> None:
    """Tiles need 96 pixels of context on each side and start at multiples of 16."""
    with torch.device("meta"), pytest.raises(OptionError, match=f"tile must be {message}"):
        segzoo.create("paper/unet").predict(np.zeros((300, 8), np.uint8), tile=tile)
