"""The three spellings of unpooling are one operation."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segzoo.models.layers.unpooling import Unpool, unpool

SIZES = [(1, 1), (1, 2), (2, 2), (5, 7), (6, 9), (23, 30), (61, 33)]
FILLS = {
    "noise": lambda *size: torch.randn(size),
    "relu zeros": lambda *size: torch.randn(size).relu(),
    "all equal": lambda *size: torch.full(size, 3.0),
    "few values": lambda *size: torch.randint(0, 3, size).float(),
    "minus infinity": lambda *size: torch.where(torch.rand(size) < 0.6, -math.inf, 0.0),
    "signed zeros": lambda *size: torch.where(torch.rand(size) < 0.5, -0.0, 0.0),
}


def reference(x: Tensor, like: Tensor) -> Tensor:
    """Pooling by hand: the first maximum of each window, row by row."""
    out = torch.zeros_like(like)
    for n, c, i, j in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
        window = like[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        if window.numel():
            row, column = divmod(int(window.flatten().argmax()), window.shape[1])
            out[n, c, 2 * i + row, 2 * j + column] = x[n, c, i, j]
    return out


def exported(x: Tensor, like: Tensor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    with monkeypatch.context() as m:
        m.setattr(torch.compiler, "is_exporting", lambda: True)
        return unpool(x, like)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("size", SIZES)
def test_three_spellings_agree_bit_for_bit(size: tuple[int, int], fill: str, monkeypatch: pytest.MonkeyPatch) -> None:
    like = FILLS[fill](2, 3, *size)
    x = torch.randn(2, 3, math.ceil(size[0] / 2), math.ceil(size[1] / 2))
    native = unpool(x, like)
    assert native.shape == like.shape
    assert torch.equal(native, exported(x, like, monkeypatch))
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(native, unpool(x, like))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("size", [(5, 7), (4, 6)])
def test_it_is_the_operation_it_claims_to_be(size: tuple[int, int]) -> None:
    like = torch.randn(2, 3, *size)
    x = torch.randn(2, 3, math.ceil(size[0] / 2), math.ceil(size[1] / 2))
    assert torch.equal(unpool(x, like), reference(x, like))


def test_what_an_encoder_that_rounds_down_lacks_becomes_zero() -> None:
    like, x = torch.randn(1, 2, 5, 7), torch.randn(1, 2, 2, 3)
    _, switches = F.max_pool2d(like, 2, return_indices=True)  # floors
    assert torch.equal(unpool(x, like), F.max_unpool2d(x, switches, 2, output_size=[5, 7]))


def test_gradients_agree_and_none_goes_into_the_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    like = torch.randint(0, 3, (1, 2, 6, 8)).float().requires_grad_()
    weight = torch.randn(1, 2, 6, 8)
    gradients = []
    for run in (unpool, lambda x, like: exported(x, like, monkeypatch)):
        x = torch.ones(1, 2, 3, 4, requires_grad=True)
        (run(x, like) * weight).sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)
    assert like.grad is None


def test_it_undoes_the_pool_that_made_the_map() -> None:
    like = torch.rand(2, 3, 9, 12)
    pooled = F.max_pool2d(like, 2, ceil_mode=True)
    assert torch.equal(F.max_pool2d(Unpool()(pooled, like), 2, ceil_mode=True), pooled)


def test_bfloat16() -> None:
    like, x = torch.randn(1, 2, 5, 7).bfloat16(), torch.randn(1, 2, 3, 4).bfloat16()
    assert torch.equal(unpool(x, like).float(), unpool(x.float(), like.float()))
