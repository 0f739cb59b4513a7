"""What the catalog says of each file of trained weights, and the check that it says all of it.

Floor 0: `segzoo list --weights` needs no torch.
"""

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

from segzoo.classes import LABEL_SETS
from segzoo.errors import SegzooError, unknown
from segzoo.weights import cache

FORMATS = ("segzoo", "torchvision")
"""How a file is to be read: as `segzoo.save` wrote it, or through `segzoo.convert` from this source."""

METRICS = ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")

PLACES = ("web", "package", "repository")
"""Where a file is had from: URLs, the installed package, or the folder weights/ of segzoo's repository."""

WEIGHTS = Path(__file__).parent / "packaged"
"""Where the files are that ship in the package."""

CLONE = Path(__file__).parents[3] / "weights"
"""Where the other files of segzoo's own are, where the package runs from a clone."""


@dataclass(frozen=True)
class Entry:
    """One file of trained weights."""

    key: str
    """"decoder/encoder/tag", what `segzoo.load` is given."""

    format: str
    """How the file is read: "segzoo", or "torchvision", which is converted."""

    file: str
    """The file's name."""

    place: str
    """Where it is had from: "web", "package", or "repository" (a clone's folder weights/)."""

    urls: tuple[str, ...]
    """https mirrors, in the order in which they are tried; empty unless `place` is "web"."""

    sha256: str
    """Of the whole file, 64 hexadecimal digits."""

    sha256_by: str
    """Who computed it."""

    size: int
    """Bytes of the file."""

    build: Mapping[str, Any]
    """What `segzoo.create` is given besides decoder, encoder and labels to build the model of these weights."""

    labels: str
    """The name of a label set."""

    mean: tuple[float, ...]
    """Of each channel, on a scale of 0 to 1, with `std`: (x / 255 - mean) / std is what the network was trained on."""

    std: tuple[float, ...]
    """Standard deviation, as `mean`."""

    input_size: tuple[int, int]
    """Height and width trained at, in pixels. Any other size goes in as well."""

    data: str
    """What it was trained on."""

    split: str
    """What the metrics were measured on; up to its first comma, in short."""

    metrics: Mapping[str, float]
    """Shares of 1: mean_iou, pixel_accuracy, mean_accuracy, frequency_weighted_iou, those that are known."""

    metrics_by: str
    """Who measured them."""

    params: int
    """Parameters of the model, an auxiliary head's included."""

    licence: str
    """Of the weights."""

    paper: str
    """Of the architecture."""

    recipe: str
    """How it was trained: a URL, or the name of one of segzoo's own recipes."""

    date: datetime.date
    """When the weights were published."""

    unseen: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: MappingProxyType({}))
    """By the name of a part of the training data: the metrics, measured on it, of a model that the same recipe has
    made without it. Empty where nobody measured that."""

    runtime: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Of the exported file in onnxruntime: milliseconds (the median of one image), height, width, threads, cpu,
    onnxruntime (its version); against torch, logits_difference (of the largest) and label_agreement (a share of the
    pixels of `split`). Empty where nobody measured that."""

    storage_changes: float | None = None
    """The share of the pixels of `split` whose label the file's float16 has changed; None where nobody measured it."""

    @property
    def decoder(self) -> str:
        """The first part of the key."""
        return self.key.split("/")[0]

    @property
    def encoder(self) -> str:
        """The second part of the key."""
        return self.key.split("/")[1]

    @property
    def here(self) -> Path | None:
        """Where the file is on this machine, whether it is the right one or not; None where it is not here."""
        cached = cache.place(self.file, self.sha256)
        places = {"web": [cached], "package": [WEIGHTS / self.file], "repository": [CLONE / self.file, cached]}
        return next(filter(Path.is_file, places[self.place]), None)

    def info(self) -> dict[str, Any]:
        """What a file says of its weights besides how they are run: JSON values."""
        return {
            "key": self.key,
            "data": self.data,
            "input_size": list(self.input_size),
            "metrics": dict(self.metrics),
            "metrics_on": self.split,
            "metrics_by": self.metrics_by,
            "licence": self.licence,
            "paper": self.paper,
            "recipe": self.recipe,
            "date": self.date.isoformat(),
            "source": list(self.urls),
            "source_sha256": self.sha256,
        }


def entries() -> Mapping[str, Entry]:
    """Every entry by its key, in the order of catalog.toml."""
    return _packaged()


def default() -> Entry | None:
    """The model that `segzoo demo` and `segzoo predict` take where none is named: the first that ships in the package.

    None where none does.
    """
    return next((entry for entry in entries().values() if entry.place == "package"), None)


def find(key: str) -> Entry:
    """The entry of a key such as "fcn/resnet101/coco-voc".

    Raises:
        UnknownNameError: there is none; near ones are suggested.
    """
    known = entries()
    if key not in known:
        raise unknown("weights", key, known, "`segzoo list --weights` shows the catalog.")
    return known[key]


def list_weights() -> list[str]:
    """Keys of the trained weights that `load` takes, such as "fcn/resnet101/coco-voc"."""
    return list(entries())


def read(text: str) -> dict[str, Entry]:
    """The entries of a catalog in TOML.

    Raises:
        SegzooError: no TOML, or an entry with fields missing, unknown or of the wrong kind, all of which are named.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SegzooError(f"The catalog is no TOML: {error}.") from error
    return {key: _entry(key, table) for key, table in tables.items()}


@functools.cache
def _packaged() -> Mapping[str, Entry]:
    text = Path(__file__).with_name("catalog.toml").read_text(encoding="utf-8")
    return MappingProxyType(read(text))


def _entry(key: str, table: Any) -> Entry:
    if not isinstance(table, dict):
        raise SegzooError(f"Catalog entry {key!r} is a table of fields, not {table!r}.")
    faults = [] if _KEY.fullmatch(key) else ["its key is not decoder/encoder/tag"]
    needed = {one.name for one in fields(Entry) if one.default is MISSING and one.default_factory is MISSING}
    faults += [f"{name} is missing ({what})" for name, (what, _) in _FIELDS.items() if name in needed - table.keys()]
    for name, value in table.items():
        if name not in _FIELDS:
            near = get_close_matches(name, _FIELDS, n=1)
            faults.append(f"{name} is no field{f' (is it {near[0]}?)' if near else ''}")
            continue
        what, holds = _FIELDS[name]
        if not holds(value):
            faults.append(f"{name} is {what}, not {value!r}")
    if not faults and len(table["mean"]) != len(table["std"]):
        faults.append("mean and std have not the same number of channels")
    if not faults and (table["place"] == "web") != bool(table["urls"]):
        faults.append('urls are for a place of "web", and that has some')
    if faults:
        raise SegzooError(f"Catalog entry {key!r}: {'; '.join(faults)}.")
    return Entry(key=key, **{name: _frozen(value) for name, value in table.items()})


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return MappingProxyType({name: _frozen(one) for name, one in value.items()})
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


def _is_unseen(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(part) and _is_metrics(one) for part, one in value.items())


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
    "label_agreement": _is_share,
}

_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "format": (" or ".join(FORMATS), lambda value: value in FORMATS),
    "file": ("the name of a .safetensors or .pth file, without a folder", _is_file),
    "place": (" or ".join(PLACES), lambda value: value in PLACES),
    "urls": ("a list of https URLs, empty unless the place is web", _is_list(_is_url, range(100))),
    "sha256": (
        "64 hexadecimal digits in lower case",
        lambda value: isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None,
    ),
    "sha256_by": ("a text: who computed it", _is_text),
    "size": ("a number of bytes", _is_count),
    "build": ("a table of options of segzoo.create", lambda value: isinstance(value, dict)),
    "labels": ("the name of a label set", lambda value: isinstance(value, str) and value in LABEL_SETS),
    "mean": ("a list of shares of 1, one a channel", _is_list(_is_share, range(1, 17))),
    "std": ("a list of shares of 1, one a channel", _is_list(lambda v: _is_share(v) and v > 0, range(1, 17))),
    "input_size": ("a list of height and width in pixels", _is_list(_is_count, range(2, 3))),
    "data": ("a text: what it was trained on", _is_text),
    "split": ("a text: what it was measured on", _is_text),
    "metrics": (f"a table of shares of 1, of {', '.join(METRICS)}", _is_metrics),
    "metrics_by": ("a text: who measured", _is_text),
    "params": ("a number of parameters", _is_count),
    "licence": ("a text", _is_text),
    "paper": ("a text", _is_text),
    "recipe": ("a URL of how it was trained, or the name of a recipe of segzoo's", lambda v: _is_url(v) or _is_name(v)),
    "date": ("a date such as 2020-04-09", lambda value: type(value) is datetime.date),
    "unseen": ("a table of such metrics by a part of the data", _is_unseen),
    "runtime": (f"a table of {', '.join(_RUNTIME)}", _is_runtime),
    "storage_changes": ("a share of 1", _is_share),
}
"""What each field holds, in words and as a check."""
