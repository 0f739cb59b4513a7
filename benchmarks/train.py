"""Compares training speed with an alternative library, and measures whether the loop waits for images.

    unet/resnet101   versus   segmentation-models-pytorch's Unet("resnet101")

`nox -s bench` runs it after compare.py; `nox -s bench-train -- --device cuda --precision bf16` alone, with options.

A step is forward, cross-entropy, backward and SGD on the same normalized batch, already on the device. Both sides have
random weights, 11 classes, the same precision and number of threads. They alternate, because a machine's speed drifts,
and the medians are compared. The two networks are not identical in every layer; the table shows the number of weights
of both.

Then segzoo's loop trains unet/resnet101 on generated images of CamVid's size, or on CamVid with --data, reading and
augmenting as in a recipe. `input wait` is the share of the time that the network waited for images, as in a run's
log.csv; `loader alone` is the number of images per second if no network uses the CPU.
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
from segzoo.models.parameters import count_parameters
from segzoo.training import build
from segzoo.training.callbacks import Callback
from segzoo.training.fit import train
from segzoo.training.recipe import Recipe

CLASSES = 11
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def stepper(model: nn.Module, image: Tensor, mask: Tensor, precision: str) -> Callable[[], None]:
    """A function that makes one training step and waits for it."""
    device = image.device.type
    model = model.to(image.device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        with torch.autocast(device, TYPES[precision], enabled=precision != "fp32"):
            loss = F.cross_entropy(model(image), mask)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def write_images(root: Path, number: int, size: tuple[int, int]) -> None:
    """A folder data set of JPEG images like photographs, smooth shapes with noise, and masks of 11 classes."""
    noise = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / "train" / folder).mkdir(parents=True)
    (root / "classes.json").write_text(
        json.dumps({"names": [f"class {i}" for i in range(CLASSES)], "ignore_index": 255})
    )
    for index in range(number):
        coarse = noise.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))
        image = np.clip(image + noise.integers(-8, 9, image.shape), 0, 255).astype(np.uint8)
        mask = Image.fromarray(coarse[..., 0] % CLASSES).resize(size[::-1], Image.Resampling.NEAREST)
        Image.fromarray(image).save(root / "train/images" / f"{index}.jpg", quality=95)
        mask.save(root / "train/masks" / f"{index}.png")


def create_recipe(args: argparse.Namespace, root: Path) -> Recipe:
    """The recipe of the loop: the augmentation of segzoo's recipe for CamVid, on crops of the benchmark's size."""
    record: dict[str, Any] = {
        "model": {"decoder": "unet", "encoder": args.encoder},
        "data": {"name": "camvid" if args.data else "folder", "root": str(root), "split": "train"},
        "augmentation": [
            {"name": "flip"},
            {"name": "crop", "height": args.size, "width": args.size, "scale": [0.5, 2.0]},
            {"name": "color_jitter"},
            {"name": "blur"},
            {"name": "noise"},
        ],
        "run": {"epochs": 2, "batch_size": args.batch},
        "hardware": {
            "accelerator": args.device,
            "precision": args.precision,
            "workers": args.workers,
            "threads": args.threads,
        },
    }
    return Recipe.from_dict(record)


class LastRow(Callback):
    """Stores the metrics of the last epoch."""

    def on_epoch_end(self, history: Any) -> None:
        self.last = history[-1]


def measure_loop(args: argparse.Namespace, root: Path, runs: Path) -> dict[str, float]:
    """Measures the last epoch of a run, because the workers start in the first."""
    callback = LastRow()
    recipe = create_recipe(args, root)
    train(recipe, runs, callbacks=[callback])
    data, _ = build.open_datasets(recipe)
    loaders = build.build_loaders(build.build_parts(recipe, data, None), rank=0, world_size=1)
    seen, seconds = 0, 0.0
    for epoch in range(2):  # the workers start in the first
        loaders.set_epoch(epoch)
        start, seen = time.perf_counter(), 0
        for batch in loaders.training:
            seen += len(batch["image"])
        seconds = time.perf_counter() - start
    return {
        "images_per_second": callback.last["images_per_second"],
        "input_wait": callback.last["input_wait"],
        "loader_images_per_second": seen / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke test: small images, two repeats")
    parser.add_argument("--repeats", type=int, help="steps per side (9; 2 with --quick)")
    parser.add_argument("--size", type=int, help="side of the image and of the crop, in pixels (256; 64 with --quick)")
    parser.add_argument("--batch", type=int, help="images per step (8; 2 with --quick)")
    parser.add_argument("--images", type=int, help="images per epoch of the loop (64; 8 with --quick)")
    parser.add_argument("--encoder", default="resnet101", help="of both sides (%(default)s)")
    parser.add_argument("--precision", choices=tuple(TYPES), default="fp32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that read and augment (%(default)s)")
    parser.add_argument("--data", type=Path, help="the folder of CamVid, to train on its images instead")
    parser.add_argument("--output", type=Path, help="the JSON file (benchmarks/results/DATE-train.json)")
    args = parser.parse_args()
    for name, full, quick in (("repeats", 9, 2), ("size", 256, 64), ("batch", 8, 2), ("images", 64, 8)):
        if getattr(args, name) is None:
            setattr(args, name, quick if args.quick else full)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    console = Console()
    ours = segzoo.create("unet", encoder=args.encoder, num_classes=CLASSES)
    theirs = smp.Unet(args.encoder, encoder_weights=None, classes=CLASSES)
    parameters = [count_parameters(ours), count_parameters(theirs)]
    image = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    mask = torch.randint(0, CLASSES, (args.batch, args.size, args.size), device=args.device)
    steps = [stepper(model, image, mask, args.precision) for model in (ours, theirs)]
    samples = alternate(*steps, repeats=args.repeats, warm_up=2)
    speeds = [args.batch / statistics.median(seconds) for seconds in samples]
    del ours, theirs, steps

    with tempfile.TemporaryDirectory() as folder:
        root = args.data
        if root is None:
            root = Path(folder, "data")
            write_images(root, args.images, (360, 480))
        loop = measure_loop(args, root, Path(folder, "run"))

    facts = machine()
    device = facts["cpu"] if args.device == "cpu" else torch.cuda.get_device_name()
    setup = f"{args.batch} x 3 x {args.size} x {args.size}, {args.precision}, {args.threads} threads, {device}"
    table = Table(title=f"Training, {setup}")
    for title in ("", "segzoo", "smp.Unet", "segzoo / smp"):
        table.add_column(title, justify="left" if title == "" else "right")
    table.add_row("steps, images/s", *(f"{speed:.2f}" for speed in speeds), f"{speeds[0] / speeds[1]:.2f}")
    table.add_row("weights", *(f"{count / 1e6:.1f} M" for count in parameters), f"{parameters[0] / parameters[1]:.2f}")
    table.add_section()
    table.add_row("loop, images/s", f"{loop['images_per_second']:.2f}")
    table.add_row("input wait of the loop", f"{100 * loop['input_wait']:.1f} %")
    table.add_row(f"loader alone, {args.workers} workers", f"{loop['loader_images_per_second']:.2f}")
    console.print(table)

    record = {
        **facts,
        "device": device,
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()},
        "versions": {"segzoo": segzoo.__version__, "torch": str(torch.__version__), "smp": smp.__version__},
        "parameters": parameters,
        "seconds": dict(zip(("segzoo", "smp"), samples, strict=True)),
        "images_per_second": dict(zip(("segzoo", "smp"), speeds, strict=True)),
        "ratio": speeds[0] / speeds[1],
        "loop": loop,
    }
    console.print(f"All samples are in {keep(record, args.output, 'train-quick' if args.quick else 'train')}")


if __name__ == "__main__":
    main()
