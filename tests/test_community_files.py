"""The files that GitHub and PyPI read: workflows, citation, project URLs."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # timm and huggingface_hub depend on it

import segzoo

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
USES = re.compile(r"^\s*(?:-\s+)?[\"']?uses[\"']?\s*:\s*(?P<action>.+?)\s*$", re.MULTILINE)
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}\s+# v\d+(?:\.\d+){0,2}")
EXPRESSION = re.compile(r"\$\{\{\s*matrix\.(\w+)\s*\}\}")


def unpinned(workflow: str) -> list[str]:
    """The actions of a workflow that lack a full commit digest or the comment with its version."""
    return [action for action in USES.findall(workflow) if not PINNED.fullmatch(action)]


def matrix_values(job: dict[str, Any], key: str) -> list[str]:
    """Every value of a key of a job's matrix."""
    matrix = job["strategy"]["matrix"]
    return [*matrix.get(key, []), *(entry[key] for entry in matrix.get("include", []) if key in entry)]


def called_sessions(workflow: str) -> set[str]:
    """The nox sessions that a workflow runs; `${{ matrix.KEY }}` stands for every value of that key."""
    called: set[str] = set()
    for job in yaml.safe_load(workflow)["jobs"].values():
        for step in job.get("steps", []):
            # An expression may contain spaces.
            for names in re.findall(r"\bnox -s((?:\s+(?:\$\{\{.*?\}\}|[^\s-]\S*))+)", step.get("run", "")):
                for key in EXPRESSION.findall(names):
                    called |= set(matrix_values(job, key))
                called |= set(EXPRESSION.sub("", names).split())
    return called


def defined_sessions(noxfile: str) -> set[str]:
    """The names of the sessions that a noxfile defines."""
    sessions = set()
    for node in ast.parse(noxfile).body:
        for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if ast.unparse(called) != "nox.session":
                continue
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            named = [keyword.value for keyword in keywords if keyword.arg == "name"]
            sessions.add(ast.literal_eval(named[0]) if named else node.name)
    return sessions


def test_the_citation_has_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == segzoo.__version__


def test_there_are_workflows() -> None:
    """Without any, the tests below would pass."""
    texts = [path.read_text(encoding="utf-8") for path in WORKFLOWS]
    assert sum(len(USES.findall(text)) for text in texts) >= 2
    assert set().union(*map(called_sessions, texts)) >= {"lint", "types", "docs", "tests", "build", "lowest"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_digest_and_version(path: Path) -> None:
    assert unpinned(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "action",
    [
        "actions/checkout@v6",
        "actions/checkout@v6 # v6.0.2",
        f"actions/checkout@{'a' * 40}",
        f"actions/checkout@{'a' * 39} # v6.0.2",
        f"actions/checkout@{'a' * 40} # latest",
    ],
)
def test_an_action_that_is_not_pinned_is_reported(action: str) -> None:
    assert unpinned(f"steps:\n  - uses: {action}\n") == [action]
    assert unpinned(f"steps:\n  - name: Check out\n    uses: {action}\n") == [action]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_sessions_that_exist(path: Path) -> None:
    called = called_sessions(path.read_text(encoding="utf-8"))
    assert called - defined_sessions((ROOT / "noxfile.py").read_text(encoding="utf-8")) == set()


def test_called_sessions_are_read_from_commands_and_matrices() -> None:
    workflow = """
    jobs:
      checks:
        steps:
          - run: python -m nox -s lint types --error-on-missing-interpreters
          - run: |
              nox -s docs -- serve
      weekly:
        strategy: {matrix: {session: [newest], include: [{session: lowest}]}}
        steps:
          - run: nox -s ${{ matrix.session }}
    """
    assert called_sessions(workflow) == {"lint", "types", "docs", "newest", "lowest"}


def test_defined_sessions_are_read_from_decorators() -> None:
    noxfile = """
@nox.session
def lint(session): ...

@nox.session(name="tests-all", python=PYTHONS)
def tests_all(session): ...

@nox.session(python=PYTHONS[0])
def lowest(session): ...

def helper(session): ...
"""
    assert defined_sessions(noxfile) == {"lint", "tests-all", "lowest"}


def test_the_project_has_a_homepage_and_its_urls_are_complete() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert "Homepage" in urls
    incomplete = {
        name: url for name, url in urls.items() if urlsplit(url).scheme != "https" or not urlsplit(url).netloc
    }
    assert incomplete == {}
