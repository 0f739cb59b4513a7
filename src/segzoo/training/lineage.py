"""What weights have been trained on, as their files say: further training must not be measured on the same images."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segzoo.data.datasets import open_data
from segzoo.errors import SegzooError
from segzoo.spec import ModelSpec
from segzoo.training.recipe import DataConfig, Recipe
from segzoo.weights.checkpoint import read_spec
from segzoo.weights.resolve import locate, resolve


def trained_on(source: str | None, data: DataConfig) -> set[Path]:
    """The images of the same data set that weights, and the weights they started from, were trained on.

    The recipes in the weights' file say so; weights without a recipe give an empty set. A file may come from anybody:
    what its recipes name is not opened, but for entries of the catalog and the data that is being trained on.
    """
    paths: set[Path] = set()
    for recipe in _recipes(info_of(source)):
        other = recipe.data
        if other.name == data.name and (other.name != "folder" or _same_folder(other.root, data.root)):
            try:
                part = open_data(data.name, data.root, other.split, select=other.select, exclude=other.exclude)
            except SegzooError:  # splits or names of images that this data does not have
                continue
            paths |= {item.image for item in part.items}
    return paths


def info_of(source: str | None) -> Mapping[str, Any]:
    """What the file of weights says of their training; empty if it is not a file of segzoo."""
    if source is None or resolve(source) in ("architecture", "unknown"):
        return {}
    try:
        return read_spec(locate(source).path).info
    except SegzooError:
        return {}


def _recipes(info: Mapping[str, Any]) -> Iterator[Recipe]:
    """The recipes of a model and of those that it, or its encoder, started from."""
    for earlier in ("started_from", "encoder_from"):
        if isinstance(info.get(earlier), Mapping):
            yield from _recipes(info[earlier])
    try:
        recipe = Recipe.from_dict(info["recipe"])
    except (KeyError, SegzooError):  # none, or one with plugins that are not imported
        return
    yield recipe
    starts = (recipe.model.init_from, recipe.model.encoder_weights)
    if "started_from" not in info and "encoder_from" not in info:  # files of versions that did not record them
        for start in starts:
            if start is not None and resolve(start) == "key" and start != info.get("key"):
                yield from _recipes(info_of(start))


def _same_folder(recorded: str, root: str) -> bool:
    """Links are followed in the user's own path only: a recorded one may point anywhere, such as to a network share."""
    return os.path.abspath(recorded) in (os.path.abspath(root), os.path.realpath(root))


def restarted(spec: ModelSpec) -> ModelSpec:
    """The spec for further training: what `info` says of a training so far becomes "started_from"."""
    return spec.restarted() if spec.info.keys() & {"recipe", "settings", "trained", "metrics"} else spec
