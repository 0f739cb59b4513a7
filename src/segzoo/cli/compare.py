"""`segzoo compare`: several models on the same data, in one table and one plot."""

import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segzoo.cli import console, files, report, types, validators
from segzoo.cli.evaluate import (
    Data,
    Device,
    Exclude,
    Force,
    Select,
    Split,
    load_predictor,
    open_data_for,
    run_evaluation,
    write_json,
)
from segzoo.errors import OptionError
from segzoo.formatting import minutes, percent
from segzoo.spec import ModelSpec

if TYPE_CHECKING:
    from segzoo.data.images import Pixels
    from segzoo.inference import Predictor

_RUNS = 10
_FILES = ("comparison.json", "comparison.png")


def compare(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help=f"The models, each {types.MODEL_OR_ONNX}.")],
    root: Annotated[Path, typer.Option("--root", metavar="FOLDER", help="The folder of the data set.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="The folder for the results; created if it does not exist."
        ),
    ] = Path("comparison"),
    data: Data = None,
    split: Split = None,
    select: Select = None,
    exclude: Exclude = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Compare the accuracy, size, training time and latency of several models.

    All models are evaluated on the same images. Latency is the median for one image of the data set at its own size,
    from pixels in memory to a mask in memory. .onnx files run on onnxruntime and others on torch, so compare files of
    the same format. The results are comparison.png and comparison.json in FOLDER.

    Examples:

      segzoo compare fcn.onnx deeplab.onnx unet.onnx --data camvid --root data/camvid
    """
    report.check_report(output, _FILES, force)
    names = _names(models)
    validators.check_data(root, data)
    located = [files.find(model) for model in models]
    from segzoo.training.plots import Compared, draw_comparison

    rows = []
    for model, name in zip(located, names, strict=True):
        console.note(f"{name}:")
        with console.Steps(lines=False) as step:
            step(f"loading {name}")
            predictor = load_predictor(model, device)
            dataset = open_data_for(predictor, root, data, split, select, exclude)
        result = run_evaluation(predictor, dataset)
        rows.append(
            Compared(
                name,
                result.matrix.mean_iou,
                result.matrix.pixel_accuracy,
                _parameters(predictor.spec),
                _latency(predictor, dataset[0].image),
                predictor.spec.info.get("trained", {}).get("seconds"),
            )
        )
    record = {"data": result.title, "images": len(result.images), "device": predictor.device}
    with report.atomic_report(output, _FILES, force) as draft:
        write_json(record | {"models": [asdict(row) for row in rows]}, draft / "comparison.json")
        draw_comparison(rows, draft / "comparison.png")
    console.title(f"{result.title}: {len(result.images)} images, on {predictor.device}")
    header = ("model", "mean IoU", "pixel accuracy", "parameters", "latency (ms)", "trained in")
    table = [
        (
            row.name,
            percent(row.mean_iou),
            percent(row.pixel_accuracy),
            f"{row.parameters:,}",
            f"{row.milliseconds:.1f}",
            "?" if row.training_seconds is None else minutes(row.training_seconds),
        )
        for row in sorted(rows, key=lambda row: -row.mean_iou)
    ]
    console.table(header, table, right=range(1, 6))
    console.note(f"Wrote {console.display_path(output)}.")


def _names(models: list[str]) -> list[str]:
    """A short unique name for each model: the stem of its file name, or all that was typed if stems repeat."""
    names = [model if files.is_key_or_url(model) else Path(model).stem for model in models]
    if len(set(names)) < len(names):
        names = list(models)
    if len(set(names)) < len(names):
        raise OptionError("A model is listed twice. Compare different files.")
    return names


def _parameters(spec: ModelSpec) -> int:
    """The model's parameter count. That of an .onnx graph would differ: it holds constants and fused weights."""
    import torch

    from segzoo.models.build import build
    from segzoo.models.parameters import count_parameters

    with torch.device("meta"):
        return count_parameters(build(spec, measure=False))


def _latency(predictor: "Predictor", image: "Pixels") -> float:
    """Median milliseconds per image."""
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        predictor.predict(image)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)
