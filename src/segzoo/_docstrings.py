"""Parts of docstrings, with each paragraph on one line."""

import inspect
import re
import sys
from typing import Any


def first_sentence(documented: Any) -> str:
    """The first sentence of a docstring, without its period; empty if there is none."""
    first = _one_line(inspect.cleandoc(documented.__doc__ or "").partition("\n\n")[0])
    return first.partition(". ")[0].rstrip(".")


def class_summary(cls: Any) -> str:
    """A class's docstring up to its arguments."""
    return _one_line((cls.__doc__ or "").partition("Args:")[0])


def module_paragraphs(cls: Any) -> tuple[str, ...]:
    """The paragraphs of the docstring of a class's module; the items of a list are lines of one paragraph."""
    paragraphs = (inspect.getdoc(sys.modules[cls.__module__]) or "").split("\n\n")
    return tuple("\n".join(map(_one_line, re.split(r"\n(?=- )", paragraph))) for paragraph in paragraphs)


def entries(documented: Any) -> dict[str, str]:
    """What a docstring says under "Args:" and "Attributes:" about each name."""
    lists = re.findall(
        r"^(?:Args|Attributes):\n((?: +.*\n?)+)", inspect.cleandoc(documented.__doc__ or ""), re.MULTILINE
    )
    entries = re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n {5,}.*)*)", "".join(lists), re.MULTILINE)
    return {name: _one_line(meaning) for names, meaning in entries for name in names.split(", ")}


def _one_line(text: str) -> str:
    return " ".join(text.split())
