"""A finished run and the runs it started from, combined: recipes, curves and times."""

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
"""The log columns that are summed over the runs of a chain."""


@dataclass(frozen=True)
class FinishedRun:
    """One run of a chain.

    Attributes:
        recipe: in its published form: init_from names the previous run by its position in the chain.
        log: the rows of log.csv.
    """

    folder: Path
    recipe: Recipe
    log: list[dict[str, float]]


def read_chain(folder: Path, checkpoint: str = "last") -> list[FinishedRun]:
    """The run in a folder, preceded by the runs it started from.

    Raises:
        TrainingError: a run is unfinished, or the run that another one started from is missing.
        OptionError, CheckpointError: the checkpoint is missing or contains no recipe.
    """
    recipe = read_recipe(folder / f"{checkpoint}.safetensors")
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        log = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    if log[-1]["epoch"] < recipe.run.epochs and not recipe.run.patience:
        raise TrainingError(f"{folder} is at epoch {log[-1]['epoch']:.0f} of {recipe.run.epochs}. Let it finish.")
    init_from = recipe.model.init_from
    if init_from is None:
        return [FinishedRun(folder, published(recipe), log)]
    if not Path(init_from).with_name("log.csv").is_file():
        raise TrainingError(
            f"{folder} started from {init_from}, but there is no run there. Its recipe and curves belong to the "
            "model: run this command in the folder in which the run was started, or restore that run."
        )
    before = read_chain(Path(init_from).parent, Path(init_from).stem)
    return [*before, FinishedRun(folder, published(recipe, len(before)), log)]


def join_logs(runs: Sequence[FinishedRun]) -> list[dict[str, float]]:
    """The logs as one: epochs, steps and seconds accumulate from run to run."""
    rows: list[dict[str, float]] = []
    for run in runs:
        before = rows[-1] if rows else dict.fromkeys(SUMMED, 0.0)
        rows += [{**row, **{name: row[name] + before[name] for name in SUMMED}} for row in run.log]
    return rows


def holdout_of(
    runs: Sequence[FinishedRun], reference: Sequence[FinishedRun], root: Path
) -> tuple[str, SegmentationData]:
    """The name and the images of the part of the training data that a chain of runs held out.

    Args:
        runs: a chain with a holdout.
        reference: the chain without it, with otherwise equal recipes.
        root: the folder of the data set.

    Raises:
        TrainingError: the runs have no holdout, or different ones, or their recipes differ from the reference.
    """
    recipes = [run.recipe for run in runs]
    *_, last = recipes
    validation = last.validation
    if validation is None or not validation.select or (validation.split or "train") != (last.data.split or "train"):
        raise TrainingError(
            f"{runs[-1].folder} holds out no part of its training data: its [validation] has no select. Train it with "
            "--holdout."
        )
    if any((recipe.data, recipe.validation) != (last.data, last.validation) for recipe in recipes):
        raise TrainingError(f"{runs[-1].folder} started from a run that did not hold out the same part.")
    if len(recipes) != len(reference):
        raise TrainingError(
            f"{runs[-1].folder} is the last of {len(recipes)} runs, but the model is the last of {len(reference)}."
        )
    for recipe, run in zip(recipes, reference, strict=True):
        changes = changes_between(run.recipe, recipe, ("data", "validation"))
        if changes:
            raise TrainingError(
                f"{runs[-1].folder} had another recipe: {'; '.join(changes)}. Its metrics do not describe this model."
            )
    # Without init_from, because its published path does not exist; the runs before had the same holdout (see above).
    recipe = replace(last, data=replace(last.data, root=str(root)), model=replace(last.model, init_from=None))
    _, held_out = build.open_datasets(recipe)
    assert held_out is not None
    return ", ".join(pattern.rstrip("*") for pattern in validation.select), held_out
