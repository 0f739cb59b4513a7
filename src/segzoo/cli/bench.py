"""`segzoo bench`: latency and throughput of an exported file, from images in host memory to masks in host memory."""

import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segzoo._io import atomic_write
from segzoo.cli import console, files, types
from segzoo.errors import CheckpointError, SegzooError

if TYPE_CHECKING:
    from segzoo.inference import OnnxBackend

_WARMUP_RUNS = 2
"""Runs before the measurement: the first run of a shape selects cuDNN algorithms and allocates memory."""

_MIN_RUNS = 3


@dataclass(frozen=True)
class Case:
    """The measurements for one image size and batch size.

    Times are milliseconds for one run of the whole batch. `peak_rss_mb` is host memory, None if unknown.
    """

    height: int
    width: int
    batch_size: int
    runs: int
    p50_ms: float
    p99_ms: float
    images_per_second: float
    peak_rss_mb: float | None


def bench(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An .onnx file that segzoo wrote: a path, hf://owner/repo/FILE or https://...#sha256=...; or the key "
            "of a model that ships as one.",
        ),
    ],
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES",
            help="Image sizes, such as 512 for a square or 512x1024 for height x width.",
            show_default="256,512,1024, or the file's static shape",
        ),
    ] = None,
    batch_sizes: Annotated[
        str | None,
        typer.Option(metavar="NUMBERS", help="Images per run.", show_default="1,4, or the file's static shape"),
    ] = None,
    device: Annotated[str, typer.Option(metavar=types.DEVICES, help="The device to run on.")] = "auto",
    seconds: Annotated[float, typer.Option(min=0.0, help="Measuring time per case; at least three runs.")] = 3.0,
    runs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs per case, instead of --seconds.", show_default="as many as fit into --seconds"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads per run.", show_default="one per core")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Also write the results to this JSON file; replaced if it exists."),
    ] = None,
) -> None:
    """Measure latency, throughput and memory of an .onnx file.

    A run goes from uint8 images in host memory to masks in host memory, including copies to a GPU and back (for files
    exported with --input tensor, from normalized floats to logits). Images are noise. Each case starts with two warm-up
    runs that are not counted.

    Examples:

      segzoo bench street.onnx
      segzoo bench street.onnx --sizes 512,1024x2048 --batch-sizes 1,8 --device cuda
      segzoo bench street.onnx --threads 2 --seconds 10 --json street.json
    """
    size_list = types.parse_sizes(sizes, "--sizes") if sizes else None
    batch_list = types.parse_counts(batch_sizes, "--batch-sizes") if batch_sizes else None
    located = files.find(model, exported=True)
    if located.path.suffix.lower() != ".onnx":
        raise CheckpointError(f"{model} is not an .onnx file. `segzoo export {model}` writes one.")
    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        raise SegzooError(f"Cannot write {report}. Name a file in an existing folder.")
    cases: list[Case] = []
    failed = 0
    with console.Steps() as step:
        step(f"loading {model}")
        from segzoo.inference import EngineOptions, OnnxBackend

        backend = OnnxBackend(located.path, device, EngineOptions(threads=threads))
        shapes = _shapes(backend, size_list, batch_list)
        for number, (height, width, batch_size) in enumerate(shapes, 1):
            shape = f"{batch_size} x {height} x {width}"
            step(f"{number}/{len(shapes)}: {shape}")
            try:
                cases.append(_measure(backend, (batch_size, height, width), seconds, runs))
            except SegzooError as error:
                step.warn(f"{shape} failed: {' '.join(str(error).split())}")
                failed += 1
    console.note(backend.device_reason)
    _print(cases)
    console.note(_memory_note(backend.device))
    if report is not None:
        record = {"model": model, "sha256": files.sha256(located.path), **_environment(backend, threads)}
        record["cases"] = [asdict(case) for case in cases]
        with atomic_write(report) as draft:
            draft.write_text(json.dumps(record, indent=2) + "\n")
        console.note(f"Wrote {report}.")
    if failed:
        console.error(f"{failed} of {len(shapes)} cases failed.")
        raise typer.Exit(1)


def _shapes(
    backend: "OnnxBackend", sizes: list[tuple[int, int]] | None, batch_sizes: list[int] | None
) -> list[tuple[int, int, int]]:
    """(height, width, batch size) of each case, small to large; a static shape allows no other."""
    batch, height, width = backend.static_shape
    size = (height, width) if height is not None and width is not None else None
    if size is not None and sizes not in (None, [size]):
        raise SegzooError(f"The file was exported for images of {height} x {width} only. Omit --sizes.")
    if batch is not None and batch_sizes not in (None, [batch]):
        raise SegzooError(f"The file was exported for batches of {batch} only. Omit --batch-sizes.")
    pairs = [size] if size else sizes or [(256, 256), (512, 512), (1024, 1024)]
    counts = [batch] if batch else batch_sizes or [1, 4]
    cases = {(height, width, count) for height, width in pairs for count in counts}
    return sorted(cases, key=lambda case: (case[0] * case[1], case))


def _measure(backend: "OnnxBackend", shape: tuple[int, int, int], seconds: float, runs: int | None) -> Case:
    import numpy as np

    batch_size, height, width = shape
    noise = np.random.default_rng(0)
    images: Any
    if backend.export.input == "image":
        images = noise.integers(0, 256, (*shape, backend.spec.in_channels), np.uint8)
        run: Any = backend.run
    else:
        images = noise.standard_normal((batch_size, backend.spec.in_channels, height, width), np.float32)
        run = backend.run_tensor
    _reset_peak()
    for _ in range(_WARMUP_RUNS):
        run(images)
    times: list[float] = []
    while len(times) < runs if runs else len(times) < _MIN_RUNS or sum(times) < seconds:
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    p50, p99 = np.percentile(times, (50, 99))
    throughput = batch_size * len(times) / sum(times)
    return Case(height, width, batch_size, len(times), 1e3 * float(p50), 1e3 * float(p99), throughput, _peak_rss_mb())


def _print(cases: list[Case]) -> None:
    header = ("size (H x W)", "batch", "p50 ms", "p99 ms", "images/s", "peak RSS MB", "runs")
    rows = [
        (
            f"{case.height} x {case.width}",
            str(case.batch_size),
            f"{case.p50_ms:.2f}",
            f"{case.p99_ms:.2f}",
            f"{case.images_per_second:.2f}",
            "?" if case.peak_rss_mb is None else f"{case.peak_rss_mb:.0f}",
            str(case.runs),
        )
        for case in cases
    ]
    console.table(header, rows, right=range(1, 7))


def _memory_note(device: str) -> str:
    """What the memory column covers."""
    period = "the case" if _reset_peak() else "all cases so far"
    gpu = " GPU memory is not measured; see nvidia-smi." if device != "cpu" else ""
    return (
        f"Peak RSS is this process's host memory during {period}, including Python, libraries, and what onnxruntime "
        f"kept from earlier cases.{gpu} With fewer than 100 runs, p99 is close to the slowest run."
    )


def _environment(backend: "OnnxBackend", threads: int | None) -> dict[str, Any]:
    from segzoo._version import __version__
    from segzoo.inference.backends.onnxruntime import ort

    return {
        "input": backend.export.input,
        "precision": backend.export.precision,
        "device": backend.device,
        "provider": backend.provider,
        "device_reason": backend.device_reason,
        "threads": threads,
        "machine": platform.platform(),
        "segzoo": __version__,
        "onnxruntime": ort.__version__,
        "peak_rss_scope": "case" if _reset_peak() else "process so far",
    }


_PROC = Path("/proc/self")


def _reset_peak() -> bool:
    """Resets the peak memory counter, which only Linux allows; returns whether it did."""
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_rss_mb() -> float | None:
    """Peak resident memory of this process in MB; None on Windows, where the standard library cannot measure it."""
    try:
        lines = (_PROC / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    if sys.platform == "win32":
        return None
    import resource

    # In kilobytes; on macOS, in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
