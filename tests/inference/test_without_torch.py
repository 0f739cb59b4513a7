"""Inference works without torch: nothing it does imports torch or timm."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import segzoo.errors

SCRIPT = """
import sys
import numpy as np
from segzoo import classes, metrics, spec, visualize
from segzoo.data import images
from segzoo.inference import Predictor

image = np.zeros((4, 5, 3), np.uint8)
image[..., 2] = 9
session = Predictor(sys.argv[1])
mask = session.predict(image).mask
assert (mask == 2).all(), mask
visualize.overlay(image, mask, session.classes)
heavy = sorted({"torch", "timm", "torchvision"} & set(sys.modules))
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


def run(script: str, path: Path) -> "subprocess.CompletedProcess[str]":
    source = str(Path(segzoo.errors.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", script, path],
        env=os.environ | {"PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_inference_imports_no_torch(make_file: Callable[..., Path]) -> None:
    done = run(SCRIPT, make_file())
    assert (done.returncode, done.stderr) == (0, "")


def test_this_check_can_fail(make_file: Callable[..., Path]) -> None:
    done = run("import torch\n" + SCRIPT, make_file())
    assert done.returncode == 1
    assert "imported: ['torch'" in done.stderr
