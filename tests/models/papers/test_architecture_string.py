import pytest

from segzoo.errors import OptionError
from segzoo.models.papers.architecture_string import Conv, Pool, parse


def test_layers_in_their_order() -> None:
    assert parse("C7,64,2C5,32,1M2") == [Conv(7, 64, 2), Conv(5, 32, 1), Pool(2)]


@pytest.mark.parametrize(
    ("spec", "character", "rule"),
    [
        ("C5,64,2X", 8, "begins with C (convolution) or M (max-pool)"),
        ("c5,64,2", 1, "begins with C"),
        ("C5,64,2 M2", 8, "begins with C"),
        ("C5;64,2", 3, "a comma stands before the channels"),
        ("C5,64M2", 6, "a comma stands before the stride"),
        ("C5,64", 6, "a comma stands before the stride"),
        ("C5,,2", 4, "the channels of C are a number"),
        ("C5,64,2M", 9, "the size of M is a number"),
        ("C5,64,2M\u0662", 9, "the size of M is a number"),
        ("C0,64,2", 2, "the kernel of C is 1 to 4096"),
        ("C5,64,2M0", 9, "the size of M is 1 to 4096"),
        ("C5,99999,2", 4, "the channels of C are 1 to 4096"),
        ("", 1, "at least one convolution"),
        ("M2M2", 5, "at least one convolution"),
        ("C5,64,64M32", 12, "1024 at most, and here to 2048"),
        ("C4096,4096,1C4096,4096,1", 1, "1,000,000,000 weights at most, and up to here 68,719,476,736"),
        ("C3,8,1C5,4096,1C9,4096,1", 16, "1,000,000,000 weights at most"),
    ],
)
def test_a_mistake_is_pointed_at(spec: str, character: int, rule: str) -> None:
    with pytest.raises(OptionError) as raised:
        parse(spec)
    message, shown, caret = str(raised.value).split("\n")
    assert f"at character {character}:" in message and rule in message
    assert shown == f"    {spec}"
    assert caret.index("^") == 4 + character - 1


def test_the_caret_stands_under_its_character_where_others_are_invisible() -> None:
    with pytest.raises(OptionError) as raised:
        parse("C5,64,2\n\tM2")
    assert str(raised.value).split("\n")[1:] == [r"    C5,64,2\n\tM2", "    " + " " * 7 + "^"]
    with pytest.raises(OptionError) as raised:
        parse("\tC5")
    assert str(raised.value).split("\n")[1:] == [r"    \tC5", "    ^"]


@pytest.mark.parametrize("spec", [None, 5, b"C5,64,2"])
def test_what_is_no_string_is_refused(spec: object) -> None:
    with pytest.raises(OptionError, match="An architecture is a string such as 'C5"):
        parse(spec)
