"""Converts the recipe of a run to its published form: TOML, without local paths, and never replacing another recipe."""

import tomllib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import tomlkit

from segzoo.errors import TrainingError
from segzoo.training.recipe import Recipe, changes_between, read_recipe

ORDINALS = ("first", "second", "third", "fourth")
"""The names of the runs in a chain, and of their folders in published recipes."""


def published(recipe: Recipe, before: int = 0) -> Recipe:
    """A recipe without the local paths of data and runs.

    Args:
        before: the number of runs before this one in its chain; it starts from the last of them.
    """
    init_from = recipe.model.init_from
    if init_from is not None:
        init_from = f"runs/{ORDINALS[before - 1]}/{Path(init_from).name}"
    return replace(
        recipe,
        model=replace(recipe.model, init_from=init_from),
        data=replace(recipe.data, root=f"data/{recipe.data.name}"),
    )


def check_recipe(recipe: Recipe, path: Path, force: bool) -> str | None:
    """The TOML text to write to `path`; None if the file already contains an equivalent recipe.

    Raises:
        TrainingError: the file contains a different recipe, and `force` is False.
    """
    if path.is_file():
        changes = changes_between(read_recipe(path), recipe, ("data.root",))
        if not changes:
            return None
        if not force:
            raise TrainingError(
                f"The recipe of the run differs from {path}: {'; '.join(changes)}. Pass --force to replace it."
            )
    text = tomlkit.dumps(without_defaults(recipe))
    assert Recipe.from_dict(tomllib.loads(text)) == recipe
    return text


def without_defaults(record: Any) -> dict[str, Any]:
    """The values of a recipe that differ from their defaults, as nested dicts."""
    values: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if is_dataclass(value):
            value = without_defaults(value)
            if value:
                values[field.name] = value
        elif value != (field.default_factory() if callable(field.default_factory) else field.default):
            values[field.name] = list(value) if isinstance(value, tuple) else value
    return values
