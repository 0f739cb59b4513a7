"""Architectures as strings: a sequence of `C{kernel},{channels},{stride}` (convolution) and `M{size}` (max pooling).

    parse("C5,64,2C5,64,1M2")  # two 5x5 convolutions with 64 channels, the first at stride 2, then a 2x2 max pool

The grammar is that of arahusky/Tensorflow-Segmentation.
"""

import math
from dataclasses import dataclass
from typing import NoReturn

from segzoo.errors import OptionError

MAX_NUMBER = 4096
"""Largest kernel size, number of channels, stride or pool size."""

MAX_STRIDE = 1024
"""Largest product of all strides and pool sizes."""

MAX_LENGTH = 4096
"""Longest string; a thousand layers fit."""

MAX_WEIGHTS = 10**9
"""Largest number of weights in the encoder's convolutions, so that a typo cannot request a terabyte."""


@dataclass(frozen=True)
class Conv:
    """A square convolution; sizes in pixels."""

    kernel: int
    channels: int
    stride: int


@dataclass(frozen=True)
class Pool:
    """A square max pool whose stride equals its size."""

    size: int

    @property
    def stride(self) -> int:
        return self.size


def parse(architecture: str) -> list[Conv | Pool]:
    """Parses a string into its layers, in order.

    Raises:
        OptionError: the argument is not a string of up to 4096 characters, does not follow the grammar, contains a
            number outside 1 to 4096 or no convolution, has strides whose product exceeds 1024, or has convolutions with
            more than 1e9 weights. The message points at the character.
    """
    if not isinstance(architecture, str):
        raise OptionError(f"architecture must be a string such as 'C5,64,2C5,64,1M2', not {architecture!r}.")
    if len(architecture) > MAX_LENGTH:
        raise OptionError(f"architecture must have up to {MAX_LENGTH} characters, not {len(architecture):,}.")
    layers: list[Conv | Pool] = []
    position = in_channels = weights = 0
    while position < len(architecture):
        start = position
        letter = architecture[position]
        fields = {"C": ("kernel", "channels", "stride"), "M": ("size",)}.get(letter)
        if fields is None:
            _fail(architecture, position, "a layer begins with C (convolution) or M (max pooling)")
        position += 1
        numbers: list[int] = []
        for field in fields:
            if numbers:
                if architecture[position : position + 1] != ",":
                    rule = f"expected a comma before the {field} in C{{kernel}},{{channels}},{{stride}}"
                    _fail(architecture, position, rule)
                position += 1
            end = position
            while architecture[end : end + 1] in tuple("0123456789"):
                end += 1
            if end == position:
                _fail(architecture, position, f"expected a number for the {field} of {letter}")
            if end - position > 4 or not 1 <= int(architecture[position:end]) <= MAX_NUMBER:
                _fail(architecture, position, f"the {field} of {letter} must be 1 to {MAX_NUMBER}")
            numbers.append(int(architecture[position:end]))
            position = end
        layers.append(layer := Conv(*numbers) if letter == "C" else Pool(*numbers))
        if isinstance(layer, Conv):
            # The first convolution takes the image, whose number of channels is small and not known here.
            weights += layer.kernel**2 * layer.channels * (in_channels or 1)
            in_channels = layer.channels
            if weights > MAX_WEIGHTS:
                rule = f"the convolutions up to here have {weights:,} weights; the maximum is {MAX_WEIGHTS:,}"
                _fail(architecture, start, rule)
    if not any(isinstance(layer, Conv) for layer in layers):
        _fail(architecture, position, "at least one convolution is required, such as C5,64,2")
    if (stride := math.prod(layer.stride for layer in layers)) > MAX_STRIDE:
        rule = f"the product of all strides and pool sizes is {stride}; the maximum is {MAX_STRIDE}"
        _fail(architecture, position, rule)
    return layers


def _printable(text: str) -> str:
    """Escapes characters that do not occupy one column, such as tabs and newlines, so that the caret lines up."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _fail(architecture: str, position: int, rule: str) -> NoReturn:
    raise OptionError(
        f"Invalid architecture at character {position + 1}: {rule}.\n"
        f"    {_printable(architecture)}\n    {' ' * len(_printable(architecture[:position]))}^"
    )
