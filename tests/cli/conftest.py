"""Fixtures: models exported once by the command itself, and a runner that captures stdout and stderr separately."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runtime_alone
from export_cache import ExportCache
from PIL import Image
from typer.testing import CliRunner

import segzoo.errors
from segzoo.cli import app
from segzoo.weights import catalog
from segzoo.weights.catalog import entries

Run = Callable[..., Any]


def run_command(*words: object) -> Any:
    """Runs `segzoo WORDS` in this process, as if piped."""
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def segzoo_(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("COLUMNS", raising=False)
    return run_command


@pytest.fixture(scope="session")
def segzoo_once() -> Run:
    """The same, for session fixtures."""
    return run_command


@pytest.fixture(scope="session")
def python() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs a script in a separate process."""

    def run(script: str, *words: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        source = str(Path(segzoo.errors.__file__).parents[1])
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, words)],
            env=os.environ | {"PYTHONPATH": source} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


ALONE = """
import sys
sys.path.insert(0, {folder!r})
from runtime_alone import hide
{hide}
from segzoo.cli import app
app(sys.argv[1:])
"""


@pytest.fixture(scope="session")
def alone(python: Run) -> Run:
    """Runs `segzoo WORDS` in a separate process where only the runtime is installed."""
    folder = str(Path(runtime_alone.__file__).parent)
    return lambda *words, hide="hide()": python(ALONE.format(folder=folder, hide=hide), *words)


WITHOUT_TORCH = """
import sys
from segzoo.cli import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
heavy = sorted({"torch", "timm"} & set(sys.modules))
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


@pytest.fixture
def imports(python: Run) -> Run:
    """Runs `segzoo WORDS` in a separate process, which fails if torch or timm was imported."""
    return lambda *words, first="": python(first + WITHOUT_TORCH, *words)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, export_cache: ExportCache) -> tuple[Any, Path]:
    """The result of `segzoo export`, and the file it wrote: a small U-Net with 5 classes."""
    path = tmp_path_factory.mktemp("exported") / "small.onnx"
    words = ("export", "unet", "--encoder", "test_resnet", "--num-classes", 5, "--upsample", "bilinear", "-o", path)
    with export_cache.cached_tracing():
        return run_command(*words), path


@pytest.fixture(scope="session")
def blending(tmp_path_factory: pytest.TempPathFactory, export_cache: ExportCache) -> Path:
    """An exported file with a logits output, which tiles and views are blended from."""
    path = tmp_path_factory.mktemp("blending") / "blending.onnx"
    words = ("export", "fcn", "--encoder", "test_resnet", "--num-classes", 5, "--logits", "-o", path)
    with export_cache.cached_tracing():
        assert run_command(*words).exit_code == 0
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint that segzoo.save wrote, with CamVid's classes."""
    import torch

    torch.manual_seed(0)
    model = segzoo.create("fcn8s", "test_resnet", classes="camvid").with_info(license="CC0")
    return segzoo.save(model, tmp_path_factory.mktemp("saved") / "small.safetensors")


@pytest.fixture
def shipped(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> catalog.Entry:
    """The checkpoint as the only catalog entry, as if it shipped in the package."""
    entry = dataclasses.replace(
        entries()["fcn/resnet101/coco-voc"],
        key="fcn8s/test_resnet/camvid",
        format="segzoo",
        source="package",
        urls=(),
        file=checkpoint.name,
        sha256=hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        data="noise",
    )
    monkeypatch.setattr(catalog, "WEIGHTS", checkpoint.parent)
    monkeypatch.setattr(catalog, "_packaged", lambda: {entry.key: entry})
    return entry


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three images, one of them in a subfolder: RGB, gray and palette."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "one.jpg")
    Image.fromarray(pixels[:20, :30]).convert("L").save(folder / "two.png")
    Image.fromarray(pixels[:25]).convert("P").save(folder / "deep" / "one.gif")
    return folder
