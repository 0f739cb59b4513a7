"""Training steps beside what a user would take instead, and whether the loop waits for its images.

    unet/resnet101   against   segmentation-models-pytorch's Unet("resnet101")

`nox -s bench` runs it after compare.py; `nox -s bench-train -- --device cuda --precision bf16` alone, with options.

A step is forward, cross-entropy, backward and SGD on the same normalised batch, already on the device. Both sides have
random weights, 11 classes, the same precision and threads; they take turns, since a machine's speed drifts, and the
medians are compared. The two networks are not the same in every layer; the table gives the number of weights of both.

Then segzoo's own loop trains unet/resnet101 on a folder of pictures of CamVid's size, or on CamVid where --data names
it, reading and augmenting as a recipe does. `input wait` is the part of the time that the network waited for images, as
in a run's log.csv; `loader alone` is how many images a second come where no network takes the processor.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import segzoo
from compare import alternate, keep, machine
from segzoo.models.create import count
from segzoo.training import build
from segzoo.training.callbacks import Silent
from segzoo.training.fit import train
from segzoo.training.recipe import Recipe

CLASSES = 11
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def stepper(model: nn.Module, image: Tensor, mask: Tensor, precision: str) -> Callable[[], None]:
    """One step of training at each call, done when it returns."""
    device = image.device.type
    model = model.to(image.device).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        with torch.autocast(device, TYPES[precision], enabled=precision != "fp32"):
            loss = F.cross_entropy(model(image), mask)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def pictures(root: Path, number: int, size: tuple[int, int]) -> None:
    """A folder data set of JPEG photographs' size and kind: smooth shapes and noise, and masks of 11 classes."""
    noise = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / "train" / kind).mkdir(parents=True)
    (root / "labels.json").write_text(json.dumps({"names": [f"class {i}" for i in range(CLASSES)], "ignored": 255}))
    for index in range(number):
        coarse = noise.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))
        image = np.clip(image + noise.integers(-8, 9, image.shape), 0, 255).astype(np.uint8)
        mask = Image.fromarray(coarse[..., 0] % CLASSES).resize(size[::-1], Image.Resampling.NEAREST)
        Image.fromarray(image).save(root / "train/images" / f"{index}.jpg", quality=95)
        mask.save(root / "train/masks" / f"{index}.png")


def recipe_of(args: argparse.Namespace, root: Path) -> Recipe:
    """What the loop is run with: the augmentation of segzoo's own recipe for CamVid, on crops of the same size."""
    record: dict[str, Any] = {
        "model": {"decoder": "unet", "encoder": args.encoder},
        "data": {"name": "camvid" if args.data else "folder", "root": str(root), "split": "train"},
        "augmentation": [
            {"name": "flip"},
            {"name": "crop", "height": args.size, "width": args.size, "scale": [0.5, 2.0]},
            {"name": "colour"},
            {"name": "blur"},
            {"name": "noise"},
        ],
        "run": {"epochs": 2, "batch": args.batch},
        "hardware": {
            "accelerator": args.device,
            "precision": args.precision,
            "workers": args.workers,
            "threads": args.threads,
        },
    }
    return Recipe.from_dict(record)


class Rows(Silent):
    """Keeps what the loop says of its epochs."""

    def epoch(self, history: Any) -> None:
        self.last = history[-1]


def measure_loop(args: argparse.Namespace, root: Path, runs: Path) -> dict[str, float]:
    """The last epoch of a run: the first one starts the workers."""
    rows = Rows()
    recipe = recipe_of(args, root)
    train(recipe, runs, listeners=[rows])
    data, _ = build.open_parts(recipe)
    loaders = build.loaders_of(recipe, data, None, rank=0, world=1)
    seen, seconds = 0, 0.0
    for epoch in range(2):  # the workers start in the first
        loaders.begin(epoch)
        start, seen = time.perf_counter(), 0
        for batch in loaders.training:
            seen += len(batch["image"])
        seconds = time.perf_counter() - start
    return {
        "images_per_second": rows.last["images_per_second"],
        "input_wait": rows.last["input_wait"],
        "loader_images_per_second": seen / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: small images, two repeats")
    parser.add_argument("--repeats", type=int, help="steps of each side (9; 2 with --quick)")
    parser.add_argument("--size", type=int, help="side of the image and of the crop (256; 64 with --quick)")
    parser.add_argument("--batch", type=int, help="images of a step (8; 2 with --quick)")
    parser.add_argument("--images", type=int, help="pictures that the loop reads an epoch (64; 8 with --quick)")
    parser.add_argument("--encoder", default="resnet101", help="of both sides (%(default)s)")
    parser.add_argument("--precision", choices=tuple(TYPES), default="fp32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="of torch on the CPU (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that read and augment (%(default)s)")
    parser.add_argument("--data", type=Path, help="CamVid's folder, to read its images instead")
    parser.add_argument("--output", type=Path, help="the JSON file (benchmarks/results/train-DATE.json)")
    args = parser.parse_args()
    for name, full, quick in (("repeats", 9, 2), ("size", 256, 64), ("batch", 8, 2), ("images", 64, 8)):
        if getattr(args, name) is None:
            setattr(args, name, quick if args.quick else full)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    console = Console()
    ours = segzoo.create("unet", encoder=args.encoder, num_classes=CLASSES)
    theirs = smp.Unet(args.encoder, encoder_weights=None, classes=CLASSES)
    parameters = [count(ours), count(theirs)]
    image = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    mask = torch.randint(0, CLASSES, (args.batch, args.size, args.size), device=args.device)
    steps = [stepper(model, image, mask, args.precision) for model in (ours, theirs)]
    samples = alternate(*steps, repeats=args.repeats, warm_up=2)
    speeds = [args.batch / statistics.median(seconds) for seconds in samples]
    del ours, theirs, steps

    with tempfile.TemporaryDirectory() as folder:
        root = args.data
        if root is None:
            root = Path(folder, "pictures")
            pictures(root, args.images, (360, 480))
        loop = measure_loop(args, root, Path(folder, "run"))

    facts = machine()
    where = facts["cpu"] if args.device == "cpu" else torch.cuda.get_device_name()
    what = f"{args.batch} x 3 x {args.size} x {args.size}, {args.precision}, {args.threads} threads, {where}"
    table = Table(title=f"Training, {what}")
    for title in ("", "segzoo", "smp.Unet", "segzoo / smp"):
        table.add_column(title, justify="left" if title == "" else "right")
    table.add_row("steps, images/s", *(f"{speed:.2f}" for speed in speeds), f"{speeds[0] / speeds[1]:.2f}")
    table.add_row("weights", *(f"{one / 1e6:.1f} M" for one in parameters), f"{parameters[0] / parameters[1]:.2f}")
    table.add_section()
    table.add_row("the loop, images/s", f"{loop['images_per_second']:.2f}")
    table.add_row("its input wait", f"{100 * loop['input_wait']:.1f} %")
    table.add_row(f"loader alone, {args.workers} workers", f"{loop['loader_images_per_second']:.2f}")
    console.print(table)

    record = {
        **facts,
        "device": where,
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()},
        "versions": {"segzoo": segzoo.__version__, "torch": str(torch.__version__), "smp": smp.__version__},
        "parameters": parameters,
        "seconds": dict(zip(("segzoo", "smp"), samples, strict=True)),
        "images_per_second": dict(zip(("segzoo", "smp"), speeds, strict=True)),
        "ratio": speeds[0] / speeds[1],
        "loop": loop,
    }
    console.print(f"Every sample is in {keep(record, args.output, 'train-quick' if args.quick else 'train')}")


if __name__ == "__main__":
    main()
