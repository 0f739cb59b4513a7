"""A value whose `repr` fails or never ends is named by its type in messages, wherever it is passed."""

from collections.abc import Callable
from typing import Any

import pytest

import segzoo
from segzoo.classes import ClassSet
from segzoo.errors import SegzooError
from segzoo.spec import ExportSpec, ModelSpec


class Unprintable:
    """Its `repr` raises, as that of an integer of 5,000 digits does."""

    def __repr__(self) -> str:
        raise RuntimeError("repr")


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize("value", [10**5000, Unprintable(), deep()], ids=["digits", "repr", "deep"])
@pytest.mark.parametrize(
    "use",
    [
        ClassSet.generic,
        lambda value: ClassSet(value, ((0, 0, 0),)),
        lambda value: ClassSet(("a",), ((value, 0, 0),)),
        lambda value: ClassSet(("a",), (value,)),
        lambda value: ModelSpec("unet", "vgg16", ClassSet.generic(2), in_channels=value),
        lambda value: ModelSpec.from_dict({"format_version": value}),
        lambda value: ExportSpec(opset=value),
        lambda value: segzoo.create("unet", encoder="test_resnet", num_classes=value),
        lambda value: segzoo.create(value, num_classes=2),
    ],
)
def test_a_value_that_cannot_be_printed_is_named_by_its_type(use: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(SegzooError) as raised:
        use(value)
    assert len(str(raised.value)) < 4_000
