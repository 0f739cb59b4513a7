"""_descriptions.json is what the classes and their docstrings say."""

import json
from typing import Any

import pytest

import descriptions
from segzoo.models.decoders.unet import UNet
from segzoo.training.losses import Focal


@pytest.fixture(scope="module")
def generated() -> str:
    return descriptions.text()


def test_the_file_is_current(generated: str) -> None:
    assert descriptions.FILE.read_text(encoding="utf-8") == generated, "Run `python tools/descriptions.py`."


def test_a_changed_docstring_or_option_is_noticed(generated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(self: Any, ignore_index: int, *, exponent: float = 3.0) -> None: ...

    monkeypatch.setattr(UNet, "__doc__", "Another summary.")
    monkeypatch.setattr(Focal, "__init__", renamed)
    before, after = json.loads(generated), json.loads(descriptions.text())
    assert after["decoders"]["unet"].pop("summary") == "Another summary."
    assert after["losses"]["focal"]["options"] == [{"name": "exponent", "default": "3.0", "meaning": ""}]
    assert all(option.pop("meaning") == "" for option in after["decoders"]["unet"]["options"])
    assert {key for key in before if before[key] != after[key]} == {"decoders", "losses"}
    assert {key for key in before["decoders"] if before["decoders"][key] != after["decoders"][key]} == {"unet"}
