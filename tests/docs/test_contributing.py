"""CONTRIBUTING.md's walk through adding a decoder, followed in a copy of the repository.

The walk's blocks are marked, each on the line before it:

    <!-- new: PATH -->                     the content of a new file
    <!-- insert: PATH, after: LINE -->     lines to insert after the first line that reads LINE; likewise `before:`
    <!-- replace in: PATH, PATH -->        two lines: a text, and what takes its place
    <!-- run: in the repository -->        commands that run Python
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
WALK = PAGE.partition("\n## Adding a decoder\n")[2].partition("\n## ")[0]
STEP = re.compile(
    r"^<!-- (?P<action>new|insert|replace in|run): (?P<target>.+) -->\n```\w+\n(?P<text>(?:.*\n)*?)```$", re.M
)


@dataclass(frozen=True)
class Step:
    """One step of the walk."""

    action: str
    target: str
    text: str

    def apply(self, root: Path) -> None:
        if self.action == "new":
            path = root / self.target
            assert not path.exists(), f"{self.target} exists already"
            path.write_text(self.text, encoding="utf-8")
        elif self.action == "insert":
            name, where, anchor = re.split(r", (after|before): ", self.target)
            lines = (root / name).read_text(encoding="utf-8").splitlines(keepends=True)
            matches = [number for number, line in enumerate(lines) if line.strip() == anchor]
            assert matches, f"{name} has no line {anchor!r}"
            lines.insert(matches[0] + (where == "after"), self.text)
            (root / name).write_text("".join(lines), encoding="utf-8")
        elif self.action == "run":
            for command in self.text.splitlines():
                program, *words = command.split()
                assert program == "python"
                print(run(root, *words).stderr)  # if it fails, so do the checks
        else:
            old, new = self.text.splitlines()
            for name in self.target.split(", "):
                content = (root / name).read_text(encoding="utf-8")
                assert old in content.lower(), f"{name} does not say {old!r}"
                content = content.replace(old.capitalize(), new.capitalize()).replace(old, new)
                (root / name).write_text(content, encoding="utf-8")


STEPS = [Step(**match.groupdict()) for match in STEP.finditer(WALK)]


def tree_with(steps: list[Step], root: Path) -> Path:
    """A copy of the repository, weights and pictures left out, with these steps taken."""
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors", "images", "helpers", "weights")
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    for folder in ("tests", "docs", "tools"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, root)
    for step in steps:
        step.apply(root)
    return root


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in the copy, with the copy's package."""
    environment = os.environ | {"PYTHONPATH": "src", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)


USE = """
import segzoo, torch
from typer.testing import CliRunner
from segzoo.cli import app

model = segzoo.create("tiny", encoder="test_resnet", num_classes=3)
assert model(torch.zeros(2, 3, 33, 47)).shape == (2, 3, 33, 47)
for words in (["list"], ["info", "tiny"]):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "tiny" in result.output and "nearest" in result.output, result.output
"""
GENERATED = ("tests/tools/test_create_overloads.py", "tests/tools/test_descriptions.py")
PYTEST = ("-m", "pytest", "-q", "-x", "-rA", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "pythonpath=")
DECODERS = "tests/models/decoders/test_decoders.py"
CHECKS = {
    "use": ("-c", USE),
    "registry": (*PYTEST, "tests/test_registry.py", DECODERS, "-k", "test_registry or tiny"),
    "modes": (*PYTEST, DECODERS, "-k", "tiny"),
    "listed": (*PYTEST, "--noconftest", "tests/test_decoders_are_listed.py"),
    "generated files": (*PYTEST, "-o", "pythonpath=tools", *GENERATED),
    "import contracts": ("-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"),
}

# By target and part of the text: the check that fails if this step is left out.
LEFT_OUT = [
    ("src/segzoo/models/decoders/tiny.py", "", "use"),
    ("src/segzoo/_registry.py", "", "use"),
    ("in the repository", "", "use"),
    ("pyproject.toml, after", "", "listed"),
    ("tests/models/decoders/test_decoders.py", "num_classes", "listed"),
    ("tests/models/decoders/test_decoders.py", "nearest", "modes"),
    ("docs/models.md", "", "listed"),
    ("CHANGELOG.md", "", "listed"),
    ("README.md, pyproject.toml", "", "listed"),
]


COVERED = ("test_parameter_counts_are_the_published_ones", "test_decoders_are_final_and_described")
"""Tests of decoders that must have run for the new one."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree_with(STEPS, tmp_path_factory.mktemp("walk"))


@pytest.mark.parametrize("check", ["use", "registry", "listed", "generated files", "import contracts"])
def test_the_walk_adds_a_decoder(check: str, tree: Path) -> None:
    done = run(tree, *CHECKS[check])
    assert done.returncode == 0, done.stdout + done.stderr
    if check == "registry":
        passed = set(re.findall(r"^PASSED .*::(test_\w+)", done.stdout, re.M))
        assert passed >= set(COVERED) and "PASSED tests/test_registry.py::" in done.stdout


def test_the_new_file_passes_ruff(tree: Path) -> None:
    for tool in (("ruff", "format", "--check"), ("ruff", "check")):
        done = run(tree, "-m", *tool, "src/segzoo/models/decoders/tiny.py")
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("target", "text", "check"), LEFT_OUT)
def test_no_step_can_be_left_out(target: str, text: str, check: str, tmp_path: Path) -> None:
    (omitted,) = [step for step in STEPS if step.target.startswith(target) and text in step.text]
    # The other checks do not read what the tools write.
    steps = [step for step in STEPS if step is not omitted and (step.action != "run" or check == "use")]
    done = run(tree_with(steps, tmp_path), *CHECKS[check])
    assert done.returncode == 1, done.stdout + done.stderr


def test_each_step_is_left_out_once() -> None:
    matched = [
        step for target, text, _ in LEFT_OUT for step in STEPS if step.target.startswith(target) and text in step.text
    ]
    assert len(matched) == len(STEPS) == len(set(matched)) == 9


def test_every_nox_session_is_documented() -> None:
    noxfile = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    sessions = set()
    for node in noxfile.body:
        for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            if ast.unparse(decorator).startswith("nox.session"):
                named = re.search(r"name='([\w-]+)'", ast.unparse(decorator))
                sessions.add(named[1] if named else node.name)
    table = PAGE.partition("| --- | --- |\n")[2].partition("\n\n")[0]
    assert {name for row in table.splitlines() for name in re.findall(r"`([\w-]+)`", row.split("|")[1])} == sessions
