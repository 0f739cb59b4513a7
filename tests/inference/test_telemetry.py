"""One file imports onnxruntime, after it has turned its telemetry off, unless the user has decided."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bare_environment import Folders, sends

from segzoo.inference import doctor

ROOT = Path(__file__).parents[2]
DOOR = "src/segzoo/inference/backends/onnxruntime/__init__.py"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


# One place


def imports(source: str) -> Iterator[int]:
    """The lines that import onnxruntime: statements, and calls with its name."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if any(name.partition(".")[0] == "onnxruntime" for name in names):
            yield node.lineno


def test_one_file_imports_onnxruntime() -> None:
    files = [file for name in ("src", "tools", "benchmarks", "docs") for file in sorted((ROOT / name).rglob("*.py"))]
    assert len(files) > 150
    found = {file.relative_to(ROOT).as_posix() for file in files if any(imports(file.read_text(encoding="utf-8")))}
    assert found == {DOOR}


@pytest.mark.parametrize(
    "line",
    [
        "import onnxruntime",
        "import numpy, onnxruntime as ort",
        "from onnxruntime import InferenceSession",
        "def f():\n    from onnxruntime.quantization import QuantType",
        "importlib.import_module('onnxruntime')",
        "__import__('onnxruntime.capi')",
    ],
)
def test_that_check_finds_an_import(line: str) -> None:
    assert list(imports(line))


def test_that_check_finds_nothing_else() -> None:
    assert not list(imports("from segzoo.inference.backends.onnxruntime import ort\nfrom .onnxruntime import a\nf()"))


# Before the import

RECORD = """
import os, sys

def record(event, arguments):
    if event == "import" and arguments[0] == "onnxruntime":
        print("imported with", os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.addaudithook(record)
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import segzoo.inference.backends.onnxruntime",
        "import segzoo.inference.backends.onnxruntime.graph_output",
        "from segzoo.inference import doctor",
        "import segzoo.exporting.export",  # imports torch.onnx and onnxscript, too
    ],
)
def test_the_variable_is_set_before_the_import(folders: Folders, statement: str) -> None:
    done = folders.python(RECORD + statement)
    assert (done.stdout, done.stderr) == ("imported with 1\n", "")
    # torch creates an empty folder.
    assert [path for path in folders.written() if not path.startswith("tmp/torchinductor_")] == []


@pytest.mark.parametrize("value", ["1", "0", "off", ""])
def test_the_users_value_stays(folders: Folders, value: str) -> None:
    script = RECORD + "from segzoo.inference import doctor; report = doctor(); print(report, report.telemetry)"
    done = folders.python(script, ORT_DISABLE_TELEMETRY=value)
    assert done.stdout.startswith(f"imported with {value}\n"), done.stderr
    assert f"\n  ORT_DISABLE_TELEMETRY={value}\n" in done.stdout
    assert done.stdout.endswith(" None\n")


def test_processes_that_this_one_starts_inherit_it(folders: Folders) -> None:
    script = (
        "import segzoo.inference.backends.onnxruntime, subprocess, sys; "
        "subprocess.run([sys.executable, '-c', 'import onnxruntime'], check=True)"
    )
    done = folders.python(script)
    assert (done.returncode, done.stderr, folders.written()) == (0, "", [])


@sends
def test_without_it_the_import_alone_leaves_files(folders: Folders) -> None:
    done = folders.python("import onnxruntime")
    assert (done.returncode, done.stderr) == (0, "")
    assert any(path.endswith("onnxruntime.db") for path in folders.written())


# Too late


LATE = """
import onnxruntime
called = []
onnxruntime.disable_telemetry_events = lambda: called.append(True)
from segzoo.inference import doctor
report = doctor()
print(called, report)
assert report.telemetry
"""


def test_doctor_says_that_onnxruntime_was_imported_before(folders: Folders) -> None:
    done = folders.python(LATE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[True]")
    assert "\n  ORT_DISABLE_TELEMETRY=1, set by segzoo\ntelemetry\n  Other code imported onnxruntime" in done.stdout
    assert "Set ORT_DISABLE_TELEMETRY=1 before the program starts." in done.stdout


def test_it_is_not_too_late_if_the_user_has_decided(folders: Folders) -> None:
    done = folders.python(LATE.replace("assert report.telemetry", ""), ORT_DISABLE_TELEMETRY="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[]")
    assert "\ntelemetry\n" not in done.stdout


ERRORS = """
import sqlite3, sys, time
from pathlib import Path
import onnxruntime
if "segzoo" in sys.argv:
    import segzoo.inference.backends.onnxruntime
try:
    onnxruntime.InferenceSession("missing.onnx")
except Exception:
    pass
time.sleep(1)
"""


@sends
@pytest.mark.parametrize("word", ["nothing", "segzoo"])
def test_even_then_segzoo_stops_the_remaining_events(folders: Folders, word: str) -> None:
    """onnxruntime reports errors too: the event has the message. The events wait in the database for their upload."""
    done = folders.python(ERRORS, word)
    assert done.returncode == 0, done.stderr
    (database,) = folders.root.rglob("onnxruntime.db")
    assert b"ProcessInfo" in database.read_bytes()
    assert (b"RuntimeError" in database.read_bytes()) == (word == "nothing")


# This process


def test_doctor_reports_the_variable() -> None:
    report = doctor()
    assert report.telemetry is None
    assert f"\n  ORT_DISABLE_TELEMETRY={os.environ['ORT_DISABLE_TELEMETRY']}\n" in str(report)


def test_torch_models_run_without_onnxruntime(folders: Folders) -> None:
    script = """
import sys
import segzoo, segzoo.models.convert, segzoo.models.push, segzoo.training.train, segzoo.training.evaluate
import numpy as np
path = segzoo.save(segzoo.create("unet", "test_resnet", num_classes=2), "small.safetensors")
segzoo.load(path).predict(np.zeros((8, 9, 3), np.uint8))
segzoo.Predictor(path, device="auto").predict(np.zeros((8, 9, 3), np.uint8))
assert "onnxruntime" not in sys.modules
"""
    done = folders.python(script)
    assert done.returncode == 0, done.stderr
