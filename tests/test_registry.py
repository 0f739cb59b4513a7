"""Names are stated once; whatever is listed can be loaded, and plugins are found or named."""

import importlib.metadata
import subprocess
import sys
from typing import Any

import pytest

from segzoo import _registry
from segzoo._registry import DATASETS, DECODERS, ENCODERS, LOSSES, PAPERS, TRANSFORMS, Entry, Registry
from segzoo.cli import types
from segzoo.errors import OptionError, UnknownNameError
from segzoo.models.convert import CONVERTERS
from segzoo.models.create import create
from segzoo.models.layers.upsampling import UPSAMPLE_MODES

ALL = [DECODERS, PAPERS, ENCODERS, DATASETS, TRANSFORMS, LOSSES]


@pytest.mark.parametrize("registry", ALL, ids=lambda registry: registry.what)
def test_every_entry_can_be_loaded(registry: Registry) -> None:
    assert len(registry) == len(set(registry)) > 0
    for name in registry:
        assert registry.objects[name] is registry.load(name) is registry[name].load()


def test_the_default_encoder_of_an_entry_is_that_of_its_class() -> None:
    assert {name: entry.default_encoder for name, entry in DECODERS.items()} == {
        name: decoder.default_encoder for name, decoder in DECODERS.objects.items()
    }


def test_upsampling_modes_sources_and_help_texts() -> None:
    assert _registry.UPSAMPLE_MODES == UPSAMPLE_MODES
    assert tuple(CONVERTERS) == _registry.CONVERTERS
    assert types.DATA_SETS.split("|") == list(DATASETS)


def test_create_and_the_commands_raise_the_same_error() -> None:
    with pytest.raises(UnknownNameError) as raised:
        create("unte")
    assert str(raised.value) == str(_registry.unknown_decoder("unte"))
    assert "Did you mean 'unet'" in str(raised.value)


def test_listing_and_looking_up_need_no_torch() -> None:
    script = (
        "import sys; from segzoo import _registry as r; "
        "[list(x) for x in (r.DECODERS, r.PAPERS, r.ENCODERS, r.DATASETS, r.TRANSFORMS, r.LOSSES)]; "
        "r.DECODERS.find('unet'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


@pytest.fixture
def registry() -> Registry:
    return Registry("color", Entry("red", "colorsys:rgb_to_hsv"))


def test_a_name_is_registered_once(registry: Registry) -> None:
    entry = Entry("mine", "mymodule:Mine", plugin="mymodule")
    registry.register(entry, 1)
    registry.register(entry, 2)  # the module was imported again
    assert registry.load("mine") == 2 and list(registry) == ["red", "mine"] and registry.own() == [registry["red"]]
    with pytest.raises(OptionError, match="The color 'red' exists already, in segzoo"):
        registry.register(Entry("red", "mymodule:Red", plugin="mymodule"), 3)
    with pytest.raises(OptionError, match="The color 'mine' exists already, in mymodule"):
        registry.register(Entry("mine", "other:Mine", plugin="other"), 3)


def test_an_unknown_name_suggests_similar_ones(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown color 'rde'. Did you mean 'red'\? The colors are red\."):
        registry.find("rde")
    assert "rde" not in registry and registry.get("rde") is None


def test_installed_plugins_are_loaded_on_a_miss_and_a_broken_one_is_named(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Point:
        def __init__(self, value: str) -> None:
            self.value = value

        def load(self) -> None:
            if self.value == "broken":
                raise RuntimeError("no such color")
            registry.register(Entry("mine", "mymodule:Mine", plugin="mymodule"), 1)

    def points(group: str) -> list[Any]:
        assert group == "segzoo.plugins"
        return [Point("broken"), Point("mymodule")]

    monkeypatch.setattr(importlib.metadata, "entry_points", points)
    monkeypatch.setattr(_registry, "_loaded", False)
    assert registry.find("red")  # needs no plugin
    with pytest.warns(UserWarning, match="The plugin broken cannot be loaded: RuntimeError: no such color"):
        assert registry.load("mine") == 1
    assert "mine" in registry  # and no second warning
