"""Who is told how a run goes: the logs in its folder here; the command line adds a progress bar."""

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from segzoo._io import written_aside
from segzoo.training.curves import draw_curves
from segzoo.training.extra import extra

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = Mapping[str, float]
"""The figures of one epoch: "epoch" from 1 up, "step", "lr", "train_loss", "val_mean_iu" and so on; parts are 0-1."""


class Listener(Protocol):
    """What the loop tells, in the first process only."""

    def begins(self, epoch: int, epochs: int, steps: int, history: Sequence[Row]) -> None:
        """Epochs that are done, all that there are, the steps of each, and the rows of those that are done."""

    def step(self, step: int, loss: float) -> None:
        """A step of the optimiser is done; steps count from 1 over the whole run."""

    def evaluating(self, done: int, total: int) -> None:
        """So many of this process's held-out images are evaluated."""

    def epoch(self, history: Sequence[Row]) -> None:
        """An epoch is done; its row is the last."""

    def ends(self, why: str) -> None:
        """Nothing more comes, whether the run is done, has stopped or has failed; `why` is a sentence."""


class Silent:
    """A listener that does nothing, to derive from."""

    def begins(self, epoch: int, epochs: int, steps: int, history: Sequence[Row]) -> None:
        """See `Listener`."""

    def step(self, step: int, loss: float) -> None:
        """See `Listener`."""

    def evaluating(self, done: int, total: int) -> None:
        """See `Listener`."""

    def epoch(self, history: Sequence[Row]) -> None:
        """See `Listener`."""

    def ends(self, why: str) -> None:
        """See `Listener`."""


class CsvLog(Silent):
    """log.csv: a line an epoch, written whole each time, so that a run that was killed leaves no half of one."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.csv"

    def epoch(self, history: Sequence[Row]) -> None:
        """Writes all rows."""
        columns = list(dict.fromkeys(name for row in history for name in row))
        with written_aside(self._path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(history)


class Curves(Silent):
    """curves.png, at most once a minute and at the end."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "curves.png"
        self._drawn = -60.0
        self._history: Sequence[Row] = ()

    def begins(self, epoch: int, epochs: int, steps: int, history: Sequence[Row]) -> None:
        """A library that is missing is known now, and not after the first epoch."""
        with extra("Drawing curves"):
            import matplotlib.figure  # noqa: F401

    def epoch(self, history: Sequence[Row]) -> None:
        """Draws them, if they are a minute old."""
        self._history = history
        if time.monotonic() - self._drawn >= 60:
            self.ends("")

    def ends(self, why: str) -> None:
        """Draws them."""
        if self._history:
            draw_curves(self._history, self._path)
            self._drawn = time.monotonic()


class TensorBoard(Silent):
    """The folder tensorboard/: the loss of each step, and every figure of an epoch over its last step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._writer: SummaryWriter | None = None

    def begins(self, epoch: int, epochs: int, steps: int, history: Sequence[Row]) -> None:
        """Opens the log; what a run that was killed had written of the epoch that is made again is taken back."""
        with extra("The TensorBoard log"):
            from torch.utils.tensorboard import SummaryWriter
        self._writer = SummaryWriter(self._folder, purge_step=epoch * steps + 1)

    def step(self, step: int, loss: float) -> None:
        """Adds a point."""
        if self._writer is not None:
            self._writer.add_scalar("step/loss", loss, step)

    def epoch(self, history: Sequence[Row]) -> None:
        """Adds a point to each curve; "train_loss" is "loss/train" there, so that both parts stand in one chart."""
        row = history[-1]
        for name, value in row.items():
            part, _, figure = name.partition("_")
            tag = f"{figure}/{part}" if part in ("train", "val") else f"run/{name}"
            if self._writer is not None and name not in ("epoch", "step"):
                self._writer.add_scalar(tag, value, int(row["step"]))

    def ends(self, why: str) -> None:
        """Closes the log."""
        if self._writer is not None:
            self._writer.close()


def logs(folder: Path) -> list[Listener]:
    """All logs that a run's folder gets: log.csv, curves.png, tensorboard/."""
    return [CsvLog(folder), Curves(folder), TensorBoard(folder)]
