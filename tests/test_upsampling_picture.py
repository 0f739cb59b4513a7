"""The picture of the five upsampling modes in the docs is what the code draws."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segzoo.models.layers.upsampling import UPSAMPLE_MODES

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("upsampling_picture", DOCS / "upsampling_picture.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawn(script: ModuleType) -> Any:
    return script.compute()


@pytest.mark.slow
def test_the_picture_is_up_to_date(script: ModuleType, drawn: Any) -> None:
    panels, errors = drawn
    with Image.open(script.PICTURE) as picture:
        drawing, stored = np.asarray(picture.convert("L"), np.int16), json.loads(picture.text["errors"])
    brightest = float(panels[0].values.max())
    assert len(panels) == 2 + 2 * len(UPSAMPLE_MODES) + 2
    for panel in panels:
        left, top = script.corner(panel.cell)
        expected = np.asarray(script.pixels(panel, brightest), np.int16)
        shown = drawing[top : top + script.SIDE, left : left + script.SIDE]
        # Other machines round differently, for 300 steps: allow two of 255 gray levels.
        assert np.abs(shown - expected).max() <= 2, panel
    assert stored.keys() == errors.keys()
    for row in stored:
        assert stored[row] == pytest.approx(errors[row], abs=0.005)


@pytest.mark.slow
def test_what_the_page_says_about_the_picture_is_true(drawn: Any) -> None:
    _, errors = drawn
    start, alone, convolved = errors.values()
    assert start.keys() == convolved.keys() == {*UPSAMPLE_MODES} and alone.keys() == {"transposed", "upconv"}
    assert min(convolved, key=convolved.__getitem__) == "unpool"
    for mode in UPSAMPLE_MODES:
        assert convolved[mode] < start[mode]
    for mode in alone:
        assert alone[mode] < start[mode]
