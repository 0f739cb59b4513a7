"""The program: help, version, and how errors are reported."""

import re

import pytest

import segzoo
from segzoo.cli import files

COMMANDS = (
    "list",
    "info",
    "export",
    "convert",
    "predict",
    "push",
    "augment",
    "train",
    "evaluate",
    "compare",
    "bench",
    "doctor",
    "demo",
)

HEAVY = """
import sys
from segzoo.cli import app
{first}
try:
    app(["--help"])
except SystemExit as end:
    assert not end.code, end.code
heavy = sorted({{"torch", "timm", "onnx", "onnxruntime", "sklearn", "numpy", "PIL"}} & set(sys.modules))
sys.exit(f"imported: {{heavy}}" if heavy else 0)
"""


def test_help_names_every_command(segzoo_):
    done = segzoo_("--help")
    assert done.exit_code == 0
    assert all(re.search(rf"^\W+{name}  ", done.stdout, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(segzoo_, command):
    done = segzoo_(command, "--help")
    assert done.exit_code == 0
    assert f"segzoo {command}" in done.stdout, "no example"
    assert re.search(r"--import +MODULE +Import a module", done.stdout)
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", done.stdout), "control characters in piped output"


def test_help_imports_nothing_heavy(python):
    done = python(HEAVY.format(first=""))
    assert (done.returncode, done.stderr) == (0, "")


def test_that_check_can_fail(python):
    assert "imported: ['numpy'" in python(HEAVY.format(first="import numpy")).stderr


def test_without_arguments_it_says_what_to_do_next(segzoo_):
    done = segzoo_()
    assert done.exit_code == 0
    assert all(f"segzoo {words}" in done.stdout for words in ("demo", "predict photos/", "train --help", "--help"))


def test_the_runtime_alone_says_what_to_do_next(alone):
    done = alone()
    assert done.returncode == 0, done.stderr
    assert "segzoo demo" in done.stdout and "segzoo predict photos/" in done.stdout
    assert "segzoo train" not in done.stdout
    assert "`pip install segmentation-zoo` adds: export, convert," in " ".join(done.stdout.split())


def test_the_runtime_alone_has_help_for_its_commands(alone):
    done = alone("--help")
    assert done.returncode == 0, done.stderr
    shown = {name for name in COMMANDS if re.search(rf"^\W+{name}  ", done.stdout, re.MULTILINE)}
    assert shown == {"list", "info", "predict", "bench", "doctor", "demo"}


@pytest.mark.parametrize("command", ["export", "convert", "push", "augment", "train", "evaluate", "compare"])
def test_the_runtime_alone_says_how_to_get_the_other_commands(alone, command):
    done = alone(command, "unet", "--encoder", "resnet18", "-o", "x", "--help")
    assert done.returncode == 1
    advice = "needs PyTorch and the whole of segmentation-zoo. Run: pip install segmentation-zoo"
    assert " ".join(done.stderr.split()) == f"Error: `segzoo {command}` {advice}"


NO_ENGINE = """
import sys
sys.modules["onnxruntime"] = None
from segzoo.cli import app
app(sys.argv[1:])
"""


@pytest.mark.parametrize("words", [("demo",), ("doctor",)], ids=" ".join)
def test_without_onnxruntime_it_says_what_to_install(python, tmp_path, words):
    done = python(NO_ENGINE, *words, *(("-o", tmp_path) if words == ("demo",) else ()))
    assert done.returncode == 1
    assert 'Run: pip install "segmentation-zoo-runtime[cpu]", or [gpu]' in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_these_checks_can_fail(alone):
    assert alone("export", "--help", hide="").returncode == 0


def test_version(segzoo_):
    assert segzoo_("--version").stdout == f"segzoo {segzoo.__version__}\n"


def test_an_unknown_command_gets_a_suggestion(segzoo_):
    done = segzoo_("exprot")
    assert done.exit_code == 2
    assert "Did you mean 'export'?" in done.stderr


@pytest.mark.parametrize(
    "words", [("info",), ("export", "unet", "--num-classes", "many"), ("predict", "m.onnx"), ("--no",)]
)
def test_wrong_usage_exits_with_2(segzoo_, words):
    assert segzoo_(*words).exit_code == 2


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (segzoo.errors.SegzooError("two\nlines [bold]"), 1, "Error: two lines [bold]\n"),
        (FileNotFoundError(2, "No such file or directory", "x.onnx"), 1, "Error: x.onnx: No such file or directory.\n"),
        (OSError("disk full"), 1, "Error: disk full\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
    ],
)
def test_errors_are_one_line_and_an_exit_code(segzoo_, monkeypatch, raised, code, message):
    def fail(name):
        raise raised

    monkeypatch.setattr(files, "find", fail)
    done = segzoo_("info", "x.onnx")
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", message)


def test_a_bug_keeps_its_traceback(segzoo_, monkeypatch):
    monkeypatch.setattr(files, "find", lambda name: 1 / 0)
    assert isinstance(segzoo_("info", "x.onnx").exception, ZeroDivisionError)
