"""`segzoo evaluate`: measures a model on images with ground truth."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segzoo import formatting
from segzoo._io import atomic_write
from segzoo.cli import console, files, report, types
from segzoo.cli.predict import save_picture
from segzoo.errors import SegzooError
from segzoo.weights.resolve import Located

if TYPE_CHECKING:
    from segzoo.data.dataset import SegmentationData
    from segzoo.inference import Predictor
    from segzoo.training.evaluate import Evaluation

Data = Annotated[
    str | None,
    typer.Option(
        metavar=types.DATA_SETS,
        help="The data set's name; folder is your own data.",
        show_default="the model's training data, or folder",
    ),
]
Split = Annotated[
    str | None, typer.Option(help="The split, such as val or test.", show_default="val, or the first split")
]
Select = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Use only images whose name matches, such as '0001TP*'; repeatable."),
]
Exclude = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Skip images whose name matches; repeatable.")
]
Device = Annotated[str, typer.Option(metavar=types.DEVICES, help="The device to run on.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an earlier report in FOLDER.")]


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"The model: {types.MODEL_OR_ONNX}.")],
    root: Annotated[Path, typer.Argument(metavar="DATA", help="The folder of the data set.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="The folder for the report; created if it does not exist."
        ),
    ] = Path("evaluation"),
    data: Data = None,
    split: Split = None,
    select: Select = None,
    exclude: Exclude = None,
    worst: Annotated[int, typer.Option(min=0, help="Number of worst images to draw.")] = 8,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Evaluate a model on images with ground truth, and write a report.

    The report is evaluation.json (metrics overall, per class and per image), confusion.png, and worst/, which shows the
    images with the lowest mean IoU next to ground truth and prediction. --force replaces an earlier report and keeps
    other files in FOLDER. A checkpoint and the .onnx file exported from it score the same.

    Examples:

      segzoo evaluate street.safetensors data/camvid --data camvid
      segzoo evaluate street.onnx data/camvid --data camvid --split train --select '0001TP*' -o dusk/
      segzoo evaluate pets.onnx mydata -o report/ --worst 20
      segzoo evaluate hf://jane/street data/camvid --data camvid
    """
    names = (report.EVALUATION, report.CONFUSION)
    report.check_report(output, names, force)
    located = files.find(model)
    with console.Steps(lines=False) as step:
        step(f"loading {model}")
        predictor = load_predictor(located, device)
        dataset = open_data_for(predictor, root, data, split, select, exclude)
    console.note(predictor.device_reason)
    result = run_evaluation(predictor, dataset)
    from segzoo.training.plots import draw_confusion, side_by_side

    record = {"model": model, "sha256": files.sha256(located.path), **result.to_dict()}
    indices = {item.name: index for index, item in enumerate(dataset.items)}
    with report.atomic_report(output, names, force) as draft:
        write_json(record, draft / report.EVALUATION)
        draw_confusion(result.matrix, result.classes, draft / report.CONFUSION)
        (draft / report.WORST).mkdir()
        for rank, item in enumerate(result.worst(worst), 1):
            image, mask, name = dataset[indices[item.name]]
            picture = side_by_side(image, mask, predictor.predict(image).mask, result.classes)
            save_picture(picture, draft / report.picture_path(rank, name))
    _print(result)
    console.note(f"Wrote {console.display_path(output)}.")


def load_predictor(model: Located, device: str) -> "Predictor":
    """Loads a model for RGB images onto a device.

    Raises:
        SegzooError: the model does not take RGB images; see also `Predictor`.
    """
    from segzoo.inference import Predictor

    predictor = Predictor(model, device)
    channels = predictor.spec.in_channels
    if channels != 3:
        raise SegzooError(f"{model.name} takes images with {channels} channels, but data sets hold RGB images.")
    return predictor


def open_data_for(
    predictor: "Predictor",
    root: Path,
    data: str | None,
    split: str | None,
    select: list[str] | None,
    exclude: list[str] | None,
) -> "SegmentationData":
    """Opens the data to evaluate on. An omitted name comes from the model's recipe; an omitted split is "val".

    Raises:
        DataError: the data is missing, or its classes differ from the model's.
        UnknownNameError: there is no such data set or split.
    """
    from segzoo.data.datasets import READERS, open_data
    from segzoo.training.evaluate import check_classes

    if data is None:
        recipe = predictor.spec.info.get("recipe")  # a URL if others trained the model
        data = recipe["data"]["name"] if isinstance(recipe, dict) else "folder"
    if split is None:
        splits = READERS[data].splits if data in READERS else ()
        split = "val" if "val" in splits or (root / "val").is_dir() else None
    dataset = open_data(data, root, split, select=select or (), exclude=exclude or ())
    check_classes(predictor.classes, dataset)
    return dataset


def run_evaluation(predictor: "Predictor", data: "SegmentationData") -> "Evaluation":
    """Evaluates a model with a progress bar."""
    from segzoo.training.evaluate import evaluate

    with console.Bar(len(data)) as bar:
        return evaluate(predictor, data, lambda done, total: bar.advance())


def write_json(record: dict[str, Any], path: Path) -> None:
    """Writes a JSON file atomically."""
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _print(result: "Evaluation") -> None:
    record = result.to_dict()
    console.title(f"{result.title}: {len(result.images)} images")
    metrics = ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "mean_dice")
    shown = (*metrics, *result.own_metrics())
    console.key_values([(formatting.name(key), formatting.percent(record[key])) for key in shown])
    console.line()
    rows = [
        (row["name"], formatting.percent(row["iou"]), formatting.percent(row["accuracy"]), f"{row['pixels']:,}")
        for row in record["classes"]
    ]
    console.table(("class", "IoU", "accuracy", "pixels"), rows, right=(1, 2, 3))
