"""`segzoo train`: trains a model from a recipe."""

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from segzoo.cli import console, validators
from segzoo.formatting import percent
from segzoo.training.callbacks import Callback

if TYPE_CHECKING:
    from segzoo.training.callbacks import Row


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A .toml file, a checkpoint trained by a recipe, or the name of a recipe that ships with segzoo.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="The folder for the run's files.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a value of the recipe, such as run.epochs=3; repeatable."
        ),
    ] = None,
    holdout: Annotated[
        list[str] | None,
        typer.Option(
            "--holdout",
            metavar="PATTERN",
            help="Exclude images whose name matches, such as '0001TP*', from training, and validate on them only; "
            "repeatable.",
        ),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of GPUs, or of processes on the CPU; short for --set hardware.devices=N.",
            show_default="the recipe's",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the run in FOLDER, or start one if there is none.")
    ] = False,
) -> None:
    """Train a model from a recipe.

    Writes last.safetensors, best.safetensors (by mean IoU on the validation images), curves.png, log.csv and
    tensorboard/ to FOLDER. --resume continues an interrupted run exactly as if it had not been interrupted.

    Examples:

      segzoo train recipe.toml -o runs/first
      segzoo train recipe.toml -o runs/first --resume
      segzoo train recipe.toml -o runs/without-0001TP --holdout '0001TP*'
      segzoo train unet_mobilenetv4_conv_small_camvid_first -o runs/first --set data.root=../camvid --set run.epochs=9
    """
    # Waiting threads that spin would take CPU cores from the data workers. OpenMP reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from segzoo.training import recipes
    from segzoo.training.overrides import parse_override
    from segzoo.training.recipe import read_recipe
    from segzoo.training.run_folder import check_free

    overrides = dict(parse_override(text) for text in set_ or ())
    if devices is not None:
        overrides["hardware.devices"] = devices
    resolved = read_recipe(recipe if Path(recipe).suffix else recipes.path(recipe), overrides)
    if holdout:
        resolved = resolved.with_holdout(*holdout)
    validators.check_decoder(resolved.model.decoder)
    validators.check_data(resolved.data.root, resolved.data.name)
    check_free(output, resume)
    with console.Steps(lines=False) as step:
        step("loading torch")
        from segzoo.training.fit import train as run
    progress = TrainingProgress()
    path = run(resolved, output, resume=resume, callbacks=[progress])
    if progress.started:  # in the first process only
        console.line(f"Wrote {path}")


class TrainingProgress(Callback):
    """Shows the progress of a run on stderr: a bar with loss, mean IoU and time left, and one line per epoch."""

    def __init__(self) -> None:
        self._console = console.err()
        self._live: Progress | None = None
        self._mean_iou = math.nan
        self.started = False

    def on_fit_start(self, epoch: int, epochs: int, steps_per_epoch: int, history: "Sequence[Row]") -> None:
        self._epochs, self._steps, self._first = epochs, steps_per_epoch, epoch * steps_per_epoch
        self._start = time.perf_counter()
        self.started = True
        if self._console.is_terminal:
            columns = (TextColumn("Training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._live = Progress(*columns, console=self._console, transient=True)
            self._task = self._live.add_task("", total=epochs * steps_per_epoch, completed=self._first)
            self._live.start()

    def on_step_end(self, step: int, loss: float) -> None:
        if self._live is not None:
            text = f"loss {loss:.3f}  mIoU {percent(self._mean_iou)}  {self._left(step)} left"
            self._live.update(self._task, completed=step, description=text)

    def on_validation_batch_end(self, done: int, total: int) -> None:
        if self._live is not None:
            self._live.update(self._task, description=f"evaluating {done} of {total}")

    def on_epoch_end(self, history: "Sequence[Row]") -> None:
        row = history[-1]
        self._mean_iou = row.get("val_mean_iou", self._mean_iou)
        self._console.print(
            f"epoch {row['epoch']:.0f} of {self._epochs}: loss {row['train_loss']:.3f}, "
            f"train mean IoU {percent(row['train_mean_iou'])}, val mean IoU {percent(row.get('val_mean_iou'))}, "
            f"{row['images_per_second']:.1f} images/s, {self._left(int(row['step']))} left",
            soft_wrap=True,
        )

    def on_fit_end(self, reason: str) -> None:
        if self._live is not None:
            self._live.stop()
        self._console.print(reason, soft_wrap=True)

    def _left(self, step: int) -> str:
        elapsed, done = time.perf_counter() - self._start, step - self._first
        seconds = round(elapsed / max(1, done) * (self._epochs * self._steps - step))
        hours, minutes = seconds // 3600, seconds // 60 % 60
        return f"{hours} h {minutes:02} min" if hours else f"{minutes}:{seconds % 60:02} min"
