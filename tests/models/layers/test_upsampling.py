import pytest
import torch
import torch.nn.functional as F

from segzoo.errors import UnknownNameError
from segzoo.models.layers.upsampling import UPSAMPLE_MODES, Transposed, bilinear_kernel, upsampling


@pytest.mark.parametrize("mode", UPSAMPLE_MODES)
@pytest.mark.parametrize("channels_in", [4, 6])
@pytest.mark.parametrize("size", [(8, 10), (7, 9), (9, 11), (8, 11), (13, 14)])  # twice, less, and more
def test_every_mode_reaches_the_size_of_the_reference(mode: str, channels_in: int, size: tuple[int, int]) -> None:
    up = upsampling(mode, channels_in, 4)
    assert up(torch.randn(2, channels_in, 4, 5), torch.randn(2, 4, *size)).shape == (2, 4, *size)


def test_bilinear_kernel_is_the_published_one() -> None:
    expected = torch.tensor([0.25, 0.75, 0.75, 0.25])
    assert torch.equal(bilinear_kernel(4), expected[:, None] * expected)
    assert bilinear_kernel(3).tolist() == [[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]]


def test_transposed_starts_as_bilinear_interpolation() -> None:
    x = torch.randn(1, 3, 6, 7)
    up = Transposed(3)(x, torch.empty(1, 3, 12, 14))
    expected = F.interpolate(x, (12, 14), mode="bilinear", align_corners=False)
    # Only the border differs: the convolution pads with zeros, the interpolation repeats the border.
    torch.testing.assert_close(up[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-6, rtol=0)
    assert not torch.allclose(up, expected)


@pytest.mark.parametrize("mode", ["transposed", "upconv"])
def test_learned_modes_pad_with_zeros_if_twice_the_size_is_too_small(mode: str) -> None:
    up, x = upsampling(mode, 2, 2), torch.randn(1, 2, 4, 5)
    padded = F.pad(x, (0, 1, 0, 1))
    assert torch.equal(up(x, torch.empty(1, 2, 9, 11)), up.convolution(padded)[..., :9, :11])


def test_upconv_maps_each_value_to_a_separate_square() -> None:
    up, x = upsampling("upconv", 3, 2), torch.randn(1, 3, 4, 5)
    weight, bias = up.convolution.weight, up.convolution.bias
    expected = torch.einsum("nchw,cdij->ndhiwj", x, weight).reshape(1, 2, 8, 10) + bias[:, None, None]
    torch.testing.assert_close(up(x, torch.empty(1, 2, 8, 10)), expected)


def test_nearest_repeats() -> None:
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    up = upsampling("nearest", 1, 1)(x, torch.empty(1, 1, 4, 4))
    assert up[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_only_learned_modes_have_weights() -> None:
    count = {mode: sum(p.numel() for p in upsampling(mode, 4, 4).parameters()) for mode in UPSAMPLE_MODES}
    assert count == {"bilinear": 0, "nearest": 0, "unpool": 0, "transposed": 4 * 4 * 16, "upconv": 4 * 4 * 4 + 4}


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("nearset", "'nearset'. Did you mean 'nearest'"),
        ("", "Unknown upsampling mode ''. The .* are bilinear"),
        (None, "Unknown upsampling mode 'None'"),
    ],
)
@pytest.mark.parametrize("channels_out", [32, 16])
def test_unknown_modes(mode: str, message: str, channels_out: int) -> None:
    with pytest.raises(UnknownNameError, match=message):
        upsampling(mode, 32, channels_out)
