"""The dense CRF on one image: `nox -s bench-crf`, or `nox -s bench-crf -- --quick`.

500 x 375 pixels, 21 classes, 10 iterations, float32: seconds of each preset, stage by stage, and the seconds of
processor time, which say what an idle machine would take where this one has other work. The image is scikit-learn's
photograph, which is full of fine texture and so needs many corners of the lattice; the logits are coarse and noisy.

Beside it stands what one would write without a lattice: every pair of pixels in a matrix, timed on a piece of the
image, in processor time. Its cost grows with the square of the number of pixels, so that of the whole image is the
piece's, multiplied by that square; the whole matrix, of 130 GiB, is never made.
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
from sklearn.datasets import load_sample_image

from compare import keep, machine
from segzoo.postprocess.crf import PRESETS, Parameters, refine

WIDTH, HEIGHT, CLASSES = 500, 375, 21
PIECE = 48


def scene() -> tuple[np.ndarray, np.ndarray]:
    """The photograph, and logits (classes, height, width): one draw for every 8 x 8 pixels, and noise on each pixel."""
    image = np.asarray(Image.fromarray(load_sample_image("china.jpg")).resize((WIDTH, HEIGHT)))
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 3, (CLASSES, HEIGHT // 8 + 1, WIDTH // 8 + 1)).repeat(8, 1).repeat(8, 2)
    logits = coarse[:, :HEIGHT, :WIDTH] + rng.normal(size=(CLASSES, HEIGHT, WIDTH))
    return image, logits.astype(np.float32)


def stages(image: np.ndarray, logits: np.ndarray, preset: Parameters, bar: Progress, name: str) -> tuple[float, ...]:
    """Seconds of the lattice, of all iterations and of the whole call, and the call's processor time."""
    task = bar.add_task(name, total=None)
    moments, before = [time.perf_counter()], time.process_time()

    def tick(done: int, total: int) -> None:
        moments.append(time.perf_counter())
        bar.update(task, completed=done, total=total)

    refine(logits, image, preset, progress=tick)
    busy = time.process_time() - before
    return moments[1] - moments[0], moments[-1] - moments[1], time.perf_counter() - moments[0], busy


def all_pairs(image: np.ndarray, preset: Parameters) -> float:
    """Processor seconds of making both kernels for all pairs of pixels of an image, and of one message through each."""
    height, width = image.shape[:2]
    places = np.mgrid[:height, :width].reshape(2, -1).T.astype(np.float32)
    values = np.ones((height * width, CLASSES), np.float32)
    start = time.process_time()
    for features in (
        np.concatenate([places / preset.theta_alpha, image.reshape(-1, 3) / preset.theta_beta], 1),
        places / preset.theta_gamma,
    ):
        squares = (features**2).sum(1)
        kernel = np.exp((features @ features.T) - squares[:, None] / 2 - squares / 2)
        kernel @ values
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="each preset once")
    parser.add_argument("--preset", choices=PRESETS, action="append", help="only this one; may be given again")
    parser.add_argument("--output", type=Path, help="the JSON file (benchmarks/results/DATE-crf.json)")
    args = parser.parse_args()
    console = Console()
    image, logits = scene()
    repeats = 1 if args.quick else 5
    found = []
    title = f"{WIDTH} x {HEIGHT} x {CLASSES}, 10 iterations, median of {repeats}"
    table = Table("preset", "lattice", "an iteration", "all", "processor", "all pairs, an iteration", title=title)
    factor = (WIDTH * HEIGHT / PIECE**2) ** 2
    with Progress(console=console, transient=True) as bar:
        for name in args.preset or PRESETS:
            samples = [stages(image, logits, PRESETS[name], bar, name) for _ in range(repeats)]
            pairs = [all_pairs(image[:PIECE, :PIECE], PRESETS[name]) for _ in range(repeats)]
            lattice, iterations, whole, busy = (statistics.median(column) for column in zip(*samples, strict=True))
            slow = statistics.median(pairs) * factor
            table.add_row(
                name,
                f"{lattice:.2f} s",
                f"{iterations / 10:.2f} s",
                f"{whole:.2f} s",
                f"{busy:.2f} s",
                f"{slow:.0f} s (extrapolated)",
            )
            found.append({"preset": name, "seconds": samples, "all_pairs_of_the_piece": pairs, "factor": factor})
    console.print(table)
    console.print(f"All pairs: measured on {PIECE} x {PIECE} pixels, and multiplied by {factor:.0f}.")
    console.print(f"Every sample is in {keep({**machine(), 'results': found}, args.output, 'crf')}")


if __name__ == "__main__":
    main()
