"""Figures and records as people read them: one name for each metric, shares of 1 in percent, a recipe in a few lines.

Floor 0: the command line, the model card, the pictures and the pages all write them by these.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

METRICS = {
    "mean_iu": "mean IU",
    "mean_iou": "mean IU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "frequency_weighted_iu": "fw IU",
    "frequency_weighted_iou": "fw IU",
    "mean_dice": "mean Dice",
}
"""The metrics by their names in reports (..._iu) and in the catalog (..._iou)."""

NAMES = METRICS | {
    f"{part}_{key}": f"{part} {what}"
    for part in ("train", "val")
    for key, what in {**METRICS, "accuracy": "pixel accuracy"}.items()
}
"""Those, and what a run's log calls them."""

_SHARES = {*NAMES, "input_wait"}


def points(part: float | None) -> str:
    """A share of 1 as percentage points, "62.30"; "-" where it is not defined.

    To a hundredth, as the catalog and the files store it: a tenth of a stored figure would be rounded twice.
    """
    return "-" if part is None or math.isnan(part) else f"{100 * part:.2f}"


def percent(part: float | None) -> str:
    """A share of 1 as "62.30 %"; "-" where it is not defined."""
    text = points(part)
    return text if text == "-" else f"{text} %"


def name(key: str) -> str:
    """What to call a metric, or any other entry of a record."""
    return NAMES.get(key, key.replace("_", " "))


def rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of a record such as a file's metrics, in words; shares in percent."""
    return [(name(key), _figure(key, value)) for key, value in record.items()]


def text(value: Any) -> str:
    """A JSON value as one line: a text as it is, a list with commas, a table as `pairs`."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return pairs(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    return _toml(value)


def pairs(record: Mapping[str, Any]) -> str:
    """The entries that say something, as TOML has them: "epochs = 150, batch = 8"."""
    return ", ".join(f"{key} = {_toml(value)}" for key, value in record.items() if not _empty(value))


def recipe_rows(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A recipe, a line for each part and for each step of augmentation; what says nothing is left out."""
    found: list[tuple[str, str]] = []
    for part, value in recipe.items():
        if isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
            found += [("" if number else part, text(one)) for number, one in enumerate(value)]
        elif not _empty(value):
            found.append((part, text(value)))
    return found


@dataclass(frozen=True)
class Section:
    """A part of what a file says of its weights.

    Attributes:
        keys: of the file's info, those that it tells.
        note: a sentence or two that belong to the rows.
    """

    title: str
    keys: tuple[str, ...]
    rows: list[tuple[str, str]]
    note: str = ""


def sections(info: Mapping[str, Any]) -> list[Section]:
    """The metrics, the training and the recipe of a file, as far as it has them as tables."""
    metrics, trained, recipe = (info.get(key) for key in ("metrics", "trained", "recipe"))
    both = isinstance(metrics, Mapping) and isinstance(trained, Mapping)
    found = []
    if isinstance(metrics, Mapping) and metrics:
        where = [text(info[key]) for key in ("metrics_on", "metrics_by") if key in info]
        measured = [("measured on", ", by ".join(where))] if len(where) == 2 else []
        keys = ("metrics", *(("metrics_on", "metrics_by") if measured else ()))
        found.append(Section("Metrics of these weights" if both else "Metrics", keys, [*measured, *rows(metrics)]))
    if isinstance(trained, Mapping) and trained:
        note = (
            "Two measurements: the figures just above are those of the run's last epoch; the metrics of these weights "
            "were measured afterwards, on the weights that this file has. They differ where the weights were changed "
            "in between."
        )
        found.append(Section("At the end of training", ("trained",), _trained(trained), note if both else ""))
    if isinstance(recipe, Mapping) and recipe:
        found.append(Section("Recipe", ("recipe",), recipe_rows(recipe)))
    return found


def minutes(seconds: float) -> str:
    """A length of time: "95.3 min"."""
    return f"{seconds / 60:.1f} min"


def _trained(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    seconds = record.get("seconds")
    timed = [("trained in", minutes(seconds))] if isinstance(seconds, int | float) else []
    return [*rows({key: value for key, value in record.items() if not (timed and key == "seconds")}), *timed]


def _figure(key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return text(value)
    if key in _SHARES and 0 <= value <= 1:
        return percent(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {pairs(value)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _empty(value: Any) -> bool:
    """Whether a recipe says nothing by it: TOML has no null."""
    return value is None or value in ("", [], {}) or (isinstance(value, Mapping) and pairs(value) == "")
