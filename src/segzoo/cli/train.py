"""`segzoo train`: a model from a recipe."""

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

if TYPE_CHECKING:
    from segzoo.training.callbacks import Row


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A .toml file, a checkpoint that a recipe has made, or the name of one of segzoo's own recipes.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the run's files go.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another value than the recipe's: --set run.epochs=3."),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(
            "--leave-out",
            metavar="PATTERN",
            help="Do not train on images of such names, '0001TP*', but validate on these alone.",
        ),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="GPUs, or processes on the CPU; short for --set hardware.devices=N.",
            show_default="the recipe's",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in FOLDER, or begin where there is none.")
    ] = False,
) -> None:
    """Trains a model by a recipe.

    FOLDER gets last.safetensors, best.safetensors (by mean IU on the held-out images), curves.png, log.csv and
    tensorboard/. A run that was stopped, or killed, goes on with --resume as if it had not been.

      segzoo train recipe.toml -o runs/first
      segzoo train recipe.toml -o runs/first --resume
      segzoo train recipe.toml -o runs/without-0001TP --leave-out '0001TP*'
      segzoo train unet_mobilenetv4_conv_small_camvid_first -o runs/first --set data.root=../camvid --set run.epochs=9
    """
    # Threads that spin while they wait take the cores from the workers that read; known to OpenMP before it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from segzoo.training import recipes
    from segzoo.training.recipe import read_recipe
    from segzoo.training.run_folder import check_free
    from segzoo.training.schema import parse_override

    overrides = dict(parse_override(text) for text in set_ or ())
    if devices is not None:
        overrides["hardware.devices"] = devices
    wanted = read_recipe(recipe if Path(recipe).suffix else recipes.path(recipe), overrides)
    if leave_out:
        wanted = wanted.leaving_out(*leave_out)
    validators.check_decoder(wanted.model.decoder)
    validators.check_data(wanted.data.root, wanted.data.name)
    check_free(output, resume)
    with console.Steps(lines=False) as step:
        step("loading torch")
        from segzoo.training.fit import train as run
    bar = RunBar()
    path = run(wanted, output, resume=resume, listeners=[bar])
    if bar.told:  # Only the first of several processes is.
        console.line(f"Wrote {path}")


class RunBar:
    """How far a run is, on stderr: a bar with loss, mean IU and the time left, and a line an epoch."""

    def __init__(self) -> None:
        self._console = console.err()
        self._live: Progress | None = None
        self._mean_iu = math.nan
        self.told = False

    def begins(self, epoch: int, epochs: int, steps: int, history: "Sequence[Row]") -> None:
        self._epochs, self._steps, self._first = epochs, steps, epoch * steps
        self._start = time.perf_counter()
        self.told = True
        if self._console.is_terminal:
            columns = (TextColumn("Training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._live = Progress(*columns, console=self._console, transient=True)
            self._task = self._live.add_task("", total=epochs * steps, completed=self._first)
            self._live.start()

    def step(self, step: int, loss: float) -> None:
        if self._live is not None:
            text = f"loss {loss:.3f}  mIoU {percent(self._mean_iu)}  {self._left(step)} left"
            self._live.update(self._task, completed=step, description=text)

    def evaluating(self, done: int, total: int) -> None:
        if self._live is not None:
            self._live.update(self._task, description=f"evaluating {done} of {total}")

    def epoch(self, history: "Sequence[Row]") -> None:
        row = history[-1]
        self._mean_iu = row.get("val_mean_iu", self._mean_iu)
        self._console.print(
            f"epoch {row['epoch']:.0f} of {self._epochs}: loss {row['train_loss']:.3f}, "
            f"train mean IU {percent(row['train_mean_iu'])}, val mean IU {percent(row.get('val_mean_iu'))}, "
            f"{row['images_per_second']:.1f} images/s, {self._left(int(row['step']))} left",
            soft_wrap=True,
        )

    def ends(self, why: str) -> None:
        if self._live is not None:
            self._live.stop()
        self._console.print(why, soft_wrap=True)

    def _left(self, step: int) -> str:
        gone, done = time.perf_counter() - self._start, step - self._first
        seconds = round(gone / max(1, done) * (self._epochs * self._steps - step))
        hours, minutes = seconds // 3600, seconds // 60 % 60
        return f"{hours} h {minutes:02} min" if hours else f"{minutes}:{seconds % 60:02} min"
