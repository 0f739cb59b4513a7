"""Metrics and recipes as readable text, for the command line, model cards, plots and documentation pages.

Each metric has one name, fractions are shown in percent, and a recipe takes one line per table.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

METRICS = {
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "frequency_weighted_iou": "fw IoU",
    "mean_dice": "mean Dice",
}
"""The name of each metric in text."""

MAX_CELL = 2000
"""Characters in a cell of a table, on the command line and in model cards: the text may be a stranger's."""

NAMES = METRICS | {
    f"{split}_{key}": f"{split} {label}"
    for split in ("train", "val")
    for key, label in {**METRICS, "accuracy": "pixel accuracy"}.items()
}
"""The same for the columns of a training log too, such as "val_mean_iou"."""

_FRACTIONS = {*NAMES, "input_wait"}


def points(fraction: float | None) -> str:
    """A fraction of 1 in percentage points, "62.30"; "-" if it is undefined.

    Two decimals, since the catalog and the files store four digits: with one decimal the value would be rounded twice.
    """
    return "-" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.2f}"


def percent(fraction: float | None) -> str:
    """A fraction of 1 as "62.30 %"; "-" if it is undefined."""
    number = points(fraction)
    return number if number == "-" else f"{number} %"


def name(key: str) -> str:
    """The name of a metric, or of any other key, in text."""
    return NAMES.get(key, key.replace("_", " "))


def rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of a record such as a file's metrics, as text; fractions in percent."""
    return [(name(key), _number(key, value)) for key, value in record.items()]


def text(value: Any) -> str:
    """A JSON value as one line: a string unchanged, a list joined by commas, an object as `pairs`."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return pairs(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    return _toml(value)


def pairs(record: Mapping[str, Any]) -> str:
    """The entries that are not empty, in TOML notation: "epochs = 150, batch_size = 8"."""
    return ", ".join(f"{key} = {_toml(value)}" for key, value in record.items() if not _empty(value))


def recipe_rows(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A recipe as one row per table and one per augmentation step; empty values are left out."""
    lines: list[tuple[str, str]] = []
    for table, value in recipe.items():
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            lines += [("" if index else table, text(item)) for index, item in enumerate(value)]
        elif not _empty(value):
            lines.append((table, text(value)))
    return lines


@dataclass(frozen=True)
class Section:
    """A titled table about a file's weights.

    Attributes:
        keys: the keys of the file's info that the table covers.
        note: an explanation of the rows, one or two sentences; may be empty.
    """

    title: str
    keys: tuple[str, ...]
    rows: list[tuple[str, str]]
    note: str = ""


def sections(info: Mapping[str, Any]) -> list[Section]:
    """Tables of a file's metrics, training, and recipe or settings, as far as its info holds them as objects."""
    metrics, trained = (info.get(key) for key in ("metrics", "trained"))
    both = isinstance(metrics, Mapping) and isinstance(trained, Mapping)
    tables = []
    if isinstance(metrics, Mapping) and metrics:
        origin = [text(info[key]) for key in ("metrics_on", "metrics_by") if key in info]
        measured = [("measured on", ", by ".join(origin))] if len(origin) == 2 else []
        keys = ("metrics", *(("metrics_on", "metrics_by") if measured else ()))
        tables.append(Section("Metrics of these weights" if both else "Metrics", keys, [*measured, *rows(metrics)]))
    if isinstance(trained, Mapping) and trained:
        note = (
            "Two measurements: the values just above are those of the run's last epoch; the metrics of these weights "
            "were measured afterwards, with the weights in this file. They differ if the weights were changed in "
            "between."
        )
        tables.append(Section("At the end of training", ("trained",), _trained(trained), note if both else ""))
    for key in ("recipe", "settings"):
        recipe = info.get(key)
        if isinstance(recipe, Mapping) and recipe:
            tables.append(Section(key.capitalize(), (key,), recipe_rows(recipe)))
    return tables


def minutes(seconds: float) -> str:
    """A duration: "95.3 min"."""
    return f"{seconds / 60:.1f} min"


def _trained(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    seconds = record.get("seconds")
    timed = [("trained in", minutes(seconds))] if isinstance(seconds, int | float) else []
    return [*rows({key: value for key, value in record.items() if not (timed and key == "seconds")}), *timed]


def _number(key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return text(value)
    if key in _FRACTIONS and 0 <= value <= 1:
        return percent(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {pairs(value)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _empty(value: Any) -> bool:
    """Whether a recipe leaves the value out: TOML has no null."""
    return value is None or value in ("", [], {}) or (isinstance(value, Mapping) and pairs(value) == "")
