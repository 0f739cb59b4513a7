"""`segzoo evaluate`: how good a model is on data that it has not seen."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segzoo import formatting
from segzoo._io import written_aside
from segzoo.cli import console, files, report, types
from segzoo.cli.predict import save_picture
from segzoo.errors import SegzooError
from segzoo.weights.resolve import Located

if TYPE_CHECKING:
    from segzoo.cli.predictors import Predictor
    from segzoo.data.dataset import SegmentationData
    from segzoo.training.evaluate import Evaluation

Data = Annotated[
    str | None,
    typer.Option(
        metavar=types.DATA_SETS, help="Which data set it is.", show_default="what the model was trained on, or folder"
    ),
]
Split = Annotated[str | None, typer.Option(help="Such as val or test.", show_default="val, or the data set's first")]
Select = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Names to take, such as '0001TP*'; may be repeated.")
]
Exclude = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Names to leave out; may be repeated.")]
Device = Annotated[str, typer.Option(metavar=types.DEVICES, help="Where it runs.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the report in FOLDER, if there is one.")]


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"{types.MODEL_OR_ONNX}.")],
    root: Annotated[Path, typer.Argument(metavar="DATA", help="The folder of a data set.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the report goes; it is made if need be.")
    ] = Path("evaluation"),
    data: Data = None,
    split: Split = None,
    select: Select = None,
    exclude: Exclude = None,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst images to write.")] = 8,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Counts what a model gets right on images with masks, and writes a report.

    FOLDER gets evaluation.json (all figures, of each class and each image), confusion.png, and in worst/ the images of
    the lowest mean IU: photograph, truth, prediction. --force replaces these, and leaves all else in FOLDER as it is. A
    checkpoint and the .onnx file exported from it have the same figures.

      segzoo evaluate street.safetensors data/camvid --data camvid
      segzoo evaluate street.onnx data/camvid --data camvid --split train --select '0001TP*' -o dusk/
      segzoo evaluate pets.onnx mydata -o report/ --worst 20
      segzoo evaluate hf://jane/street data/camvid --data camvid
    """
    names = (report.EVALUATION, report.CONFUSION)
    report.check(output, names, force)
    located = files.find(model)
    with console.Steps(lines=False) as step:
        step(f"loading {model}")
        predictor = load(located, device)
        found = open_for(predictor, root, data, split, select, exclude)
    console.note(predictor.why)
    result = measured(predictor, found)
    from segzoo.training.plots import beside, draw_confusion

    record = {"model": model, "sha256": files.sha256(located.path), **result.to_dict()}
    places = {item.name: index for index, item in enumerate(found.items)}
    with report.written(output, names, force) as draft:
        write_json(record, draft / report.EVALUATION)
        draw_confusion(result.matrix, result.labels, draft / report.CONFUSION)
        (draft / report.WORST).mkdir()
        for place, one in enumerate(result.worst(worst), 1):
            image, mask, name = found[places[one.name]]
            picture = beside(image, mask, predictor.predict(image), result.labels)
            save_picture(picture, draft / report.picture(place, name))
    _print(result)
    console.note(f"Wrote {console.shown(output)}.")


def load(model: Located, device: str) -> "Predictor":
    """The model on its device.

    Raises:
        SegzooError: it takes no photographs; or see `open_model`.
    """
    from segzoo.cli.predictors import How, open_model

    predictor = open_model(model, device, How())
    if predictor.channels != 3:
        raise SegzooError(f"{model.name} takes images of {predictor.channels} channels; data sets have RGB images.")
    return predictor


def open_for(
    predictor: "Predictor",
    root: Path,
    data: str | None,
    split: str | None,
    select: list[str] | None,
    exclude: list[str] | None,
) -> "SegmentationData":
    """The data that the command line names; what it does not say is taken from the model's recipe.

    Raises:
        DataError: it is not there, or has other classes than the model.
        UnknownNameError: no such data set or split.
    """
    from segzoo.data.datasets import READERS, open_data
    from segzoo.training.evaluate import check_classes

    if data is None:
        recipe = predictor.record["info"].get("recipe")  # of a file of others, a URL
        data = recipe["data"]["name"] if isinstance(recipe, dict) else "folder"
    if split is None:
        splits = READERS[data].splits if data in READERS else ()
        split = "val" if "val" in splits or (root / "val").is_dir() else None
    found = open_data(data, root, split, select=select or (), exclude=exclude or ())
    check_classes(predictor.labels, found)
    return found


def measured(predictor: "Predictor", data: "SegmentationData") -> "Evaluation":
    """The figures, with a bar while they are made."""
    from segzoo.training.evaluate import evaluate

    with console.Bar(len(data)) as bar:
        return evaluate(predictor, data, lambda done, total: bar.advance())


def write_json(record: dict[str, Any], path: Path) -> None:
    """Writes it whole or not at all."""
    with written_aside(path) as draft:
        draft.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _print(result: "Evaluation") -> None:
    record = result.to_dict()
    console.title(f"{result.title}: {len(result.images)} images")
    shown = ("mean_iu", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iu", "mean_dice")
    console.facts([(formatting.name(key), formatting.percent(record[key])) for key in shown])
    console.line()
    rows = [
        (one["name"], formatting.percent(one["iu"]), formatting.percent(one["accuracy"]), f"{one['pixels']:,}")
        for one in record["classes"]
    ]
    console.table(("class", "IU", "accuracy", "pixels"), rows, right=(1, 2, 3))
