"""The catalog of trained weights: one `Entry` per file, read from catalog.toml and checked for completeness."""

import datetime
import functools
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from segzoo._arguments import explained
from segzoo.classes import CLASS_SETS
from segzoo.errors import SegzooError, unknown
from segzoo.weights import cache

FORMATS = ("segzoo", "torchvision")
"""File formats: written by `segzoo.save`, or read through `segzoo.convert` with this source."""

METRICS = ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")
"""Names of the metrics that an entry may state."""

SOURCES = ("web", "package", "repository")
"""Where a file is hosted: at URLs, in the installed package, or in the folder weights/ of segzoo's repository."""

WEIGHTS = Path(__file__).parent / "packaged"
"""Folder of the files that ship with the package."""

CLONE = Path(__file__).parents[3] / "weights"
"""Folder of segzoo's other files, if the package runs from a clone of the repository."""


@dataclass(frozen=True)
class Entry:
    """One file of trained weights."""

    key: str
    """"decoder/encoder/tag", the argument of `segzoo.load`."""

    format: str
    """Format of the file: "segzoo", or "torchvision", which is converted on loading."""

    file: str
    """Name of the file, without a folder."""

    source: str
    """Where the file is hosted: "web", "package", or "repository" (the folder weights/ of a clone)."""

    urls: tuple[str, ...]
    """https mirrors, in the order in which they are tried; empty unless `source` is "web"."""

    sha256: str
    """sha256 of the whole file, 64 hexadecimal digits."""

    sha256_source: str
    """Who computed the sha256."""

    size: int
    """Size of the file in bytes."""

    build: Mapping[str, Any]
    """Options of `segzoo.create` that build the model of these weights, besides decoder, encoder and classes."""

    classes: str
    """Name of the class set."""

    mean: tuple[float, ...]
    """Mean of each channel on a scale of 0 to 1. The network was trained on (x / 255 - mean) / std."""

    std: tuple[float, ...]
    """Standard deviation of each channel, on the same scale."""

    input_size: tuple[int, int]
    """Height and width of the training images, in pixels. The model accepts any other size too."""

    data: str
    """The training data."""

    split: str
    """The data on which the metrics were measured. The part before the first comma is its short form."""

    metrics: Mapping[str, float]
    """The known ones of mean_iou, pixel_accuracy, mean_accuracy and frequency_weighted_iou, each from 0 to 1."""

    metrics_by: str
    """Who measured them."""

    params: int
    """Number of parameters of the model, including an auxiliary head's."""

    license: str
    """License of the weights."""

    paper: str
    """The paper that describes the architecture."""

    recipe: str
    """How the model was trained: a URL, or the name of a recipe that ships with segzoo."""

    date: datetime.date
    """Date on which the weights were published."""

    holdout_metrics: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: MappingProxyType({}))
    """Name of a part of the training data -> metrics on that part of a model trained by the same recipe without it.
    Empty if this was not measured."""

    runtime: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """The exported file in onnxruntime: milliseconds (median for one image), height, width, threads, cpu, onnxruntime
    (its version). Compared with PyTorch: logits_difference (relative to the largest logit) and pixel_agreement (share
    of the pixels of `split` with the same class). Empty if this was not measured."""

    storage_changes: float | None = None
    """Share of the pixels of `split` whose class changed when the file was stored as float16; None if not measured."""

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
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SegzooError(f"The catalog is not valid TOML: {error}.") from error
    return {key: _entry(key, table) for key, table in tables.items()}


@functools.cache
def _packaged() -> Mapping[str, Entry]:
    text = Path(__file__).with_name("catalog.toml").read_text(encoding="utf-8")
    return MappingProxyType(read(text))


def _entry(key: str, table: Any) -> Entry:
    if not isinstance(table, dict):
        raise SegzooError(f"Catalog entry {key!r} must be a table of fields, not {table!r}.")
    faults = [] if _KEY.fullmatch(key) else ["its key must have the form decoder/encoder/tag"]
    required = {item.name for item in fields(Entry) if item.default is MISSING and item.default_factory is MISSING}
    faults += [f"{name} is missing ({what})" for name, (what, _) in _FIELDS.items() if name in required - table.keys()]
    for name, value in table.items():
        if name not in _FIELDS:
            similar = get_close_matches(name, _FIELDS, n=1)
            faults.append(f"{name} is an unknown field{f' (did you mean {similar[0]}?)' if similar else ''}")
            continue
        what, is_valid = _FIELDS[name]
        if not is_valid(value):
            faults.append(f"{name} must be {what}, not {value!r}")
    if not faults and len(table["mean"]) != len(table["std"]):
        faults.append("mean and std have different numbers of channels")
    if not faults and (table["source"] == "web") != bool(table["urls"]):
        faults.append('urls are required if source is "web" and must be empty otherwise')
    if faults:
        raise SegzooError(f"Catalog entry {key!r}: {'; '.join(faults)}.")
    return Entry(key=key, **{name: _frozen(value) for name, value in table.items()})


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return MappingProxyType({name: _frozen(item) for name, item in value.items()})
    return value


_KEY = re.compile(r"[a-z0-9_]+/[A-Za-z0-9_][A-Za-z0-9_.]*/[a-z0-9_][a-z0-9_.-]*")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_file(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\w[\w.-]*\.(safetensors|pth)", value, re.ASCII) is not None


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"https://[\w.-]+/\S+", value) is not None


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _is_list(of: Callable[[Any], bool], lengths: range) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) in lengths and all(map(of, value))


def _is_metrics(value: Any) -> bool:
    return isinstance(value, dict) and value != {} and all(n in METRICS and _is_share(v) for n, v in value.items())


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9_]+", value) is not None


def _is_holdout(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(part) and _is_metrics(metrics) for part, metrics in value.items())


def _is_runtime(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == _RUNTIME.keys() and all(_RUNTIME[n](v) for n, v in value.items())


_RUNTIME: dict[str, Callable[[Any], bool]] = {
    "milliseconds": lambda value: type(value) in (int, float) and 0 < value < math.inf,
    "height": _is_count,
    "width": _is_count,
    "threads": _is_count,
    "cpu": _is_text,
    "onnxruntime": _is_text,
    "logits_difference": _is_share,
    "pixel_agreement": _is_share,
}

_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "format": (" or ".join(FORMATS), lambda value: value in FORMATS),
    "file": ("the name of a .safetensors or .pth file, without a folder", _is_file),
    "source": (" or ".join(SOURCES), lambda value: value in SOURCES),
    "urls": ("a list of https URLs, empty unless source is web", _is_list(_is_url, range(100))),
    "sha256": (
        "64 lowercase hexadecimal digits",
        lambda value: isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None,
    ),
    "sha256_source": ("a string: who computed it", _is_text),
    "size": ("a positive number of bytes", _is_count),
    "build": ("a table of options of segzoo.create", lambda value: isinstance(value, dict)),
    "classes": ("the name of a class set", lambda value: isinstance(value, str) and value in CLASS_SETS),
    "mean": ("a list of numbers from 0 to 1, one per channel", _is_list(_is_share, range(1, 17))),
    "std": ("a list of numbers, one per channel, 0 < x <= 1", _is_list(lambda v: _is_share(v) and v > 0, range(1, 17))),
    "input_size": ("a list of height and width in pixels, both positive", _is_list(_is_count, range(2, 3))),
    "data": ("a string: the training data", _is_text),
    "split": ("a string: the data on which the metrics were measured", _is_text),
    "metrics": (f"a table of numbers from 0 to 1, with keys among {', '.join(METRICS)}", _is_metrics),
    "metrics_by": ("a string: who measured them", _is_text),
    "params": ("a positive number of parameters", _is_count),
    "license": ("a string", _is_text),
    "paper": ("a string", _is_text),
    "recipe": ("an https URL, or the name of a recipe that ships with segzoo", lambda v: _is_url(v) or _is_name(v)),
    "date": ("a date such as 2020-04-09", lambda value: type(value) is datetime.date),
    "holdout_metrics": ("a table of metrics for each part of the training data", _is_holdout),
    "runtime": (f"a table with the keys {', '.join(_RUNTIME)}", _is_runtime),
    "storage_changes": ("a number from 0 to 1", _is_share),
}
"""For each field: its valid values in words, and a function that checks a value."""
