"""Compares segzoo with alternative libraries: `nox -s bench`, or `nox -s bench -- --quick`.

    unet/resnet101   versus   segmentation-models-pytorch's Unet("resnet101")
    fcn/resnet101    versus   torchvision's fcn_resnet101

It times building the model, a forward pass in torch, and a forward pass of the exported file in onnxruntime. Both sides
have random weights, 21 classes, float32, eval mode, inference_mode, the same number of threads and the same session
options; segzoo is exported with input="tensor", so that both graphs map a normalized image to logits. The two sides
alternate, because a machine's speed drifts, and the medians are compared.

The two networks of a pair are not identical in every layer; the table shows the number of weights of both.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor, nn
from torchvision.models.segmentation import fcn_resnet101

import segzoo
from segzoo.inference.backends.onnxruntime import ort

RESULTS = Path(__file__).parent / "results"
CLASSES = 21
PACKAGES = (
    "segmentation-zoo",
    "segmentation-models-pytorch",
    "torchvision",
    "timm",
    "torch",
    "onnxruntime-gpu",
    "numpy",
)


@dataclass(frozen=True)
class Comparison:
    """A model of segzoo and its counterpart."""

    name: str
    peer: str
    ours: Callable[[], nn.Module]
    theirs: Callable[[], nn.Module]


@dataclass
class Result:
    """The seconds of each repeat of both sides."""

    comparison: str
    peer: str
    timed: str
    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> float:
        """Their median divided by ours; above 1 if segzoo is faster."""
        return statistics.median(self.theirs) / statistics.median(self.ours)


class _Logits(nn.Module):
    """Returns the logits of a torchvision model, which returns a dictionary."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(image)["out"]
        return logits


COMPARISONS = (
    Comparison(
        "unet/resnet101",
        "smp.Unet",
        lambda: segzoo.create("unet", encoder="resnet101", num_classes=CLASSES),
        lambda: smp.Unet("resnet101", encoder_weights=None, classes=CLASSES),
    ),
    Comparison(
        "fcn/resnet101",
        "torchvision fcn_resnet101",
        lambda: segzoo.create("fcn", encoder="resnet101", num_classes=CLASSES),
        lambda: _Logits(fcn_resnet101(weights=None, weights_backbone=None, num_classes=CLASSES)),
    ),
)


def alternate(
    ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int, warm_up: int
) -> tuple[list[float], ...]:
    """The seconds of `repeats` alternating calls of each side, after `warm_up` calls that are not counted.

    The order of the two sides changes with every repeat.
    """
    samples: tuple[list[float], list[float]] = ([], [])
    for number in range(-warm_up, repeats):
        sides = [(0, ours), (1, theirs)]
        for side, call in sides if number % 2 == 0 else sides[::-1]:
            start = time.perf_counter()
            call()
            seconds = time.perf_counter() - start
            if number >= 0:
                samples[side].append(seconds)
    return samples


def run_comparison(
    comparison: Comparison, args: argparse.Namespace, folder: Path, report: Callable[[str], None]
) -> list[Any]:
    """All three timings of a pair, and the parameters of both sides."""
    report("building")
    results = [
        Result(
            comparison.name,
            comparison.peer,
            "create",
            *alternate(comparison.ours, comparison.theirs, args.creates, warm_up=1),
        )
    ]

    torch.manual_seed(0)
    ours, theirs = comparison.ours().eval(), comparison.theirs().eval()
    image = torch.randn(1, 3, args.size, args.size)

    def forward(model: nn.Module) -> Callable[[], Any]:
        return torch.inference_mode()(lambda: model(image))

    shapes = [tuple(forward(model)().shape) for model in (ours, theirs)]
    assert shapes[0] == shapes[1] == (1, CLASSES, args.size, args.size), shapes
    report("torch, eager")
    samples = alternate(forward(ours), forward(theirs), args.repeats, warm_up=2)
    results.append(Result(comparison.name, comparison.peer, "torch", *samples))

    report("exporting, ours")
    segzoo.export(ours, folder / "ours.onnx", input="tensor")
    report("exporting, theirs")
    export_peer(theirs, folder / "theirs.onnx", args.size)
    sessions = [open_session(folder / f"{side}.onnx", args.threads) for side in ("ours", "theirs")]
    feed = image.numpy()
    runs = [run_session(session, feed) for session in sessions]
    for model, run in zip((ours, theirs), runs, strict=True):
        expected, actual = forward(model)().numpy(), run()
        assert np.abs(actual - expected).max() <= 1e-3 * np.abs(expected).max(), "onnxruntime and torch disagree"
    report("onnxruntime")
    samples = alternate(*runs, repeats=args.repeats, warm_up=2)
    results.append(Result(comparison.name, comparison.peer, "onnxruntime", *samples))
    return [results, [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]]


def export_peer(model: nn.Module, path: Path, size: int) -> None:
    """Exports the peer's model as its user would: with torch's dynamo exporter, dynamic axes, and our opset."""
    axes = {0: "batch", 2: "height", 3: "width"}
    image = torch.randn(2, 3, size, size)
    torch.onnx.export(
        model, (image,), path, dynamo=True, opset_version=18, dynamic_shapes=(axes,), external_data=False, verbose=False
    )


def open_session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_session(session: ort.InferenceSession, feed: Any) -> Callable[[], Any]:
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: feed})[0]


def keep(record: dict[str, Any], output: Path | None, name: str) -> Path:
    """Writes a benchmark's record with its date as JSON; by default to a new file in results/."""
    started = datetime.now(UTC)
    path = output or RESULTS / f"{started:%Y-%m-%dT%H%M%S}-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    dated = {"date": started.isoformat(timespec="seconds"), **record}
    path.write_text(json.dumps(dated, indent=2) + "\n", encoding="utf-8")
    return path


def machine() -> dict[str, Any]:
    """The facts about the machine that timings depend on."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}


def show(results: list[Result], parameters: dict[str, list[int]], facts: dict[str, Any], console: Console) -> None:
    table = Table(title=f"1 x 3 x {facts['size']} x {facts['size']}, {facts['threads']} threads, {facts['cpu']}")
    for title in ("", "timed", "segzoo", "peer", "peer / segzoo"):
        table.add_column(title, justify="left" if title in ("", "timed") else "right")
    for name, counts in parameters.items():
        own = [result for result in results if result.comparison == name]
        notes = [
            f"segzoo {name}",
            f"versus {own[0].peer}",
            f"{counts[0] / 1e6:.1f} M, {counts[1] / 1e6:.1f} M weights",
        ]
        for note, result in zip(notes, own, strict=True):
            ours, theirs = (f"{statistics.median(samples) * 1e3:.0f} ms" for samples in (result.ours, result.theirs))
            table.add_row(note, result.timed, ours, theirs, f"{result.ratio:.2f}")
        table.add_section()
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke test: small images, two repeats")
    parser.add_argument("--repeats", type=int, help="forward passes of each side (15; 2 with --quick)")
    parser.add_argument("--creates", type=int, help="models built by each side (7; 2 with --quick)")
    parser.add_argument("--size", type=int, help="side of the image in pixels (512; 64 with --quick)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="the JSON file (benchmarks/results/DATE.json)")
    args = parser.parse_args()
    for name, full, quick in (("repeats", 15, 2), ("creates", 7, 2), ("size", 512, 64)):
        if getattr(args, name) is None:
            setattr(args, name, quick if args.quick else full)
    torch.set_num_threads(args.threads)

    console = Console()
    results: list[Result] = []
    parameters: dict[str, list[int]] = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress, tempfile.TemporaryDirectory() as folder:
        task = progress.add_task("")
        for comparison in COMPARISONS:

            def report(step: str, name: str = comparison.name) -> None:
                progress.update(task, description=f"{name}: {step}")

            comparison_results, parameters[comparison.name] = run_comparison(comparison, args, Path(folder), report)
            results += comparison_results

    facts = {**machine(), "threads": args.threads, "size": args.size}
    show(results, parameters, facts, console)
    record = {
        **facts,
        "versions": {
            "segzoo": segzoo.__version__,
            "onnxruntime": ort.__version__,  # the package has another name on platforms without a GPU build
            **{name: version(name) for name in PACKAGES},
        },
        "parameters": parameters,
        "results": [{**asdict(result), "ratio": result.ratio} for result in results],
    }
    console.print(f"All samples are in {keep(record, args.output, 'compare-quick' if args.quick else 'compare')}")


if __name__ == "__main__":
    main()
