"""The dense CRF on one image: `nox -s bench-crf`, or `nox -s bench-crf -- --quick`.

500 x 375 pixels, 21 classes, 10 iterations, float32: the seconds of each preset, stage by stage, and the CPU time,
which estimates the time on an idle machine if this one is busy. The image is the photograph that ships with segzoo,
whose fine texture needs many lattice vertices; the logits are coarse and noisy.

It is compared with the naive method without a lattice, a matrix of all pairs of pixels, whose CPU time is measured on a
crop of the image. Its cost grows with the square of the number of pixels, so the cost for the whole image is that of
the crop multiplied by the square of the ratio; the whole matrix, of 130 GiB, is never created.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from compare import keep, machine
from segzoo.data.sample import PHOTOGRAPH
from segzoo.postprocess.crf import PRESETS, Parameters, refine

WIDTH, HEIGHT, CLASSES = 500, 375, 21
CROP = 48


def scene() -> tuple[np.ndarray, np.ndarray]:
    """The photograph, and logits (classes, height, width): a random value per 8 x 8 block, plus noise on each pixel."""
    image = np.asarray(Image.open(PHOTOGRAPH).resize((WIDTH, HEIGHT)))
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 3, (CLASSES, HEIGHT // 8 + 1, WIDTH // 8 + 1)).repeat(8, 1).repeat(8, 2)
    logits = coarse[:, :HEIGHT, :WIDTH] + rng.normal(size=(CLASSES, HEIGHT, WIDTH))
    return image, logits.astype(np.float32)


def stages(image: np.ndarray, logits: np.ndarray, preset: Parameters, bar: Progress, name: str) -> tuple[float, ...]:
    """The seconds of the lattice, of all iterations and of the whole call, and the CPU time of the call."""
    task = bar.add_task(name, total=None)
    moments, before = [time.perf_counter()], time.process_time()

    def tick(done: int, total: int) -> None:
        moments.append(time.perf_counter())
        bar.update(task, completed=done, total=total)

    refine(logits, image, preset, progress=tick)
    cpu_time = time.process_time() - before
    return moments[1] - moments[0], moments[-1] - moments[1], time.perf_counter() - moments[0], cpu_time


def all_pairs(image: np.ndarray, preset: Parameters) -> float:
    """The CPU seconds to build both kernels for all pairs of pixels of an image, and to apply each of them once."""
    height, width = image.shape[:2]
    positions = np.mgrid[:height, :width].reshape(2, -1).T.astype(np.float32)
    values = np.ones((height * width, CLASSES), np.float32)
    start = time.process_time()
    for features in (
        np.concatenate([positions / preset.theta_alpha, image.reshape(-1, 3) / preset.theta_beta], 1),
        positions / preset.theta_gamma,
    ):
        squares = (features**2).sum(1)
        kernel = np.exp((features @ features.T) - squares[:, None] / 2 - squares / 2)
        kernel @ values
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="each preset once")
    parser.add_argument("--preset", choices=PRESETS, action="append", help="only this one; can be repeated")
    parser.add_argument("--output", type=Path, help="the JSON file (benchmarks/results/DATE-crf.json)")
    args = parser.parse_args()
    console = Console()
    image, logits = scene()
    repeats = 1 if args.quick else 5
    results = []
    title = f"{WIDTH} x {HEIGHT} x {CLASSES}, 10 iterations, median of {repeats}"
    table = Table("preset", "lattice", "per iteration", "total", "CPU time", "all pairs, per iteration", title=title)
    factor = (WIDTH * HEIGHT / CROP**2) ** 2
    with Progress(console=console, transient=True) as bar:
        for name in args.preset or PRESETS:
            samples = [stages(image, logits, PRESETS[name], bar, name) for _ in range(repeats)]
            pairs = [all_pairs(image[:CROP, :CROP], PRESETS[name]) for _ in range(repeats)]
            lattice, iterations, total, cpu_time = (statistics.median(column) for column in zip(*samples, strict=True))
            slow = statistics.median(pairs) * factor
            table.add_row(
                name,
                f"{lattice:.2f} s",
                f"{iterations / 10:.2f} s",
                f"{total:.2f} s",
                f"{cpu_time:.2f} s",
                f"{slow:.0f} s (extrapolated)",
            )
            results.append({"preset": name, "seconds": samples, "all_pairs_of_the_crop": pairs, "factor": factor})
    console.print(table)
    console.print(f"All pairs: measured on {CROP} x {CROP} pixels and multiplied by {factor:.0f}.")
    console.print(f"All samples are in {keep({**machine(), 'results': results}, args.output, 'crf')}")


if __name__ == "__main__":
    main()
