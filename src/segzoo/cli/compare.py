"""`segzoo compare`: models on the same data, in one table and one plot."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segzoo.cli import console, files, report, types, validators
from segzoo.cli.evaluate import Data, Device, Exclude, Force, Select, Split, load, measured, open_for, write_json
from segzoo.errors import OptionError
from segzoo.formatting import minutes, percent

if TYPE_CHECKING:
    from segzoo.cli.predictors import Predictor
    from segzoo.data.images import Pixels

_RUNS = 10
_FILES = ("comparison.json", "comparison.png")


def compare(
    models: Annotated[list[str], typer.Argument(metavar="MODELS...", help=f"{types.MODEL_OR_ONNX}; several.")],
    root: Annotated[Path, typer.Option("--root", metavar="FOLDER", help="The folder of the data set.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the comparison goes; made if need be.")
    ] = Path("comparison"),
    data: Data = None,
    split: Split = None,
    select: Select = None,
    exclude: Exclude = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Evaluates models on the same images, and sets accuracy, size, training time and latency side by side.

    Latency is the median of one image at a time, of the data's own size, from pixels in memory to labels in memory;
    compare files of one kind, since .onnx files run on onnxruntime and the others on torch. FOLDER gets comparison.png
    and comparison.json; --force replaces those of an earlier comparison.

      segzoo compare fcn.onnx deeplab.onnx unet.onnx --data camvid --root data/camvid
    """
    report.check(output, _FILES, force)
    names = _names(models)
    validators.check_data(root, data)
    located = [files.find(model) for model in models]
    from segzoo.training.plots import Compared, draw_comparison

    rows = []
    for model, name in zip(located, names, strict=True):
        console.note(f"{name}:")
        with console.Steps(lines=False) as step:
            step(f"loading {name}")
            predictor = load(model, device)
            found = open_for(predictor, root, data, split, select, exclude)
        result = measured(predictor, found)
        rows.append(
            Compared(
                name,
                result.matrix.mean_iu,
                result.matrix.pixel_accuracy,
                _parameters(predictor.record),
                _latency(predictor, found[0].image),
                predictor.record["info"].get("trained", {}).get("seconds"),
            )
        )
    record = {"data": result.title, "images": len(result.images), "device": predictor.device}
    with report.written(output, _FILES, force) as draft:
        write_json(record | {"models": [asdict(row) for row in rows]}, draft / "comparison.json")
        draw_comparison(rows, draft / "comparison.png")
    console.title(f"{result.title}: {len(result.images)} images, on {predictor.device}")
    head = ("model", "mean IU", "pixel accuracy", "parameters", "ms", "trained in")
    table = [
        (
            row.name,
            percent(row.mean_iu),
            percent(row.pixel_accuracy),
            f"{row.parameters:,}",
            f"{row.milliseconds:.1f}",
            "?" if row.training_seconds is None else minutes(row.training_seconds),
        )
        for row in sorted(rows, key=lambda row: -row.mean_iu)
    ]
    console.table(head, table, right=range(1, 6))
    console.note(f"Wrote {console.shown(output)}.")


def _names(models: list[str]) -> list[str]:
    """File names without what all of them have; all that was typed where the names are not enough."""
    names = [model if files.placed(model) else Path(model).stem for model in models]
    if len(set(names)) < len(names):
        names = list(models)
    if len(set(names)) < len(names):
        raise OptionError("A model is named twice. Compare different files.")
    return names


def _parameters(record: Mapping[str, Any]) -> int:
    """Numbers that are trained; of an .onnx file too, which holds others: constants, and weights that were fused."""
    import torch

    from segzoo.models.create import count, create

    with torch.device("meta"):
        model = create(
            record["decoder"],
            record["encoder"],
            record["num_classes"],
            in_channels=record["in_channels"],
            output_stride=record["output_stride"],
            **record["options"],
        )
    return count(model)


def _latency(predictor: "Predictor", image: "Pixels") -> float:
    """Milliseconds."""
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        predictor.predict(image)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)
