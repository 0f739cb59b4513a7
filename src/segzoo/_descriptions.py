"""What commands say about decoders, encoders, losses, steps and data sets, without importing them.

Those of segzoo are described in _descriptions.json, which `tools/descriptions.py` writes from the classes. Those of a
plugin are described from the class: it was imported when it was registered.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from segzoo import _docstrings
from segzoo._registry import DATASETS, DECODERS, ENCODERS, LOSSES, PAPERS, TRANSFORMS, Registry
from segzoo._text import read_json
from segzoo.errors import SegzooError
from segzoo.schema import checked, option_parameters

FILE = Path(__file__).with_name("_descriptions.json")

_Description = TypeVar("_Description")


@checked
class Option:
    """An option of a class.

    Attributes:
        default: as Python shows it; None if the option has none.
        meaning: from the docstring; empty if that does not say.
    """

    name: str
    default: str | None
    meaning: str


@checked
class ClassDescription:
    """A loss or an augmentation step.

    Attributes:
        summary: the first sentence of the docstring, without its period; empty if there is none.
    """

    summary: str
    options: tuple[Option, ...]


@checked
class DecoderDescription:
    """A decoder. `levels`, `output_strides` and `upsample_modes` are those of `segzoo.Decoder`.

    Attributes:
        about: paragraphs of the module's docstring. The items of a list are lines of one paragraph.
        summary: of the class.
        parameters: number of parameters on the default encoder, with 21 classes; None for a plugin.
        decoder_parameters: those of them that are in the decoder.
    """

    about: tuple[str, ...]
    summary: str
    paper: str
    levels: tuple[int, ...]
    output_strides: tuple[int, ...]
    upsample_modes: tuple[str, ...]
    options: tuple[Option, ...]
    parameters: int | None = None
    decoder_parameters: int | None = None


@checked
class PaperDescription:
    """A paper's network, as published: with its authors' numbers of classes and channels.

    Attributes:
        about, summary: as of a decoder.
        channel_order: "RGB", "BGR" or "gray".
        mean, scale: an image, 0-255, is normalized to (image - mean) / scale.
    """

    about: tuple[str, ...]
    summary: str
    paper: str
    parameters: int
    num_classes: int
    in_channels: int
    channel_order: str
    mean: tuple[float, ...]
    scale: float
    options: tuple[Option, ...]


@checked
class EncoderDescription:
    """An encoder for images with 3 channels.

    Attributes:
        output_strides: those that it supports, the first without dilation.
        mean, std: per channel, on a scale of 0 to 1.
        pretrained: timm's name of the weights that "imagenet" loads; None if there are none.
        levels, channels, strides: those of `segzoo.Features`, for each map.
    """

    parameters: int
    size_divisibility: int
    output_strides: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pretrained: str | None
    levels: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]


@checked
class DatasetDescription:
    """A data set: the fields of `segzoo.data.datasets.base.Reader` with these names."""

    splits: tuple[str, ...]
    layout: str
    source: str


@checked
class Descriptions:
    """The content of _descriptions.json, by name."""

    decoders: dict[str, DecoderDescription]
    papers: dict[str, PaperDescription]
    encoders: dict[str, EncoderDescription]
    losses: dict[str, ClassDescription]
    transforms: dict[str, ClassDescription]
    datasets: dict[str, DatasetDescription]


def decoder(name: str) -> DecoderDescription:
    """The description of a registered decoder."""
    return _own(DECODERS, name, _read().decoders) or describe_decoder(DECODERS.load(name))


def paper(name: str) -> PaperDescription:
    """The description of a paper's network."""
    described = _own(PAPERS, name, _read().papers)
    assert described is not None  # plugins register none
    return described


def encoder(name: str) -> EncoderDescription | None:
    """The description of a registered encoder; None if a plugin has it, since describing it takes building it."""
    return _own(ENCODERS, name, _read().encoders)


def loss(name: str) -> ClassDescription:
    """The description of a registered loss."""
    return _own(LOSSES, name, _read().losses) or describe_class(LOSSES.load(name))


def transform(name: str) -> ClassDescription:
    """The description of a registered augmentation step."""
    return _own(TRANSFORMS, name, _read().transforms) or describe_class(TRANSFORMS.load(name))


def dataset(name: str) -> DatasetDescription:
    """The description of a registered data set."""
    return _own(DATASETS, name, _read().datasets) or describe_dataset(DATASETS.load(name))


def _own(registry: Registry, name: str, described: Mapping[str, _Description]) -> _Description | None:
    """The description of what is segzoo's; None of what a plugin registered."""
    if registry[name].plugin is not None:
        return None
    if name not in described:
        raise SegzooError(f"{FILE.name} lacks the {registry.what} {name!r}. Run `python tools/descriptions.py`.")
    return described[name]


@functools.cache
def _read() -> Descriptions:
    try:
        return Descriptions(**read_json(FILE))
    except (OSError, ValueError, TypeError) as error:
        raise SegzooError(f"{FILE} cannot be read: {error}. Install segmentation-zoo-runtime again.") from None


def describe_decoder(cls: Any) -> DecoderDescription:
    """The description of a decoder's class, without the numbers of parameters: those take building it."""
    return DecoderDescription(
        about=_docstrings.module_paragraphs(cls),
        summary=_docstrings.class_summary(cls),
        paper=cls.paper,
        levels=cls.levels,
        output_strides=cls.output_strides,
        upsample_modes=getattr(cls, "upsample_modes", ()),
        options=options(cls),
    )


def describe_class(cls: Any) -> ClassDescription:
    """The description of the class of a loss or of an augmentation step."""
    return ClassDescription(_docstrings.first_sentence(cls), options(cls))


def describe_dataset(reader: Any) -> DatasetDescription:
    """The description of a `segzoo.data.datasets.base.Reader`."""
    return DatasetDescription(reader.splits, reader.layout, reader.source)


def options(target: Any) -> tuple[Option, ...]:
    """The options of a class, in order, with their meanings from the docstrings of the class and its bases."""
    meanings: dict[str, str] = {}
    for base in reversed(target.__mro__):
        meanings |= _docstrings.entries(base)
    return tuple(
        Option(
            parameter.name,
            None if parameter.default is parameter.empty else repr(parameter.default),
            meanings.get(parameter.name, ""),
        )
        for parameter in option_parameters(target)
    )
