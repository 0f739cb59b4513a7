"""Callbacks of a run: the base class, and the logs in the run's folder. The command line adds a progress bar."""

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segzoo._io import atomic_write
from segzoo._optional import TRAIN, needs
from segzoo.training.curves import draw_curves

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = Mapping[str, float]
"""The metrics of one epoch: "epoch" (from 1), "step", "lr", "train_loss", "val_mean_iou" and so on; ratios are 0-1."""


class Callback:
    """Base class. Its methods are called in the first process only and do nothing; override the ones you need."""

    def on_fit_start(self, epoch: int, epochs: int, steps_per_epoch: int, history: Sequence[Row]) -> None:
        """Training starts or resumes.

        Args:
            epoch: the number of completed epochs.
            epochs: the total number of epochs.
            history: one row per completed epoch.
        """

    def on_step_end(self, step: int, loss: float) -> None:
        """An optimizer step is complete; `step` counts from 1 over the whole run."""

    def on_validation_batch_end(self, done: int, total: int) -> None:
        """`done` of `total` held-out images of this process have been evaluated."""

    def on_epoch_end(self, history: Sequence[Row]) -> None:
        """An epoch is complete; its row is the last of `history`."""

    def on_fit_end(self, reason: str) -> None:
        """Training has finished, stopped or failed; `reason` is a sentence."""


class CsvLog(Callback):
    """log.csv: one line per epoch. The file is replaced atomically, so a killed run leaves no partial line."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.csv"

    def on_epoch_end(self, history: Sequence[Row]) -> None:
        """Writes all rows."""
        columns = list(dict.fromkeys(name for row in history for name in row))
        with atomic_write(self._path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(history)


class Curves(Callback):
    """curves.png, drawn at most once per minute and at the end."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "curves.png"
        self._drawn = -60.0
        self._history: Sequence[Row] = ()

    def on_fit_start(self, epoch: int, epochs: int, steps_per_epoch: int, history: Sequence[Row]) -> None:
        """Imports matplotlib, so that a missing package is reported before the first epoch."""
        with needs("Drawing curves", TRAIN):
            import matplotlib.figure  # noqa: F401

    def on_epoch_end(self, history: Sequence[Row]) -> None:
        """Draws the curves, if the last drawing is a minute old."""
        self._history = history
        if time.monotonic() - self._drawn >= 60:
            self.on_fit_end("")

    def on_fit_end(self, reason: str) -> None:
        """Draws the curves, unless they are up to date."""
        if self._history:
            draw_curves(self._history, self._path)
            self._history, self._drawn = (), time.monotonic()


class TensorBoard(Callback):
    """tensorboard/: the loss of each step, and the metrics of each epoch at its last step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._writer: SummaryWriter | None = None

    def on_fit_start(self, epoch: int, epochs: int, steps_per_epoch: int, history: Sequence[Row]) -> None:
        """Opens the log and discards what a killed run wrote about the epoch that is now repeated."""
        with needs("The TensorBoard log", TRAIN):
            from torch.utils.tensorboard import SummaryWriter
        self._writer = SummaryWriter(self._folder, purge_step=epoch * steps_per_epoch + 1)

    def on_step_end(self, step: int, loss: float) -> None:
        """Adds a point to the loss curve."""
        if self._writer is not None:
            self._writer.add_scalar("step/loss", loss, step)

    def on_epoch_end(self, history: Sequence[Row]) -> None:
        """Adds a point to each curve. "train_loss" is logged as "loss/train", next to "loss/val"."""
        row = history[-1]
        for name, value in row.items():
            part, _, metric = name.partition("_")
            tag = f"{metric}/{part}" if part in ("train", "val") else f"run/{name}"
            if self._writer is not None and name not in ("epoch", "step"):
                self._writer.add_scalar(tag, value, int(row["step"]))

    def on_fit_end(self, reason: str) -> None:
        """Closes the log."""
        if self._writer is not None:
            self._writer.close()


def logs(folder: Path) -> list[Callback]:
    """The logs that every run writes to its folder: log.csv, curves.png, tensorboard/."""
    return [CsvLog(folder), Curves(folder), TensorBoard(folder)]
