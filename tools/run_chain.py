"""A finished run and those that it went on from: their recipes, curves and times, as those of one."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from published_recipe import published
from segzoo.data.dataset import SegmentationData
from segzoo.errors import TrainingError
from segzoo.training import build
from segzoo.training.recipe import Recipe, changes_between, read_recipe

SUMMED = ("epoch", "step", "seconds")
"""What a model's runs add up to."""


@dataclass(frozen=True)
class Finished:
    """One run of a chain.

    Attributes:
        folder: where it lies.
        recipe: as it is published: its start names the run before it by its place in the chain.
        log: the rows of log.csv.
    """

    folder: Path
    recipe: Recipe
    log: list[dict[str, float]]


def chain_of(folder: Path, checkpoint: str = "last") -> list[Finished]:
    """The run, behind those that it went on from.

    Raises:
        TrainingError: a run is not at its end; one that another went on from is not here.
        OptionError, CheckpointError: there is no such checkpoint, or no recipe has made it.
    """
    recipe = read_recipe(folder / f"{checkpoint}.safetensors")
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        log = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    if log[-1]["epoch"] < recipe.run.epochs and not recipe.run.patience:
        raise TrainingError(f"{folder} is at epoch {log[-1]['epoch']:.0f} of {recipe.run.epochs}. Let it finish.")
    start = recipe.model.start
    if start is None:
        return [Finished(folder, published(recipe), log)]
    if not Path(start).with_name("log.csv").is_file():
        raise TrainingError(
            f"{folder} went on from {start}, and no run is there. Its recipe and curves belong to the model: call this "
            "from the folder that the run was started in, or bring that run back."
        )
    before = chain_of(Path(start).parent, Path(start).stem)
    return [*before, Finished(folder, published(recipe, len(before)), log)]


def joined(runs: Sequence[Finished]) -> list[dict[str, float]]:
    """The logs as one: epochs, steps and seconds go on from run to run."""
    rows: list[dict[str, float]] = []
    for run in runs:
        before = rows[-1] if rows else dict.fromkeys(SUMMED, 0.0)
        rows += [{**row, **{name: row[name] + before[name] for name in SUMMED}} for row in run.log]
    return rows


def held_out_of(runs: Sequence[Finished], like: Sequence[Finished], root: Path) -> tuple[str, SegmentationData]:
    """The name of the part of the training data that runs have held out, and its images.

    Args:
        runs: that held it out.
        like: runs whose recipes they have but for that.
        root: the folder of the data set.

    Raises:
        TrainingError: they held none out, not all the same, or had other recipes.
    """
    recipes = [one.recipe for one in runs]
    *_, last = recipes
    held = last.validation
    if held is None or not held.select or (held.split or "train") != (last.data.split or "train"):
        raise TrainingError(
            f"{runs[-1].folder} holds no part of its training data out: [validation] has no select for it."
        )
    if any((one.data, one.validation) != (last.data, last.validation) for one in recipes):
        raise TrainingError(f"{runs[-1].folder} went on from a run that did not hold the same part out.")
    if len(recipes) != len(like):
        raise TrainingError(f"{runs[-1].folder} is the last of {len(recipes)} runs, and the model that of {len(like)}.")
    for other, one in zip(recipes, like, strict=True):
        changed = changes_between(one.recipe, other, ("data", "validation"))
        if changed:
            raise TrainingError(
                f"{runs[-1].folder} had another recipe: {'; '.join(changed)}. Its figures are not those of this one."
            )
    # What it started from held the same out, as was just seen, and its published place is not where it lies.
    here = replace(last, data=replace(last.data, root=str(root)), model=replace(last.model, start=None))
    _, held_out = build.open_parts(here)
    assert held_out is not None
    return ", ".join(one.rstrip("*") for one in held.select), held_out
