"""What is not installed is named, with the command that installs it."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import runtime_alone as runtime_alone_module
from runtime_alone import Hidden, absent

import segzoo
from segzoo._optional import TRAIN, needs
from segzoo.errors import MissingPackageError
from segzoo.inference import Predictor
from segzoo.inference.backends import ENGINES


def test_a_missing_package_is_named_with_the_extra() -> None:
    with pytest.raises(MissingPackageError) as raised, needs("Flying", TRAIN):
        import nonesuch.wings  # noqa: F401
    assert str(raised.value) == (
        'Flying needs nonesuch, which is not installed. Run: pip install "segmentation-zoo[train]"'
    )


def test_the_inner_of_two_features_is_named() -> None:
    with pytest.raises(MissingPackageError, match=r"^Wings needs nonesuch"), needs("Flying"), needs("Wings", TRAIN):
        import nonesuch  # noqa: F401


def test_other_errors_pass() -> None:
    with pytest.raises(ImportError) as raised, needs("Flying"):
        from os import nonesuch  # noqa: F401
    assert not isinstance(raised.value, MissingPackageError)


@pytest.fixture
def runtime_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if only segmentation-zoo-runtime were installed."""
    names = absent()
    for module in [name for name in sys.modules if any(f"{name}.".startswith(f"{hidden}.") for hidden in names)]:
        if module.startswith("segzoo."):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Hidden(names), *sys.meta_path])


WHOLE = "PyTorch and the whole of segmentation-zoo. Run: pip install segmentation-zoo"


@pytest.mark.parametrize("name", ["create", "load", "save", "convert", "push", "train", "list_models", "Decoder"])
def test_names_of_the_whole_say_what_to_install(runtime_alone: None, name: str) -> None:
    with pytest.raises(MissingPackageError) as raised:
        getattr(segzoo, name)
    assert str(raised.value) == f"segzoo.{name} needs {WHOLE}"


def test_they_are_import_errors_too(runtime_alone: None) -> None:
    with pytest.raises(ImportError, match=r"segzoo\.create needs"):
        from segzoo import create  # noqa: F401


def test_a_file_of_weights_says_what_runs_it(runtime_alone: None, tmp_path: object) -> None:
    path = f"{tmp_path}/m.safetensors"
    with open(path, "wb"), pytest.raises(MissingPackageError) as raised:
        Predictor(path)
    assert str(raised.value) == f"Running {path} needs {WHOLE}"
    assert ENGINES["torch"].target.startswith("segzoo.models.")


LISTED = """
import sys
sys.path.insert(0, {folder!r})
from runtime_alone import hide
{hide}
import segzoo
for name in segzoo.__all__:
    getattr(segzoo, name)
print(*dir(segzoo))
"""


@pytest.mark.parametrize("hide", ["hide()", ""], ids=["runtime", "whole"])
def test_what_is_not_installed_is_not_listed(hide: str) -> None:
    """In a new process: a second import of the package would leave it in two versions."""
    folder = str(Path(runtime_alone_module.__file__).parent)
    source = str(Path(segzoo.__file__).parents[1])
    script = LISTED.format(folder=folder, hide=hide)
    environment = os.environ | {"PYTHONPATH": source}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    listed = set(done.stdout.split())
    assert ({"create", "train", "export"} <= listed) == (hide == "")
    assert {"Predictor", "ClassSet", "list_weights"} <= listed


def test_the_rest_works(runtime_alone: None) -> None:
    assert importlib.import_module("segzoo.inference").Predictor is segzoo.Predictor
