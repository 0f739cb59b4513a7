"""Runs the code on the pages: the blocks of a page, in order, in one namespace and one folder.

A fenced block of `python` is executed. In a block of `shell`, every line is a `segzoo` command and must succeed. A
comment on the line before a block says otherwise:

    <!-- not run: reason -->        it cannot be run here
    <!-- from: path -->             it quotes that file, and must be in it word for word
    <!-- new: path --> and so on    it is a step that tests/docs/test_contributing.py takes
"""

import pkgutil
import re
import shlex
import tomllib
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import segzoo
from segzoo.cli import app
from segzoo.data.sample import PHOTOGRAPH
from segzoo.data.video import written_video

ROOT = Path(__file__).parents[1]
PAGES = [
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
]
NOT_RUN = {
    "README.md": 2,
    "CONTRIBUTING.md": 4,
    "docs/caffe.md": 3,
    "docs/command-line.md": 3,
    "docs/data.md": 2,
    "docs/deploying.md": 5,
    "docs/getting-started.md": 2,
    "docs/papers.md": 1,
    "docs/weights.md": 5,
    "docs/results.md": 2,
    "docs/training.md": 3,
}
"""How many blocks of each page are not run, so that nobody adds one by accident."""

BLOCK = re.compile(
    r"""
    (?:^<!--\ (?P<mark>not\ run|from|file|new|insert|replace\ in|run):\ (?P<value>.+)\ -->\n)?
    ^(?P<fence>```+)(?P<language>\w*).*\n
    (?P<code>(?:.*\n)*?)
    (?P=fence)$
    """,
    re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block and the comment before it."""

    language: str
    code: str
    line: int
    mark: str | None
    value: str


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(match["language"], match["code"], text.count("\n", 0, match.start("code")), match["mark"], match["value"])
        for match in BLOCK.finditer(text)
    ]


def commands(block: Block) -> list[list[str]]:
    """The lines of a shell block, split into words; a backslash continues a line."""
    lines = block.code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line.removeprefix("$ "), comments=True))]


def unindented(code: str) -> str:
    return "".join(f"{line.strip()}\n" for line in code.splitlines())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photographs and a video, as the working directory."""
    photograph = Image.open(PHOTOGRAPH).resize((192, 128))
    photograph.save(tmp_path / "street.jpg")
    photograph.save(tmp_path / "scan.tif", save_all=True, append_images=[photograph])
    (tmp_path / "photos").mkdir()
    photograph.save(tmp_path / "photos" / "one.jpg")
    photograph.crop((0, 0, 101, 67)).save(tmp_path / "photos" / "two.png")
    with written_video(tmp_path / "clip.mp4", Fraction(8)) as add:
        for start in range(4):
            add(np.asarray(photograph)[:48, start : start + 64])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("own_registries")
@pytest.mark.parametrize("page", [page for page in PAGES if any(block.mark is None for block in blocks(page))])
def test_blocks_run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.mark == "file":
            (folder / block.value).write_text(block.code, encoding="utf-8")
        if block.mark is not None:
            continue
        location = f"{page}, line {block.line}"
        if block.language == "python":
            # The empty lines make a traceback show the line number of the page.
            exec(compile("\n" * block.line + block.code, str(ROOT / page), "exec"), namespace)
        elif block.language in ("shell", "bash", "console", "sh"):
            for program, *words in commands(block):
                assert program == "segzoo", f"{location}: this test does not run {program!r}; mark the block"
                result = CliRunner().invoke(app, words)
                assert result.exit_code == 0, (
                    f"{location}: segzoo {shlex.join(words)}\n{result.output}{result.exception!r}"
                )
        else:
            assert block.language in ("", "text", "toml"), f"{location}: unknown language {block.language!r}"


@pytest.mark.parametrize("page", PAGES)
def test_quotations_are_true(page: str) -> None:
    for block in blocks(page):
        if block.mark == "from":
            source = (ROOT / block.value).read_text(encoding="utf-8")
            assert unindented(block.code) in unindented(source), f"{page}, line {block.line}: not in {block.value}"


API = "".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md")))
ENTRY = re.compile(r"^::: (?P<name>[\w.]+)$(?:\n    options:\n      members: \[(?P<members>.*)\]$)?", re.MULTILINE)


@pytest.mark.parametrize(("name", "members"), ENTRY.findall(API))
def test_names_on_the_api_pages_exist(name: str, members: str) -> None:
    """mkdocs silently leaves out a member that does not exist."""
    documented = pkgutil.resolve_name(name)
    for member in filter(None, members.split(", ")):
        fields = {field for base in documented.__mro__ for field in vars(base).get("__annotations__", {})}
        assert hasattr(documented, member) or member in fields, f"{name} has no {member}"


def test_every_public_name_is_on_an_api_page() -> None:
    named = {name for name, _ in ENTRY.findall(API)}
    assert {f"segzoo.{name}" for name in segzoo.__all__ if not name.startswith("__")} <= named
    public = vars(segzoo.errors).values()
    errors = [error for error in public if isinstance(error, type) and issubclass(error, Exception)]
    assert {f"segzoo.errors.{error.__name__}" for error in errors} <= named


def test_a_page_with_generated_tables_says_so() -> None:
    """GitHub does not show them."""
    pages = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    built = [page for page, text in pages.items() if re.search(r"^<!-- table: ", text, re.MULTILINE)]
    assert len(built) >= 9
    said = r"\((?:The|Its) table[^.]* generated (?:when|with) the documentation[^.]* `nox -s docs`"
    assert [page for page in built if not re.search(said, " ".join(pages[page].split()))] == []


LAYERS = (ROOT / "docs/design.md").read_text(encoding="utf-8").partition("\n## Layers\n")[2].partition("\n## ")[0]


def rows() -> list[str]:
    """The rows of the table of layers in docs/design.md."""
    return [line for line in LAYERS.splitlines() if line.startswith("| ")][2:]


def contract(name: str) -> list[list[str]]:
    """The layers of an import contract, each a list of modules."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [contract["layers"] for contract in contracts if contract["name"] == name]
    return [layer.split(" | ") for layer in layers]


def test_the_layers_name_every_module() -> None:
    source = Path(segzoo.__file__).parent
    modules = {path.stem for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert modules - set(re.findall(r"`(\w+)`", "".join(rows()))) == {"__init__", "_version"}


def test_the_layers_are_those_of_the_import_contracts() -> None:
    remaining = [set(layer) for layer in contract("Imports go down only")]
    modules = set().union(*remaining)
    for row in rows():
        named = set(re.findall(r"`(\w+)`", row)) & modules
        while named:
            assert remaining and remaining[0] <= named, f"{row}: not the next layer of {remaining}"
            named -= remaining.pop(0)
    assert remaining == []
    sentence = LAYERS.partition("\nInside `models` there are layers too")[2].partition(".\n")[0]
    assert re.findall(r"`(\w+)`", sentence) == list(chain(*contract("In models, imports go down only")))


def test_the_number_of_blocks_that_are_not_run_is_as_stated() -> None:
    counts = {page: sum(block.mark == "not run" for block in blocks(page)) for page in PAGES}
    assert {page: n for page, n in counts.items() if n} == NOT_RUN


def test_every_block_is_matched() -> None:
    """If the pattern above missed them, every test would pass."""
    assert sum(len(blocks(page)) for page in PAGES) >= 15
    for page in PAGES:
        lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
        assert sum(line.lstrip().startswith("```") for line in lines) == 2 * len(blocks(page)), page
