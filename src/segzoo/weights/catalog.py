"""The catalog of trained weights: one `Entry` per file, read from catalog.toml and checked for completeness."""

import datetime
import functools
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, Field

from segzoo._arguments import explained
from segzoo._text import load_toml
from segzoo.classes import CLASS_SETS
from segzoo.errors import OptionError, SegzooError, UnknownNameError, unknown
from segzoo.schema import Positive, Share, checked
from segzoo.weights import cache

Format = Literal["segzoo", "torchvision"]
"""Written by `segzoo.save`, or read through `segzoo.convert` with this source."""

METRICS: tuple[str, ...] = ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")
"""Names of the metrics that an entry may state."""

Source = Literal["web", "package", "repository"]
"""Where a file is hosted: at URLs, in the installed package, or in the folder weights/ of segzoo's repository."""

SOURCES: tuple[str, ...] = get_args(Source)

WEIGHTS = Path(__file__).parent / "packaged"
"""Folder of the files that ship with the package."""

CLONE = Path(__file__).parents[3] / "weights"
"""Folder of segzoo's other files, if the package runs from a clone of the repository."""


_URL = r"https://[A-Za-z0-9_.-]+/\S+"

_Value = TypeVar("_Value")
Frozen = Annotated[dict[str, _Value], AfterValidator(MappingProxyType)]
Metric = Annotated[str, Field(pattern=f"^({'|'.join(METRICS)})$")]
Metrics = Annotated[dict[Metric, Share], AfterValidator(MappingProxyType), Field(min_length=1)]
Text = Annotated[str, Field(pattern=r"\S")]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="64 lowercase hexadecimal digits")]


def _nothing() -> Any:
    return MappingProxyType({})


@checked
class Runtime:
    """The speed of an exported file in onnxruntime, and how it differs from PyTorch."""

    milliseconds: Annotated[float, Field(gt=0)]
    """Median for one image."""

    height: Positive
    width: Positive
    threads: Positive
    cpu: Text

    onnxruntime: Text
    """Its version."""

    logits_difference: Share
    """Relative to the largest logit."""

    pixel_agreement: Share
    """Share of the pixels of `Entry.split` with the same class."""


@checked
class Exported:
    """The .onnx file of a model, which runs without torch. It ships in the package, in its runtime."""

    file: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.onnx$", description="the name of an .onnx file, without a folder"
        ),
    ]
    sha256: Digest
    size: Positive

    @property
    def path(self) -> Path:
        """Where it is on this machine, not compared with its sha256."""
        return WEIGHTS / self.file


@checked
class Entry:
    """One file of trained weights."""

    key: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9_]+/[A-Za-z0-9_][A-Za-z0-9_.]*/[a-z0-9_][a-z0-9_.-]*$",
            description="a key of the form decoder/encoder/tag",
        ),
    ]
    """"decoder/encoder/tag", the argument of `segzoo.load`."""

    format: Annotated[Format, Field(description=" or ".join(get_args(Format)))]
    """Format of the file: "segzoo", or "torchvision", which is converted on loading."""

    file: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.(safetensors|pth)$",
            description="the name of a .safetensors or .pth file, without a folder",
        ),
    ]
    """Name of the file, without a folder."""

    source: Annotated[Source, Field(description=" or ".join(SOURCES))]
    """Where the file is hosted: "web", "package", or "repository" (the folder weights/ of a clone)."""

    urls: Annotated[
        tuple[Annotated[str, Field(pattern=f"^{_URL}$")], ...],
        Field(max_length=100, description="a list of https URLs, empty unless source is web"),
    ]
    """https mirrors, in the order in which they are tried; empty unless `source` is "web"."""

    sha256: Digest
    """sha256 of the whole file, 64 hexadecimal digits."""

    sha256_source: Annotated[Text, Field(description="a string: who computed it")]
    """Who computed the sha256."""

    size: Annotated[Positive, Field(description="a positive number of bytes")]
    """Size of the file in bytes."""

    build: Annotated[Frozen[Any], Field(description="a table of options of segzoo.create")]
    """Options of `segzoo.create` that build the model of these weights, besides decoder, encoder and classes."""

    classes: Annotated[str, Field(pattern=f"^({'|'.join(CLASS_SETS)})$", description="the name of a class set")]
    """Name of the class set."""

    mean: Annotated[
        tuple[Share, ...],
        Field(min_length=1, max_length=16, description="a list of numbers from 0 to 1, one per channel"),
    ]
    """Mean of each channel on a scale of 0 to 1. The network was trained on (x / 255 - mean) / std."""

    std: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...],
        Field(min_length=1, max_length=16, description="a list of numbers, one per channel, 0 < x <= 1"),
    ]
    """Standard deviation of each channel, on the same scale."""

    input_size: Annotated[
        tuple[Positive, Positive], Field(description="a list of height and width in pixels, both positive")
    ]
    """Height and width of the training images, in pixels. The model accepts any other size too."""

    data: Annotated[Text, Field(description="a string: the training data")]
    """The training data."""

    split: Annotated[Text, Field(description="a string: the data on which the metrics were measured")]
    """The data on which the metrics were measured. The part before the first comma is its short form."""

    metrics: Annotated[
        Metrics, Field(description=f"a table of numbers from 0 to 1, with keys among {', '.join(METRICS)}")
    ]
    """The known ones of mean_iou, pixel_accuracy, mean_accuracy and frequency_weighted_iou, each from 0 to 1."""

    metrics_by: Annotated[Text, Field(description="a string: who measured them")]
    """Who measured them."""

    params: Annotated[Positive, Field(description="a positive number of parameters")]
    """Number of parameters of the model, including an auxiliary head's."""

    license: Annotated[Text, Field(description="a string")]
    """License of the weights."""

    paper: Annotated[Text, Field(description="a string")]
    """The paper that describes the architecture."""

    recipe: Annotated[
        str,
        Field(
            pattern=f"^({_URL}|[a-z0-9_]+)$",
            description="an https URL, or the name of a recipe that ships with segzoo",
        ),
    ]
    """How the model was trained: a URL, or the name of a recipe that ships with segzoo."""

    date: Annotated[datetime.date, Field(description="a date such as 2020-04-09")]
    """Date on which the weights were published."""

    holdout_metrics: Annotated[
        dict[Text, Metrics],
        AfterValidator(MappingProxyType),
        Field(description="a table of metrics for each part of the training data"),
    ] = field(default_factory=_nothing)
    """Name of a part of the training data -> metrics on that part of a model trained by the same recipe without it.
    Empty if this was not measured."""

    exported: Exported | None = None
    """The same model as an .onnx file; None if none ships."""

    runtime: Runtime | None = None
    """The exported file in onnxruntime; None if this was not measured."""

    storage_changes: Share | None = None
    """Share of the pixels of `split` whose class changed when the file was stored as float16; None if not measured."""

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise OptionError("mean and std have different numbers of channels.")
        if (self.source == "web") != bool(self.urls):
            raise OptionError('urls are required if source is "web" and must be empty otherwise.')

    @property
    def decoder(self) -> str:
        """The first part of the key."""
        return self.key.split("/")[0]

    @property
    def encoder(self) -> str:
        """The second part of the key."""
        return self.key.split("/")[1]

    @property
    def local_path(self) -> Path | None:
        """Path of the file on this machine, not compared with its sha256; None if there is no such file."""
        cached = cache.path_for(self.file, self.sha256)
        candidates = {"web": [cached], "package": [WEIGHTS / self.file], "repository": [CLONE / self.file, cached]}
        return next(filter(Path.is_file, candidates[self.source]), None)

    def info(self) -> dict[str, Any]:
        """Origin, training data, metrics and license as JSON values, for `ModelSpec.info`."""
        return {
            "key": self.key,
            "data": self.data,
            "input_size": list(self.input_size),
            "metrics": dict(self.metrics),
            "metrics_on": self.split,
            "metrics_by": self.metrics_by,
            "license": self.license,
            "paper": self.paper,
            "recipe": self.recipe,
            "date": self.date.isoformat(),
            "source": list(self.urls),
            "source_sha256": self.sha256,
        }


def entries() -> Mapping[str, Entry]:
    """All entries by key, in the order of catalog.toml."""
    return _packaged()


def default() -> Entry | None:
    """The default model of `segzoo demo` and `segzoo predict`: the first one that ships with the package.

    None if no model ships with it.
    """
    return next((entry for entry in entries().values() if entry.source == "package"), None)


@explained
def find(key: str) -> Entry:
    """The entry for a key such as "fcn/resnet101/coco-voc".

    Raises:
        UnknownNameError: there is no such key; similar ones are suggested.
    """
    known = entries()
    if key not in known:
        raise unknown("weights", key, known, "`segzoo list --weights` shows the catalog.")
    return known[key]


def list_weights() -> list[str]:
    """The catalog keys that `load` takes, such as "fcn/resnet101/coco-voc"."""
    return list(entries())


def read(text: str) -> dict[str, Entry]:
    """Parses a catalog in TOML.

    Raises:
        SegzooError: the text is not TOML, or an entry has missing, unknown or invalid fields, all of which are named.
    """
    try:
        tables = load_toml(text)
    except ValueError as error:
        raise SegzooError(f"The catalog is not valid TOML: {error}.") from error
    return {key: _entry(key, table) for key, table in tables.items()}


@functools.cache
def _packaged() -> Mapping[str, Entry]:
    text = Path(__file__).with_name("catalog.toml").read_text(encoding="utf-8")
    return MappingProxyType(read(text))


def _entry(key: str, table: Any) -> Entry:
    if not isinstance(table, dict):
        raise SegzooError(f"Catalog entry {key!r} must be a table of fields, not {table!r}.")
    try:
        return Entry(key=key, **table)
    except (OptionError, UnknownNameError) as error:
        raise SegzooError(f"Catalog entry {key!r}: {error}") from None
