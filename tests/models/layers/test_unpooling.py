"""The three implementations of unpooling are equal."""

import math

import onnxruntime
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


def reference(x: Tensor, ref: Tensor) -> Tensor:
    """Unpooling in plain loops: the first maximum of each window, row by row."""
    out = torch.zeros_like(ref)
    for n, c, i, j in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
        window = ref[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        if window.numel():
            row, column = divmod(int(window.flatten().argmax()), window.shape[1])
            out[n, c, 2 * i + row, 2 * j + column] = x[n, c, i, j]
    return out


def exported(x: Tensor, ref: Tensor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    with monkeypatch.context() as m:
        m.setattr(torch.compiler, "is_exporting", lambda: True)
        return unpool(x, ref)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("size", SIZES)
def test_the_three_implementations_are_bit_identical(
    size: tuple[int, int], fill: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = FILLS[fill](2, 3, *size)
    x = torch.randn(2, 3, math.ceil(size[0] / 2), math.ceil(size[1] / 2))
    native = unpool(x, ref)
    assert native.shape == ref.shape
    assert torch.equal(native, exported(x, ref, monkeypatch))
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(native, unpool(x, ref))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("size", [(5, 7), (4, 6)])
def test_it_equals_the_reference(size: tuple[int, int]) -> None:
    ref = torch.randn(2, 3, *size)
    x = torch.randn(2, 3, math.ceil(size[0] / 2), math.ceil(size[1] / 2))
    assert torch.equal(unpool(x, ref), reference(x, ref))


def test_the_last_odd_row_and_column_are_zero_if_the_encoder_rounds_down() -> None:
    ref, x = torch.randn(1, 2, 5, 7), torch.randn(1, 2, 2, 3)
    _, indices = F.max_pool2d(ref, 2, return_indices=True)  # rounds down
    assert torch.equal(unpool(x, ref), F.max_unpool2d(x, indices, 2, output_size=[5, 7]))


def test_gradients_agree_and_the_reference_map_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    ref = torch.randint(0, 3, (1, 2, 6, 8)).float().requires_grad_()
    weight = torch.randn(1, 2, 6, 8)
    gradients = []
    for run in (unpool, lambda x, ref: exported(x, ref, monkeypatch)):
        x = torch.ones(1, 2, 3, 4, requires_grad=True)
        (run(x, ref) * weight).sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)
    assert ref.grad is None


def test_it_inverts_the_pooling() -> None:
    ref = torch.rand(2, 3, 9, 12)
    pooled = F.max_pool2d(ref, 2, ceil_mode=True)
    assert torch.equal(F.max_pool2d(Unpool()(pooled, ref), 2, ceil_mode=True), pooled)


def test_bfloat16() -> None:
    ref, x = torch.randn(1, 2, 5, 7).bfloat16(), torch.randn(1, 2, 3, 4).bfloat16()
    assert torch.equal(unpool(x, ref).float(), unpool(x.float(), ref.float()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch 2.11's exporter uses what torch deprecates
def test_a_convolution_after_it_is_exported_for_any_size() -> None:
    """As in SegNet, whose pools round up. torch 2.11 could not trace this while the last crop was a slice."""

    class PoolAndUnpool(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, image: Tensor) -> Tensor:
            maps = [image]
            for _ in range(2):
                maps.append(F.max_pool2d(self.conv(maps[-1]), 2, ceil_mode=True))
            x: Tensor = self.conv(unpool(self.conv(unpool(maps[2], maps[1])), maps[0]))
            return x

    model = PoolAndUnpool().eval()
    axes = {0: "batch", 2: "height", 3: "width"}
    program = torch.onnx.export(
        model, (torch.randn(2, 2, 70, 90),), dynamo=True, dynamic_shapes=(axes,), verbose=False, opset_version=18
    )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in ((2, 2, 70, 90), (3, 2, 33, 47), (1, 2, 96, 64)):
        image = torch.randn(size)
        actual = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(actual), model(image))
