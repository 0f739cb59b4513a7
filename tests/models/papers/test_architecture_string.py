import pytest

from segzoo.errors import OptionError
from segzoo.models.papers.architecture_string import Conv, Pool, parse


def test_layers_are_parsed_in_order() -> None:
    assert parse("C7,64,2C5,32,1M2") == [Conv(7, 64, 2), Conv(5, 32, 1), Pool(2)]


@pytest.mark.parametrize(
    ("architecture", "character", "rule"),
    [
        ("C5,64,2X", 8, "begins with C (convolution) or M (max pooling)"),
        ("c5,64,2", 1, "begins with C"),
        ("C5,64,2 M2", 8, "begins with C"),
        ("C5;64,2", 3, "expected a comma before the channels"),
        ("C5,64M2", 6, "expected a comma before the stride"),
        ("C5,64", 6, "expected a comma before the stride"),
        ("C5,,2", 4, "expected a number for the channels of C"),
        ("C5,64,2M", 9, "expected a number for the size of M"),
        ("C5,64,2M\u0662", 9, "expected a number for the size of M"),
        ("C0,64,2", 2, "the kernel of C must be 1 to 4096"),
        ("C5,64,2M0", 9, "the size of M must be 1 to 4096"),
        ("C5,99999,2", 4, "the channels of C must be 1 to 4096"),
        ("", 1, "at least one convolution"),
        ("M2M2", 5, "at least one convolution"),
        ("C5,64,64M32", 12, "pool sizes is 2048; the maximum is 1024"),
        ("C4096,4096,1C4096,4096,1", 1, "68,719,476,736 weights; the maximum is 1,000,000,000"),
        ("C3,8,1C5,4096,1C9,4096,1", 16, "weights; the maximum is 1,000,000,000"),
    ],
)
def test_the_message_points_at_the_error(architecture: str, character: int, rule: str) -> None:
    with pytest.raises(OptionError) as raised:
        parse(architecture)
    message, line, caret = str(raised.value).split("\n")
    assert f"at character {character}:" in message and rule in message
    assert line == f"    {architecture}"
    assert caret.index("^") == 4 + character - 1


def test_the_caret_lines_up_if_characters_are_not_printable() -> None:
    with pytest.raises(OptionError) as raised:
        parse("C5,64,2\n\tM2")
    assert str(raised.value).split("\n")[1:] == [r"    C5,64,2\n\tM2", "    " + " " * 7 + "^"]
    with pytest.raises(OptionError) as raised:
        parse("\tC5")
    assert str(raised.value).split("\n")[1:] == [r"    \tC5", "    ^"]


@pytest.mark.parametrize("architecture", [None, 5, b"C5,64,2"])
def test_other_types_are_rejected(architecture: object) -> None:
    with pytest.raises(OptionError, match="architecture must be a string such as 'C5"):
        parse(architecture)
