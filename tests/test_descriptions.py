"""What is said of segzoo's own classes comes from the file, and of a plugin's from the class."""

import dataclasses
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import segzoo
from segzoo import _descriptions, _docstrings
from segzoo._descriptions import Option
from segzoo._registry import DATASETS, DECODERS, ENCODERS, LOSSES, PAPERS, TRANSFORMS, Entry
from segzoo.errors import OptionError, SegzooError


@pytest.mark.parametrize(
    ("registry", "describe"),
    [
        (DECODERS, _descriptions.decoder),
        (PAPERS, _descriptions.paper),
        (ENCODERS, _descriptions.encoder),
        (LOSSES, _descriptions.loss),
        (TRANSFORMS, _descriptions.transform),
        (DATASETS, _descriptions.dataset),
    ],
    ids=lambda value: getattr(value, "what", ""),
)
def test_everything_of_segzoo_is_described(registry: Any, describe: Any) -> None:
    for entry in registry.own():
        values = dataclasses.asdict(describe(entry.name))
        assert all(values[name] for name in {"summary", "about", "paper", "layout", "parameters"} & set(values))


@pytest.mark.parametrize("name", DECODERS)
def test_every_option_of_a_decoder_has_a_meaning(name: str) -> None:
    options = _descriptions.decoder(name).options
    keywords = [p for p in inspect.signature(DECODERS.load(name)).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert [(option.name, option.default) for option in options] == [(p.name, repr(p.default)) for p in keywords]
    assert all(option.meaning for option in options)


@pytest.mark.usefixtures("own_registries")
def test_a_class_of_ones_own_is_described_from_the_class() -> None:
    from segzoo.training.losses import Loss

    @segzoo.register_decoder("mine", default_encoder="test_resnet")
    class Mine(segzoo.Decoder):
        """A decoder of mine, on `levels` 3 and 5.

        Args:
            width: channels
                of each map.
        """

        levels = (3, 5)

        def __init__(self, features: segzoo.Features, num_classes: int, *, width: int = 4) -> None:
            super().__init__(features, num_classes)

    @segzoo.register_loss("mine")
    class MyLoss(Loss):
        """Mine. More."""

        def __init__(self, ignore_index: int, *, power: float = 2.0) -> None:
            super().__init__(ignore_index)

    @segzoo.register_dataset("mine", splits=("a", "b"), layout="files")
    def read(root: Path, split: str) -> Any: ...

    decoder = _descriptions.decoder("mine")
    assert (decoder.summary, decoder.levels) == ("A decoder of mine, on `levels` 3 and 5.", (3, 5))
    assert decoder.options == (Option("width", "4", "channels of each map."),)
    assert decoder.about == (__doc__,) and decoder.parameters is None
    assert _descriptions.loss("mine") == _descriptions.ClassDescription("Mine", (Option("power", "2.0", ""),))
    assert _descriptions.dataset("mine") == _descriptions.DatasetDescription(("a", "b"), "files", "your own")


@pytest.mark.usefixtures("own_registries")
def test_an_entry_without_a_description_names_the_tool() -> None:
    DECODERS._entries["new"] = Entry("new", "segzoo.models.decoders.new:New", "resnet50")
    with pytest.raises(SegzooError, match=r"_descriptions.json lacks the decoder 'new'. Run `python tools/desc"):
        _descriptions.decoder("new")


def test_a_description_is_checked() -> None:
    with pytest.raises(OptionError, match="splits must be a list of strings"):
        _descriptions.DatasetDescription(splits="train", layout="", source="")  # type: ignore[arg-type]


def documented(text: str) -> Any:
    return SimpleNamespace(__doc__=text)


def test_entries_of_a_docstring_are_read_by_name() -> None:
    text = """A step. More of it.

    Args:
        first: what it
            is: this.
        second, third: both.

            A paragraph.

    Attributes:
        fourth: `this`.

    Raises:
        OptionError: never.
    """
    assert _docstrings.entries(documented(text)) == {
        "first": "what it is: this.",
        "second": "both.",
        "third": "both.",
        "fourth": "`this`.",
    }
    assert _docstrings.entries(documented("No list.")) == _docstrings.entries(documented(None)) == {}
    assert _docstrings.first_sentence(documented(text)) == "A step"
    assert _docstrings.first_sentence(documented(None)) == ""


@pytest.mark.parametrize("content", [None, "{", "[]", '{"unknown": {}}'])
def test_a_broken_installation_says_so(content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "_descriptions.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(_descriptions, "FILE", path)
    with pytest.raises(SegzooError, match=r"_descriptions\.json cannot be read: .* Install segmentation-zoo-runtime"):
        _descriptions._read.__wrapped__()
