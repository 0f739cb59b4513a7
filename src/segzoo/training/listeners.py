"""Who is told how a run goes: files for programs and people; the command line adds a progress bar."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from segzoo.aside import written_aside

Row = Mapping[str, float]
"""The figures of one epoch: "epoch" from 1 up, "step", "lr", "train_loss", "val_mean_iu" and so on; parts are 0-1."""


class Listener(Protocol):
    """What the loop tells, in the first process only."""

    def begins(self, epoch: int, epochs: int, steps: int, history: Sequence[Row]) -> None:
        """Epochs that are done and that there are, the steps of each, and the rows of those that are done."""

    def step(self, step: int, loss: float) -> None:
        """A step of the optimiser is done; steps count from 1 over the whole run."""

    def evaluating(self, done: int, total: int) -> None:
        """So many held-out images are evaluated."""

    def epoch(self, history: Sequence[Row]) -> None:
        """An epoch is done; its row is the last."""

    def ends(self) -> None:
        """Nothing more comes, whether the run is done or has failed."""


class Silent:
    """Listens, and does nothing: to derive from."""

    def begins(self, epoch: int, epochs: int, steps: int, history: Sequence[Row]) -> None:
        pass

    def step(self, step: int, loss: float) -> None:
        pass

    def evaluating(self, done: int, total: int) -> None:
        pass

    def epoch(self, history: Sequence[Row]) -> None:
        pass

    def ends(self) -> None:
        pass


class CsvLog(Silent):
    """log.csv: a line an epoch, written whole each time, so that a run that was killed leaves no half of one."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.csv"

    def epoch(self, history: Sequence[Row]) -> None:
        columns = list(dict.fromkeys(name for row in history for name in row))
        with written_aside(self._path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(history)
