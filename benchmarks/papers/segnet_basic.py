"""SegNet-Basic on CamVid by its paper's recipe, beside the paper's figures.

    python benchmarks/papers/segnet_basic.py --camvid PATH

Badrinarayanan, Kendall, Cipolla: SegNet, arXiv 1511.00561, section 4 and table 1, "median frequency balancing". SGD at
0.1 with momentum 0.9, weight decay 5e-4, batches of 12, 360 x 480, no augmentation; cross-entropy weighted by median
frequency and divided by the number of labelled pixels; local response normalisation of the input. 10,000 steps, as in
the authors' segnet_basic_solver.prototxt.

What differs from the paper: the class weights are computed from the training masks (the authors' file has a list that
cannot be computed from them); biases learn at the same rate as weights, not at twice that; batch normalisation keeps
running statistics instead of a pass over the training set at the end; the last weights are taken, and not those of the
best figures on the test set.

Without a GPU it runs small unless --full is given: a few images, a few epochs, crops. Its figures then only show that
the recipe runs. Without the test split it measures on val, whose drive is one of the training drives.
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
from segzoo.training.callbacks import Silent
from segzoo.training.evaluate import evaluate
from segzoo.training.fit import train
from segzoo.training.recipe import (
    DataPart,
    HardwarePart,
    LossPart,
    ModelPart,
    OptimiserPart,
    Recipe,
    RunPart,
    SchedulePart,
)

PUBLISHED = {"pixel_accuracy": 82.7, "mean_accuracy": 62.0, "mean_iu": 47.7}
"""Table 1, CamVid test, in per cent."""

TITLES = {"pixel_accuracy": "global", "mean_accuracy": "class average", "mean_iu": "mean IU"}


def recipe(camvid: Path, epochs: int | None) -> Recipe:
    """The paper's; 333 epochs of 30 steps are 10,000 steps."""
    return Recipe(
        note="SegNet-Basic on CamVid as in arXiv 1511.00561, table 1.",
        model=ModelPart(decoder="paper/segnet_basic"),
        data=DataPart("camvid", str(camvid), split="train"),
        loss=LossPart("ce", options={"ce": {"normalise": "pixels"}}, class_weights="median_frequency"),
        optimiser=OptimiserPart("momentum", lr=0.1, momentum=0.9, weight_decay=5e-4),
        schedule=SchedulePart("constant"),
        run=RunPart(epochs=333 if epochs is None else epochs, batch=12),
    )


def small(whole: Recipe, epochs: int | None, images: str) -> Recipe:
    """Some images, in crops, for a few epochs."""
    return replace(
        whole,
        data=replace(whole.data, select=(images,)),
        augmentation=({"name": "crop", "height": 120, "width": 160},),
        run=replace(whole.run, epochs=4 if epochs is None else epochs, batch=4),
        hardware=HardwarePart(accelerator="cpu", workers=0, threads=torch.get_num_threads()),
    )


class Lines(Silent):
    """A line an epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def epoch(self, history) -> None:
        row = history[-1]
        self.console.print(f"epoch {row['epoch']:.0f}: loss {row['train_loss']:.3f}, {row['seconds']:.0f} s in all")


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--camvid", type=Path, default=Path("data/camvid"), help="the folder with train and val or test"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", help="a few images and epochs (what a CPU does)")
    size.add_argument("--full", action="store_true", help="the paper's run, on a CPU too")
    parser.add_argument("--epochs", type=at_least_one, help="passes over the images: 333, or 4 of a small run")
    parser.add_argument("--images", default="0001TP_006*", help="what --small trains on")
    parser.add_argument("--held-out", default="*", help="pattern of the images that are measured")
    parser.add_argument("--output", type=Path, default=Path("runs/segnet_basic"), help="a new folder for the run")
    args = parser.parse_args()
    try:
        measure(args, Console())
    except SegzooError as error:
        parser.exit(1, f"{error}\n")


def measure(args: argparse.Namespace, console: Console) -> None:
    """Trains, evaluates, prints the table, and keeps it beside the run."""
    is_small = args.small or not (args.full or torch.cuda.is_available())
    plan = recipe(args.camvid, args.epochs)
    if is_small:
        plan = small(plan, args.epochs, args.images)
        console.print(f"Small: {args.images} in crops of 120 x 160, {plan.run.epochs} epochs. Not the paper's run.")
    path = train(plan, args.output, listeners=[Lines(console)])
    split = "test" if any((args.camvid / name).is_dir() for name in ("test", "testannot")) else "val"
    data = open_data("camvid", args.camvid, split, select=(args.held_out,))
    model = segzoo.load(path).to("cuda" if torch.cuda.is_available() else "cpu")
    found = evaluate(model, data).matrix.summary()
    table = Table("", "here", "paper, test", title=f"SegNet-Basic, {len(data)} images of {data.title}")
    for key, title in TITLES.items():
        table.add_row(title, f"{100 * found[key]:.1f}", f"{PUBLISHED[key]:.1f}")
    console.print(table)
    if split == "val":
        console.print("There is no test split here: val is a drive that is trained on, and flatters.")
    if is_small:
        console.print("A small run: the figures say nothing about the network.")
    record = {"date": datetime.now(UTC).isoformat(), "small": is_small, "split": split, "images": len(data)}
    figures = {"found": found, "published_percent": PUBLISHED, "recipe": plan.to_dict()}
    (args.output / "table1.json").write_text(json.dumps(record | figures, indent=2))


if __name__ == "__main__":
    main()
