"""Runs what the pages tell a reader to type: the blocks of a page, in order, in one namespace and one folder.

A fenced block of `python` is executed. In a block of `shell`, every line is a `segzoo` command and has to succeed. Two
comments on the line before a block say otherwise:

    <!-- not run: reason -->    it cannot be run here
    <!-- from: path -->         it quotes that file, and has to stand in it as it stands here
"""

import pkgutil
import re
import shlex
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image
from typer.testing import CliRunner

import segzoo
from segzoo.cli import app
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
    "docs/deploying.md": 4,
    "docs/getting-started.md": 1,
    "docs/papers.md": 1,
    "docs/weights.md": 5,
    "docs/results.md": 2,
    "docs/training.md": 3,
}
"""How many blocks of each page are not run; one more has to be wanted."""

BLOCK = re.compile(
    r"""
    (?:^<!--\ (?P<mark>not\ run|from):\ (?P<word>.+)\ -->\n)?
    ^(?P<fence>```+)(?P<language>\w*).*\n
    (?P<code>(?:.*\n)*?)
    (?P=fence)$
    """,
    re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block, and the comment before it."""

    language: str
    code: str
    line: int
    mark: str | None
    word: str


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(found["language"], found["code"], text.count("\n", 0, found.start("code")), found["mark"], found["word"])
        for found in BLOCK.finditer(text)
    ]


def commands(block: Block) -> list[list[str]]:
    """The lines of a shell block as lists of words; a backslash continues a line."""
    lines = block.code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line.removeprefix("$ "), comments=True))]


def unindented(code: str) -> str:
    return "".join(f"{line.strip()}\n" for line in code.splitlines())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photographs and a video in it, to be in."""
    photograph = Image.fromarray(load_sample_image("china.jpg")).resize((192, 128))
    photograph.save(tmp_path / "street.jpg")
    (tmp_path / "photos").mkdir()
    photograph.save(tmp_path / "photos" / "one.jpg")
    photograph.crop((0, 0, 101, 67)).save(tmp_path / "photos" / "two.png")
    with written_video(tmp_path / "clip.mp4", Fraction(8)) as add:
        for start in range(4):
            add(np.asarray(photograph)[:48, start : start + 64])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.mark is None for b in blocks(page))])
def test_blocks_run(page: str, folder: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.mark is not None:
            continue
        where = f"{page}, line {block.line}"
        if block.language == "python":
            # Empty lines in front, so that a traceback names the line of the page.
            exec(compile("\n" * block.line + block.code, str(ROOT / page), "exec"), namespace)
        elif block.language in ("shell", "bash", "console", "sh"):
            for program, *words in commands(block):
                assert program == "segzoo", f"{where}: {program!r} is not run by this test; mark the block"
                result = CliRunner().invoke(app, words)
                assert result.exit_code == 0, (
                    f"{where}: segzoo {shlex.join(words)}\n{result.output}{result.exception!r}"
                )
        else:
            assert block.language in ("", "text", "toml"), f"{where}: what is a block of {block.language}?"


@pytest.mark.parametrize("page", PAGES)
def test_quotations_are_true(page: str) -> None:
    for block in blocks(page):
        if block.mark == "from":
            source = (ROOT / block.word).read_text(encoding="utf-8")
            assert unindented(block.code) in unindented(source), f"{page}, line {block.line}: not in {block.word}"


API = "".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md")))
ENTRY = re.compile(r"^::: (?P<name>[\w.]+)$(?:\n    options:\n      members: \[(?P<members>.*)\]$)?", re.MULTILINE)


@pytest.mark.parametrize(("name", "members"), ENTRY.findall(API))
def test_what_the_api_pages_name_is_there(name: str, members: str) -> None:
    """mkdocs leaves out a member that is gone without a word."""
    documented = pkgutil.resolve_name(name)
    for member in filter(None, members.split(", ")):
        fields = {field for kind in documented.__mro__ for field in vars(kind).get("__annotations__", {})}
        assert hasattr(documented, member) or member in fields, f"{name} has no {member}"


def test_every_public_name_is_on_an_api_page() -> None:
    named = {name for name, _ in ENTRY.findall(API)}
    assert {f"segzoo.{name}" for name in segzoo.__all__ if not name.startswith("__")} <= named
    kinds = [kind for kind in vars(segzoo.errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert {f"segzoo.errors.{kind.__name__}" for kind in kinds} <= named


def test_a_page_with_tables_that_are_built_says_so() -> None:
    """On GitHub there is nothing where they belong."""
    pages = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    built = [page for page, text in pages.items() if re.search(r"^<!-- table: ", text, re.MULTILINE)]
    assert len(built) >= 9
    assert [page for page in built if "when the documentation is built, `nox -s docs`" not in pages[page]] == []


def test_the_floors_name_every_module() -> None:
    table = (ROOT / "docs/design.md").read_text(encoding="utf-8").partition("## Floors")[2].partition("\n## ")[0]
    source = Path(segzoo.__file__).parent
    modules = {path.stem for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert modules - set(re.findall(r"`(\w+)`", table)) == {"__init__", "_version"}


def test_blocks_that_are_not_run_are_counted() -> None:
    counts = {page: sum(block.mark == "not run" for block in blocks(page)) for page in PAGES}
    assert {page: n for page, n in counts.items() if n} == NOT_RUN


def test_blocks_are_found() -> None:
    """The pattern above could miss them all, and everything would pass."""
    assert sum(len(blocks(page)) for page in PAGES) >= 15
    for page in PAGES:
        lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
        assert sum(line.lstrip().startswith("```") for line in lines) == 2 * len(blocks(page)), page
