import numpy as np
import pytest
import torch

from segzoo.models.layers.reflection import mirrored_border, reflection


@pytest.mark.parametrize("length", [1, 2, 3, 7, 92, 93, 200])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (92, 107), (3, 0)])
def test_it_equals_numpys_reflection_at_any_size(length: int, before: int, after: int) -> None:
    expected = np.pad(np.arange(length), (before, after), mode="reflect")
    np.testing.assert_array_equal(reflection(length, before, after).numpy(), expected)


def test_it_equals_torchs_reflection() -> None:
    image = torch.rand(2, 3, 6, 9)
    expected = torch.nn.functional.pad(image, (1, 8, 5, 2), mode="reflect")
    torch.testing.assert_close(mirrored_border(image, (5, 2), (1, 8)), expected, rtol=0, atol=0)
