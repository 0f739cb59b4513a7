"""Trains SegNet-Basic on CamVid with the recipe of its paper, and compares the metrics with the paper's.

    python benchmarks/papers/segnet_basic.py --camvid PATH

Badrinarayanan, Kendall, Cipolla: SegNet, arXiv 1511.00561, section 4 and table 1, "median frequency balancing". SGD at
0.1 with momentum 0.9, weight decay 5e-4, batches of 12, 360 x 480, no augmentation; cross-entropy weighted by median
frequency and divided by the number of labeled pixels; local response normalization of the input. 10,000 steps, as in
the authors' segnet_basic_solver.prototxt.

Differences from the paper: the class weights are computed from the training masks (the list in the authors' file
cannot be derived from them); biases have the same learning rate as weights, not twice that; batch normalization uses
running statistics instead of a final pass over the training set; the last weights are evaluated, not those with the
best metrics on the test set.

Without a GPU, it makes a small run unless --full is given: a few images, a few epochs, crops. The metrics then only
show that the recipe works. Without the test split, it measures on val, which comes from one of the training drives.
"""

import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import segzoo
from segzoo.data.datasets import open_data
from segzoo.errors import SegzooError
from segzoo.training.callbacks import Callback
from segzoo.training.evaluate import evaluate
from segzoo.training.fit import train
from segzoo.training.recipe import (
    DataConfig,
    HardwareConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    RunConfig,
    ScheduleConfig,
)

PUBLISHED = {"pixel_accuracy": 82.7, "mean_accuracy": 62.0, "mean_iou": 47.7}
"""Table 1, CamVid test, in percent."""

TITLES = {"pixel_accuracy": "global", "mean_accuracy": "class average", "mean_iou": "mean IoU"}


def recipe(camvid: Path, epochs: int | None) -> Recipe:
    """The recipe of the paper; 333 epochs of 30 steps are 10,000 steps."""
    return Recipe(
        note="SegNet-Basic on CamVid as in arXiv 1511.00561, table 1.",
        model=ModelConfig(decoder="paper/segnet_basic"),
        data=DataConfig("camvid", str(camvid), split="train"),
        loss=LossConfig("ce", options={"ce": {"normalize": "pixels"}}, class_weights="median_frequency"),
        optimizer=OptimizerConfig("momentum", lr=0.1, momentum=0.9, weight_decay=5e-4),
        schedule=ScheduleConfig("constant"),
        run=RunConfig(epochs=333 if epochs is None else epochs, batch_size=12),
    )


def small(full: Recipe, epochs: int | None, images: str) -> Recipe:
    """The recipe with fewer images, in crops, for a few epochs."""
    return replace(
        full,
        data=replace(full.data, select=(images,)),
        augmentation=({"name": "crop", "height": 120, "width": 160},),
        run=replace(full.run, epochs=4 if epochs is None else epochs, batch_size=4),
        hardware=HardwareConfig(accelerator="cpu", workers=0, threads=torch.get_num_threads()),
    )


class EpochLines(Callback):
    """Prints one line per epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def on_epoch_end(self, history) -> None:
        row = history[-1]
        self.console.print(f"epoch {row['epoch']:.0f}: loss {row['train_loss']:.3f}, {row['seconds']:.0f} s in total")


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--camvid", type=Path, default=Path("data/camvid"), help="the folder with train, and val or test"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", help="a few images and epochs (the default on a CPU)")
    size.add_argument("--full", action="store_true", help="the run of the paper, even on a CPU")
    parser.add_argument("--epochs", type=at_least_one, help="passes over the images (333, or 4 in a small run)")
    parser.add_argument("--images", default="0001TP_006*", help="pattern of the training images of --small")
    parser.add_argument("--held-out", default="*", help="pattern of the images to measure on")
    parser.add_argument("--output", type=Path, default=Path("runs/segnet_basic"), help="a new folder for the run")
    args = parser.parse_args()
    try:
        measure(args, Console())
    except SegzooError as error:
        parser.exit(1, f"{error}\n")


def measure(args: argparse.Namespace, console: Console) -> None:
    """Trains, evaluates, prints the table, and saves it in the run's folder."""
    is_small = args.small or not (args.full or torch.cuda.is_available())
    chosen = recipe(args.camvid, args.epochs)
    if is_small:
        chosen = small(chosen, args.epochs, args.images)
        console.print(
            f"Small: {args.images} in crops of 120 x 160, {chosen.run.epochs} epochs. This is not the paper's run."
        )
    path = train(chosen, args.output, callbacks=[EpochLines(console)])
    split = "test" if any((args.camvid / name).is_dir() for name in ("test", "testannot")) else "val"
    data = open_data("camvid", args.camvid, split, select=(args.held_out,))
    model = segzoo.load(path).to("cuda" if torch.cuda.is_available() else "cpu")
    metrics = evaluate(model, data).matrix.summary()
    table = Table("", "this run", "paper, test", title=f"SegNet-Basic, {len(data)} images of {data.title}")
    for key, title in TITLES.items():
        table.add_row(title, f"{100 * metrics[key]:.1f}", f"{PUBLISHED[key]:.1f}")
    console.print(table)
    if split == "val":
        console.print("There is no test split: val comes from a training drive, so its metrics are optimistic.")
    if is_small:
        console.print("This was a small run: the metrics say nothing about the network.")
    record = {"date": datetime.now(UTC).isoformat(), "small": is_small, "split": split, "images": len(data)}
    results = {"metrics": metrics, "published_percent": PUBLISHED, "recipe": chosen.to_dict()}
    (args.output / "table1.json").write_text(json.dumps(record | results, indent=2))


if __name__ == "__main__":
    main()
