"""The recipe of a run as segzoo publishes it: without this machine's paths, in TOML, and never in place of another."""

import tomllib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import tomlkit

from segzoo.errors import TrainingError
from segzoo.training.recipe import Recipe, changes_between, read_recipe

ORDINALS = ("first", "second", "third", "fourth")
"""What the runs of a chain are called, and so their folders in what is published."""


def published(recipe: Recipe, before: int = 0) -> Recipe:
    """A recipe without the places where data and runs were on the machine that trained.

    Args:
        before: how many runs are before this one in its chain; it started from the last of them.
    """
    start = None if recipe.model.start is None else f"runs/{ORDINALS[before - 1]}/{Path(recipe.model.start).name}"
    return replace(
        recipe,
        model=replace(recipe.model, start=start),
        data=replace(recipe.data, root=f"data/{recipe.data.name}"),
    )


def check_recipe(recipe: Recipe, path: Path, force: bool) -> str | None:
    """The text of a recipe that is to be written; None where one that does the same is there.

    Raises:
        TrainingError: one that does something else is there.
    """
    if path.is_file():
        changed = changes_between(read_recipe(path), recipe, ("data.root",))
        if not changed:
            return None
        if not force:
            raise TrainingError(f"The run had another recipe than {path}: {'; '.join(changed)}. --force replaces it.")
    text = tomlkit.dumps(without_defaults(recipe))
    assert Recipe.from_dict(tomllib.loads(text)) == recipe
    return text


def without_defaults(record: Any) -> dict[str, Any]:
    """What a recipe in TOML has to say."""
    found: dict[str, Any] = {}
    for one in fields(record):
        value = getattr(record, one.name)
        if is_dataclass(value):
            value = without_defaults(value)
            if value:
                found[one.name] = value
        elif value != (one.default_factory() if callable(one.default_factory) else one.default):
            found[one.name] = list(value) if isinstance(value, tuple) else value
    return found
