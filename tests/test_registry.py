"""The names known without torch agree with the classes."""

import inspect

import numpy as np
import pytest

from segzoo import _registry
from segzoo.cli import types
from segzoo.data.datasets import READERS
from segzoo.errors import OptionError, UnknownNameError
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


def test_options_of_predict() -> None:
    taken = {
        (parameter.name, name)
        for name, network in PAPERS.items()
        for parameter in inspect.signature(network.predict).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert taken == {(option, name) for option, names in _registry.PREDICT_OPTIONS.items() for name in names}


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ("unet", {"samples": 40}, "takes no samples=. paper/bayesian_segnet and paper/bayesian_segnet_basic take it."),
        ("unet", {"tile": 572}, r"paper/unet and paper/unet_caffe take it\. For any network, segzoo\.export"),
        ("unet", {"tta": "flip"}, r"Session\('model.onnx'\).predict\(image, tta=...\)"),
        ("unet", {"color": 1}, "predict of 'unet' takes no color=."),
        ("paper/unet", {"samples": 40}, "predict of 'paper/unet' takes no samples="),
        ("paper/bayesian_segnet_basic", {"tile": 572}, "takes no tile=. paper/unet and"),
    ],
)
def test_an_unknown_option_of_predict_says_which_networks_take_it(
    network: str, options: dict[str, object], message: str
) -> None:
    model = create(network, **({} if "/" in network else {"encoder": "test_resnet"}))
    with pytest.raises(OptionError, match=message):
        model.predict(np.zeros((9, 9, 3), np.uint8), **options)
