"""Each decoder is named wherever decoders are listed by hand. No torch is needed to find out."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from segzoo._registry import DECODERS

ROOT = Path(__file__).parents[1]
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_every_decoder_module_is_in_the_import_contract() -> None:
    """Independence is checked only between modules that the contract names."""
    contracts = tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (modules,) = [
        contract["modules"] for contract in contracts if contract["name"] == "A decoder knows no other decoder"
    ]
    folder = ROOT / "src/segzoo/models/decoders"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "base"}
    assert set(modules) == {f"segzoo.models.decoders.{name}" for name in files}


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_has_a_published_parameter_count(name: str) -> None:
    tests = ast.parse(text("tests/models/decoders/test_decoders.py"))
    (counts,) = [
        node.value for node in tests.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COUNTS"
    ]
    assert isinstance(counts, ast.List)
    assert name in {ast.literal_eval(row.elts[0]) for row in counts.elts if isinstance(row, ast.Tuple)}


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_is_described_and_announced(name: str) -> None:
    sections = text("docs/models.md").partition("\n## The decoders\n")[2].partition("\n## ")[0]
    plain = re.sub(r"\W|_", "", sections.lower())
    assert name.replace("_", "") in plain, f"docs/models.md has no section on {name}"
    changelog = re.sub(r"\W|_", "", text("CHANGELOG.md").lower())
    assert name.replace("_", "") in changelog or f"`{name}`" in text("CHANGELOG.md")


@pytest.mark.parametrize("path", ["README.md", "pyproject.toml", "src/segzoo/cli/program.py"])
def test_the_stated_number_of_decoders_is_right(path: str) -> None:
    stated = re.findall(rf"\b({'|'.join(NUMBERS)}) decoders\b", text(path).lower())
    assert stated and set(stated) == {NUMBERS[len(DECODERS)]}
