"""Architectures as strings: `C{kernel},{channels},{stride}` is a convolution, `M{size}` a max-pool, in a row.

    parse("C5,64,2C5,64,1M2")  # two convolutions of 5x5 with 64 channels, the first at stride 2, and a pool of 2x2

The grammar is that of arahusky/Tensorflow-Segmentation.
"""

import math
from dataclasses import dataclass
from typing import NoReturn

from segzoo.errors import OptionError

GREATEST = 4096
"""What a number may be."""

MOST_WEIGHTS = 10**9
"""Of all convolutions on the way down: a typo is not to ask for a terabyte."""


@dataclass(frozen=True)
class Conv:
    """A square convolution; sizes in pixels."""

    kernel: int
    channels: int
    stride: int


@dataclass(frozen=True)
class Pool:
    """A square max-pool with its size as its stride."""

    size: int

    @property
    def stride(self) -> int:
        return self.size


def parse(spec: str) -> list[Conv | Pool]:
    """The layers that a string names.

    Raises:
        OptionError: it is no string, does not follow the grammar, a number is not 1 to 4096, it has no convolution, its
            strides multiply to more than 1024, or its convolutions have more than 1e9 weights. The message points at
            the character.
    """
    if not isinstance(spec, str):
        raise OptionError(f"An architecture is a string such as 'C5,64,2C5,64,1M2', not {spec!r}.")
    layers: list[Conv | Pool] = []
    place = before = weights = 0
    while place < len(spec):
        begin = place
        kind = spec[place]
        names = {"C": ("kernel", "channels", "stride"), "M": ("size",)}.get(kind)
        if names is None:
            _refuse(spec, place, "a layer begins with C (convolution) or M (max-pool)")
        place += 1
        numbers: list[int] = []
        for name in names:
            if numbers:
                if spec[place : place + 1] != ",":
                    _refuse(spec, place, f"a comma stands before the {name} of C{{kernel}},{{channels}},{{stride}}")
                place += 1
            end = place
            while spec[end : end + 1] in tuple("0123456789"):
                end += 1
            if end == place:
                _refuse(spec, place, f"the {name} of {kind} {_is(name)} a number")
            if end - place > 4 or not 1 <= int(spec[place:end]) <= GREATEST:
                _refuse(spec, place, f"the {name} of {kind} {_is(name)} 1 to {GREATEST}")
            numbers.append(int(spec[place:end]))
            place = end
        layers.append(layer := Conv(*numbers) if kind == "C" else Pool(*numbers))
        if isinstance(layer, Conv):
            # The first takes the image, whose few channels are not known here.
            weights += layer.kernel**2 * layer.channels * (before or 1)
            before = layer.channels
            if weights > MOST_WEIGHTS:
                _refuse(spec, begin, f"convolutions have {MOST_WEIGHTS:,} weights at most, and up to here {weights:,}")
    if not any(isinstance(layer, Conv) for layer in layers):
        _refuse(spec, place, "there is at least one convolution, such as C5,64,2")
    if (total := math.prod(layer.stride for layer in layers)) > 1024:
        _refuse(spec, place, f"strides and pools multiply to 1024 at most, and here to {total}")
    return layers


def _is(name: str) -> str:
    return "are" if name == "channels" else "is"


def _shown(spec: str) -> str:
    """With escapes for characters that take another place than one, such as a tab or a line's end."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in spec)


def _refuse(spec: str, place: int, rule: str) -> NoReturn:
    raise OptionError(
        f"The architecture cannot be read at character {place + 1}: {rule}.\n"
        f"    {_shown(spec)}\n    {' ' * len(_shown(spec[:place]))}^"
    )
