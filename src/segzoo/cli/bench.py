"""`segzoo bench`: how long an exported file takes, from an image in host memory to labels in host memory."""

import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segzoo.cli import console, files, types
from segzoo.errors import CheckpointError, SegzooError

if TYPE_CHECKING:
    from segzoo.inference import Session

_WARM = 2
"""Runs that are not counted: cuDNN chooses its algorithms, and memory is taken, in the first of a shape."""

_FEWEST = 3


@dataclass(frozen=True)
class Case:
    """What was measured for one size and batch.

    Times are milliseconds of one run of the whole batch. `peak_rss_mb` is of host memory; None where it is not known.
    """

    height: int
    width: int
    batch: int
    runs: int
    p50_ms: float
    p99_ms: float
    images_per_second: float
    peak_rss_mb: float | None


def bench(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="An .onnx file that segzoo wrote, also by hf:// or https://...#sha256=."),
    ],
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES",
            help="Of the images: 512 is a square, 512x1024 is height x width.",
            show_default="256,512,1024, or the file's",
        ),
    ] = None,
    batches: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help="Images of one run.", show_default="1,4, or the file's")
    ] = None,
    device: Annotated[str, typer.Option(metavar=types.DEVICES, help="Where it runs.")] = "auto",
    seconds: Annotated[float, typer.Option(min=0.0, help="For each size and batch; three runs at least.")] = 3.0,
    runs: Annotated[
        int | None,
        typer.Option(min=1, help="So many runs, whatever they take.", show_default="as many as --seconds allow"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of one run.", show_default="every core")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all of it there; a file is replaced.")
    ] = None,
) -> None:
    """Measures latency, throughput and memory of an .onnx file over sizes and batches.

    A run is what a user waits for: from uint8 images in host memory to labels in host memory, copies to a GPU and back
    included (for a file of --io tensor, from normalised floats to logits). Images are noise; two runs of each case warm
    up and are not counted.

      segzoo bench street.onnx
      segzoo bench street.onnx --sizes 512,1024x2048 --batches 1,8 --device cuda
      segzoo bench street.onnx --threads 2 --seconds 10 --json street.json
    """
    asked = types.sizes(sizes, "--sizes") if sizes else None
    counts = types.numbers(batches, "--batches") if batches else None
    located = files.find(model)
    if located.path.suffix.lower() != ".onnx":
        raise CheckpointError(f"{model} is no .onnx file. `segzoo export {model}` writes one.")
    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        raise SegzooError(f"{report} cannot be written: name a file in a folder that exists.")
    cases: list[Case] = []
    failed = 0
    with console.Steps() as step:
        step(f"loading {model}")
        from segzoo.inference import Session

        session = Session(located.path, device, threads=threads)
        shapes = _shapes(session, asked, counts)
        for number, (height, width, batch) in enumerate(shapes, 1):
            step(f"{number}/{len(shapes)}: {batch} x {height} x {width}")
            try:
                cases.append(_measure(session, (batch, height, width), seconds, runs))
            except SegzooError as error:
                step.warn(f"{batch} x {height} x {width} failed: {' '.join(str(error).split())}")
                failed += 1
    console.note(session.why)
    _print(cases)
    console.note(_memory(session.device))
    if report is not None:
        which = {"model": model, "sha256": files.sha256(located.path)}
        facts = which | _facts(session, threads) | {"cases": [asdict(case) for case in cases]}
        report.write_text(json.dumps(facts, indent=2) + "\n")
        console.note(f"Wrote {report}.")
    if failed:
        console.error(f"{failed} of {len(shapes)} cases failed.")
        raise typer.Exit(1)


def _shapes(
    session: "Session", sizes: list[tuple[int, int]] | None, batches: list[int] | None
) -> list[tuple[int, int, int]]:
    """(height, width, batch) of each case, small to large; what the file fixes can only be that."""
    if session.size is not None and sizes not in (None, [session.size]):
        raise SegzooError(f"The file was exported for images of {session.size}: leave --sizes out.")
    if session.batch is not None and batches not in (None, [session.batch]):
        raise SegzooError(f"The file was exported for batches of {session.batch}: leave --batches out.")
    pairs = [session.size] if session.size else sizes or [(256, 256), (512, 512), (1024, 1024)]
    counts = [session.batch] if session.batch else batches or [1, 4]
    cases = {(height, width, batch) for height, width in pairs for batch in counts}
    return sorted(cases, key=lambda case: (case[0] * case[1], case))


def _measure(session: "Session", shape: tuple[int, int, int], seconds: float, runs: int | None) -> Case:
    import numpy as np

    batch, height, width = shape
    noise = np.random.default_rng(0)
    images: Any
    if session.record["io"] == "image":
        images = noise.integers(0, 256, (*shape, session.channels), np.uint8)
        run: Any = session.run
    else:
        images = noise.standard_normal((batch, session.channels, height, width), np.float32)
        run = session.run_tensor
    _reset_peak()
    for _ in range(_WARM):
        run(images)
    times: list[float] = []
    while len(times) < runs if runs else len(times) < _FEWEST or sum(times) < seconds:
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    middle, late = np.percentile(times, (50, 99))
    speed = batch * len(times) / sum(times)
    return Case(height, width, batch, len(times), 1e3 * float(middle), 1e3 * float(late), speed, _peak())


def _print(cases: list[Case]) -> None:
    head = ("size (H x W)", "batch", "p50 ms", "p99 ms", "images/s", "peak RSS MB", "runs")
    rows = [
        (
            f"{case.height} x {case.width}",
            str(case.batch),
            f"{case.p50_ms:.2f}",
            f"{case.p99_ms:.2f}",
            f"{case.images_per_second:.2f}",
            "?" if case.peak_rss_mb is None else f"{case.peak_rss_mb:.0f}",
            str(case.runs),
        )
        for case in cases
    ]
    console.table(head, rows, right=range(1, 7))


def _memory(device: str) -> str:
    """What the column of memory is, and what it is not."""
    text = "Memory is the most of the host's that this process held"
    text += " during the case" if _reset_peak() else " so far"
    text += ", Python, libraries and what earlier cases left with onnxruntime included."
    gpu = " The memory of the GPU is not measured: see nvidia-smi." if device != "cpu" else ""
    return f"{text}{gpu} p99 of fewer than 100 runs is near the slowest."


def _facts(session: "Session", threads: int | None) -> dict[str, Any]:
    import onnxruntime

    from segzoo._version import __version__

    return {
        "io": session.record["io"],
        "precision": session.record.get("precision"),
        "device": session.device,
        "provider": session.provider,
        "why": session.why,
        "threads": threads,
        "machine": platform.platform(),
        "segzoo": __version__,
        "onnxruntime": onnxruntime.__version__,
        "peak_rss_is": "of the case" if _reset_peak() else "of the process so far",
    }


_PROC = Path("/proc/self")


def _reset_peak() -> bool:
    """Lets Linux count the peak anew; whether it could."""
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak() -> float | None:
    """The most memory this process has held, in MB; None on Windows, where the standard library cannot tell."""
    try:
        lines = (_PROC / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    if sys.platform == "win32":
        return None
    import resource

    # Kilobytes, and bytes on macOS.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
