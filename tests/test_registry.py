"""The names known without torch agree with the classes."""

import pytest

from segzoo import _registry
from segzoo.cli import types
from segzoo.data.datasets import READERS
from segzoo.errors import UnknownNameError
from segzoo.models.convert import CONVERTERS
from segzoo.models.create import create
from segzoo.models.decoders import DECODERS
from segzoo.models.layers.upsampling import UPSAMPLE_MODES
from segzoo.models.papers import PAPERS


def test_decoders_and_their_default_encoders() -> None:
    assert {name: decoder.default_encoder for name, decoder in DECODERS.items()} == _registry.DECODERS
    assert list(_registry.DECODERS) == list(DECODERS)


def test_papers_upsampling_modes_sources_and_data_sets() -> None:
    assert tuple(PAPERS) == _registry.PAPERS
    assert _registry.UPSAMPLE_MODES == UPSAMPLE_MODES
    assert tuple(CONVERTERS) == _registry.CONVERTERS
    assert types.DATA_SETS.split("|") == list(READERS)


def test_create_and_the_commands_raise_the_same_error() -> None:
    with pytest.raises(UnknownNameError) as raised:
        create("unte")
    assert str(raised.value) == str(_registry.unknown_decoder("unte"))
    assert "Did you mean 'unet'" in str(raised.value)
