"""What is not installed is named, with the command that installs it."""

import importlib
import importlib.util
import sys

import pytest
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


def test_what_is_not_installed_is_not_listed(runtime_alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if not isinstance(finder, Hidden)])
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "segzoo.models" else real(name))
    monkeypatch.delitem(sys.modules, "segzoo")
    alone = importlib.import_module("segzoo")
    assert "create" not in dir(alone) and "train" not in alone.__all__
    assert {"Predictor", "ClassSet", "list_weights"} <= set(dir(alone))
    for name in alone.__all__:
        getattr(alone, name)


def test_the_rest_works(runtime_alone: None) -> None:
    assert importlib.import_module("segzoo.inference").Predictor is segzoo.Predictor
