"""The resume file of a run: all that the next step depends on, whole or not at all."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from segzoo._io import written_aside
from segzoo.errors import TrainingError
from segzoo.training.recipe import Recipe, changes_between
from segzoo.training.run_folder import RESUME


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        epoch: epochs that are done.
        step: steps of the optimiser that are done.
        seconds: that they took, evaluation included, over all of its sittings.
        best: the best mean IU on the held-out images, 0-1, and the epoch that it was reached in.
        history: one row an epoch, as in log.csv.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def write(folder: Path, progress: Progress, recipe: dict[str, Any], states: dict[str, Any]) -> None:
    """Writes the resume file aside, then renames it.

    Args:
        states: the state_dict of each thing that has one.
    """
    content = {"progress": vars(progress), "recipe": recipe, "states": states}
    with written_aside(folder / RESUME) as draft:
        torch.save(content, draft)
        with draft.open("rb") as file:
            os.fsync(file.fileno())


def read(folder: Path, recipe: Recipe) -> tuple[Progress, dict[str, Any]]:
    """How far the run in a folder is, and the states that it goes on with, on the CPU.

    Raises:
        TrainingError: the file is damaged, or the run had another recipe; other hardware is no other recipe.
    """
    path = folder / RESUME
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        progress, before, states = Progress(**content["progress"]), content["recipe"], content["states"]
    except Exception as error:  # pickle's own errors share no base
        raise TrainingError(f"{path} cannot be read ({error}). Start anew in another folder.") from error
    changed = changes_between(Recipe.from_dict(before), recipe)
    if changed:
        raise TrainingError(
            f"The run in {folder} began with another recipe: {'; '.join(changed[:3])}. A run goes on as it began; "
            "begin another one in another folder."
        )
    return progress, states
