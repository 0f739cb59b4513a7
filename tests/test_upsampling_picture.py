"""The picture of the five ways up in the docs is what the code draws."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segzoo.models.layers.upsampling import WAYS

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


def test_the_picture_is_up_to_date(script: ModuleType, drawn: Any) -> None:
    panels, errors = drawn
    with Image.open(script.PICTURE) as picture:
        found, said = np.asarray(picture.convert("L"), np.int16), json.loads(picture.text["errors"])
    brightest = float(panels[0].values.max())
    assert len(panels) == 2 + 2 * len(WAYS) + 2
    for panel in panels:
        left, top = script.corner(panel.place)
        expected = np.asarray(script.pixels(panel, brightest), np.int16)
        shown = found[top : top + script.SIDE, left : left + script.SIDE]
        # Another machine rounds otherwise, 300 steps long: two of 255 grays.
        assert np.abs(shown - expected).max() <= 2, panel
    assert said.keys() == errors.keys()
    for row in said:
        assert said[row] == pytest.approx(errors[row], abs=0.005)


def test_what_the_page_says_of_the_picture_is_so(drawn: Any) -> None:
    _, errors = drawn
    start, alone, behind = errors.values()
    assert start.keys() == behind.keys() == {*WAYS} and alone.keys() == {"transposed", "upconv"}
    assert min(behind, key=behind.__getitem__) == "unpool"
    for way in WAYS:
        assert behind[way] < start[way]
    for way in alone:
        assert alone[way] < start[way]
