"""The resume file of a run: everything that the next step depends on, written atomically."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from segzoo._io import atomic_write
from segzoo.errors import TrainingError, shown
from segzoo.training.build import Parts
from segzoo.training.recipe import Recipe, changes_between
from segzoo.training.run_folder import RESUME


@dataclass
class Progress:
    """How far a run has progressed.

    Attributes:
        epoch: the number of completed epochs.
        step: the number of completed optimizer steps.
        seconds: the time they took, evaluation included, over all sessions of the run.
        best: the best mean IoU on the held-out images, 0-1.
        best_epoch: the epoch in which it was reached.
        history: one row per epoch, as in log.csv.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def write(folder: Path, progress: Progress, parts: Parts, states: dict[str, Any]) -> None:
    """Writes the resume file under a temporary name, then renames it.

    Args:
        states: the state_dict of each stateful object.
    """
    recipe, objects = parts.settings.to_dict(), dict(parts.objects)
    content = {"progress": vars(progress), "recipe": recipe, "objects": objects, "states": states}
    with atomic_write(folder / RESUME) as draft:
        torch.save(content, draft)
        with draft.open("rb") as file:
            os.fsync(file.fileno())


def read(folder: Path, parts: Parts) -> tuple[Progress, dict[str, Any]]:
    """The progress of the run in a folder, and the states to resume from, on the CPU.

    Raises:
        TrainingError: the file is damaged, or the run had another recipe, or objects with other descriptions. Note and
            hardware may differ.
    """
    path = folder / RESUME
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        progress, before, states = Progress(**content["progress"]), content["recipe"], content["states"]
        objects = content["objects"]
    except Exception as error:  # The exceptions of pickle have no common base class.
        raise TrainingError(f"{path} cannot be read ({error}). Start a new run in another folder.") from error
    changes = changes_between(Recipe.from_dict(before), parts.settings) + [
        f"{shown(name)} = {parts.objects.get(name)} instead of {shown(objects.get(name))}"
        for name in dict.fromkeys([*objects, *parts.objects])
        if parts.objects.get(name) != objects.get(name)
    ]
    if changes:
        other, own = ("other settings", "the same settings") if parts.objects else ("another recipe", "its own recipe")
        raise TrainingError(
            f"The run in {folder} started with {other}: {'; '.join(changes[:3])}. A run can be resumed only with "
            f"{own}; start a new run in another folder."
        )
    return progress, states
