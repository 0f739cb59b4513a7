"""Fixtures of all tests: fixed seeds, one thread, no network or telemetry; the option `--quick`."""

import os

# Set before huggingface_hub is imported: a test that downloads weights must fail at once, not after minutes of retries.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
# Some tests import onnxruntime themselves. What segzoo does about its telemetry is tested in processes without it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from segzoo import _registry

if TYPE_CHECKING:
    from export_cache import ExportCache

CAMVID = Path(os.environ.get("SEGZOO_CAMVID") or Path(__file__).parents[2] / "shared" / "camvid")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="skip exports, processes, large networks and slow tests")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--quick"):
        from quick import Quick

        config.pluginmanager.register(Quick())


@pytest.fixture(autouse=True)
def _seeds_and_threads() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield


@pytest.fixture(scope="session")
def export_cache(tmp_path_factory: pytest.TempPathFactory) -> "ExportCache":
    """Exported files that all tests share; call it with a model and the options of `segzoo.export`."""
    from export_cache import ExportCache

    root = tmp_path_factory.getbasetemp()
    # Each worker of pytest-xdist has a folder in a common one.
    return ExportCache((root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "exports")


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """A real photograph, uint8 (427, 640, 3)."""
    from segzoo.data.images import read_image
    from segzoo.data.sample import PHOTOGRAPH

    return read_image(PHOTOGRAPH)


@pytest.fixture(scope="session")
def camvid() -> Path:
    """The folder of CamVid's train and val images; skips the test if there is none."""
    if not CAMVID.is_dir():
        pytest.skip("CamVid is not available: set SEGZOO_CAMVID to its folder, or put it at ../shared/camvid")
    return CAMVID


@pytest.fixture
def own_registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test registers, and the modules that it imports to do so, are gone after it."""
    for registry in vars(_registry).values():
        if isinstance(registry, _registry.Registry):
            monkeypatch.setattr(registry, "_entries", dict(registry._entries))
            monkeypatch.setattr(registry, "_objects", dict(registry._objects))
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if (
            "." not in name
            and getattr(sys.modules[name], "__file__", None)
            and "site-packages" not in str(sys.modules[name].__file__)
        ):
            del sys.modules[name]
