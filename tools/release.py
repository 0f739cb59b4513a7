"""Turns a finished run into a released model: `nox -s release -- runs/default --data ../shared/camvid`.

It writes to this repository:

    src/segzoo/weights/packaged/NAME.safetensors  kernels as float16; with --to repository, weights/NAME.safetensors
    src/segzoo/weights/packaged/NAME.onnx         the same as one .onnx file, unless with --to repository
    src/segzoo/training/recipes/NAME.toml         the recipe of the run, unless an equivalent one exists; the recipe of
                                                  a run it started from is NAME_first.toml
    docs/images/curves/NAME.png                   loss, mean IoU and accuracy over epochs
    src/segzoo/weights/catalog.toml               the entry: metrics, sha256, size; written last, if everything succeeds

All metrics are measured on the released file: on its float16 weights, over all images of the split, and on the .onnx
file exported from it. If float16 changes the class of more than 0.1 % of the pixels, the file is not released; use
--float32 then.
"""

import argparse
import datetime
import hashlib
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit
import torch

import segzoo
from published_recipe import ORDINALS, check_recipe
from run_chain import SUMMED, FinishedRun, holdout_of, join_logs, read_chain
from segzoo._io import atomic_write
from segzoo.classes import CLASS_SETS
from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets import open_data
from segzoo.errors import SegzooError
from segzoo.inference import EngineOptions, OnnxBackend
from segzoo.inference.backends.onnxruntime import ort
from segzoo.metrics import ConfusionMatrix
from segzoo.models.base import SegmentationModel
from segzoo.models.decoders import DECODERS
from segzoo.models.parameters import count_parameters
from segzoo.training.curves import draw_curves
from segzoo.training.evaluate import evaluate
from segzoo.training.recipe import Recipe
from segzoo.weights import catalog

ROOT = Path(__file__).parents[1]
MAX_CHANGE = 0.001
"""The share of pixels whose class float16 may change."""

MAX_GRAPH = 16_000_000
"""Bytes of an .onnx file in the package."""

MAX_SIZE = {"package": 8_000_000, "repository": 60_000_000}
"""In bytes: of each file in the package, and of all files in the repository together."""

RUNS = 30


@dataclass(frozen=True)
class ReleaseConfig:
    """The options of a release.

    Attributes:
        run: the folder of a finished run.
        data: the folder of its data set.
        holdout_runs: folders of runs with the same recipe that held out a part of the training data.
        source: "package" or "repository", as `Entry.source`.
        checkpoint: "last" or "best". The best one was chosen on the held-out images, so metrics on them are optimistic.
        tag: the last part of the key; None for the name of the data set.
        split: the split to measure on.
        threads: of onnxruntime and torch.
        half: store kernels as float16.
        force: replace an existing entry, and a recipe that differs.
        root: the repository to write to.
    """

    run: Path
    data: Path
    holdout_runs: tuple[Path, ...] = ()
    source: str = "package"
    checkpoint: str = "last"
    tag: str | None = None
    split: str = "val"
    license: str = "Apache-2.0, as segzoo; terms of the training data may apply"
    threads: int = 2
    half: bool = True
    force: bool = False
    root: Path = ROOT

    @property
    def catalog(self) -> Path:
        return self.root / "src/segzoo/weights/catalog.toml"

    def weights(self, source: str) -> Path:
        return self.root / ("src/segzoo/weights/packaged" if source == "package" else "weights")


class RecordingModel:
    """A model that stores its predictions."""

    def __init__(self, model: SegmentationModel) -> None:
        self.classes = model.classes
        self.masks: list[np.ndarray] = []
        self._model = model

    def predict(self, image: np.ndarray) -> np.ndarray:
        self.masks.append(self._model.predict(image).mask)
        return self.masks[-1]


def release(options: ReleaseConfig) -> catalog.Entry:
    """Measures the model, writes all files, and returns the new entry of the catalog.

    Raises:
        SegzooError: the run cannot be released; the catalog is unchanged.
    """
    torch.set_num_threads(options.threads)
    path = options.run / f"{options.checkpoint}.safetensors"
    model, runs = segzoo.load(path), read_chain(options.run, options.checkpoint)
    recipe = runs[-1].recipe
    name = recipe.data.name
    if name not in CLASS_SETS or model.classes != CLASS_SETS[name]:
        raise SegzooError(
            f"The catalog needs a model with one of the class sets {', '.join(CLASS_SETS)}; {options.run} has another."
        )
    spec = model.spec
    key = f"{spec.decoder}/{spec.encoder}/{options.tag or name}"
    slug = key.replace("/", "-")
    document = tomlkit.parse(options.catalog.read_text(encoding="utf-8"))
    if key in document and not options.force:
        raise SegzooError(f"{key} is in the catalog already. Pass --force to replace it, or --tag for another key.")
    stem = slug.replace("-", "_").replace(".", "_").lower()
    trained = spec.info["trained"]
    before = {column: sum(type(trained[column])(run.log[-1][column]) for run in runs[:-1]) for column in SUMMED}
    trained = {**trained, **{column: trained[column] + value for column, value in before.items()}}
    stems = [f"{stem}_{ordinal}" for ordinal in ORDINALS[: len(runs) - 1]] + [stem]
    paths = [options.root / "src/segzoo/training/recipes" / f"{recipe_stem}.toml" for recipe_stem in stems]
    new_recipes = {path: check_recipe(run.recipe, path, options.force) for path, run in zip(paths, runs, strict=True)}
    data = open_data(name, options.data, options.split)
    holdout_metrics = dict(measure_holdout(run, runs, options.data) for run in options.holdout_runs)

    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder, f"{slug}.safetensors")
        stored = segzoo.load(segzoo.save(model, draft, half=options.half))
        recording = RecordingModel(stored)
        metrics = catalog_metrics(evaluate(recording, data).matrix)
        changed = 1 - pixel_agreement(model, data, recording.masks)
        if changed > MAX_CHANGE:
            raise SegzooError(
                f"float16 changes the class of {changed:.3%} of the pixels, more than 0.1 %. Pass --float32."
            )
        runtime = measure_runtime(stored, data, recording.masks, Path(folder, f"{slug}.onnx"), options.threads)
        facts = {
            "license": options.license,
            "paper": DECODERS[spec.decoder].paper,
            "date": datetime.datetime.now(datetime.UTC).date(),
            "data": describe_training(trained, [run.recipe for run in runs]),
            "metrics": metrics,
        }
        split = f"{data.title}, {len(data)} images"
        info = facts | {"key": key, "date": str(facts["date"]), "metrics_on": split, "metrics_by": "segzoo"}
        stored.spec = stored.with_info(recipe=recipe.to_dict(), trained=trained, **info).spec.portable()
        content = segzoo.save(stored, draft, half=options.half).read_bytes()
        graph = export_packaged(stored, Path(folder, f"{slug}.onnx")) if options.source == "package" else None

    entry = {
        "format": "segzoo",
        "file": f"{slug}.safetensors",
        "source": options.source,
        "urls": [],
        "sha256": hashlib.sha256(content).hexdigest(),
        "sha256_source": "segzoo",
        "size": len(content),
        "build": create_options(model),
        "classes": name,
        "mean": list(spec.mean),
        "std": list(spec.std),
        "input_size": input_size(recipe, data),
        "split": split,
        "metrics_by": "segzoo",
        "params": count_parameters(model),
        "recipe": stem,
        **facts,
        "holdout_metrics": holdout_metrics,
        "runtime": runtime,
        **({"storage_changes": round(changed, 7)} if options.half else {}),
        **({} if graph is None else {"exported": describe_file(f"{slug}.onnx", graph)}),
    }
    document[key] = as_table(entry)
    text = tomlkit.dumps(document)
    entries = catalog.read(text)
    check_sizes(entries.values())

    write(options.weights(options.source) / entry["file"], content)
    packaged_graph = options.weights("package") / f"{slug}.onnx"
    if graph is None:
        packaged_graph.unlink(missing_ok=True)
    else:
        write(packaged_graph, graph)
    curves = options.root / "docs/images/curves" / f"{slug}.png"
    curves.parent.mkdir(parents=True, exist_ok=True)
    draw_curves(join_logs(runs), curves)
    for path, new_recipe in new_recipes.items():
        if new_recipe is not None:
            write(path, new_recipe.encode())
    write(options.catalog, text.encode())
    other_source = "repository" if options.source == "package" else "package"
    (options.weights(other_source) / entry["file"]).unlink(missing_ok=True)
    return entries[key]


def measure_holdout(run: Path, reference: Sequence[FinishedRun], root: Path) -> tuple[str, dict[str, float]]:
    """The name of the part of the training data that a run held out, and the metrics of the run there."""
    name, held_out = holdout_of(read_chain(run), reference, root)
    return name, catalog_metrics(evaluate(segzoo.load(run / "last.safetensors"), held_out).matrix)


def catalog_metrics(matrix: ConfusionMatrix) -> dict[str, float]:
    """The metrics of a catalog entry, rounded to a hundredth of a percent."""
    values = (matrix.mean_iou, matrix.pixel_accuracy, matrix.mean_accuracy, matrix.frequency_weighted_iou)
    return {name: round(value, 4) for name, value in zip(catalog.METRICS, values, strict=True)}


def pixel_agreement(model: Any, data: SegmentationData, masks: Sequence[np.ndarray]) -> float:
    """The share of pixels for which a model predicts the classes in `masks`."""
    equal = sum(int((model.predict(sample.image).mask == mask).sum()) for sample, mask in zip(data, masks, strict=True))
    return equal / sum(mask.size for mask in masks)


def measure_runtime(
    model: SegmentationModel, data: SegmentationData, masks: Sequence[np.ndarray], path: Path, threads: int
) -> dict[str, Any]:
    """The values of `Entry.runtime`."""
    exported = segzoo.export(model, path)
    backend = OnnxBackend(path, "cpu", EngineOptions(threads=threads))
    image = data[0].image[None]
    times = []
    for number in range(-3, RUNS):
        start = time.perf_counter()
        backend.run(image)
        if number >= 0:
            times.append(time.perf_counter() - start)
    return {
        "milliseconds": round(1e3 * statistics.median(times), 2),
        "height": image.shape[1],
        "width": image.shape[2],
        "threads": threads,
        "cpu": cpu(),
        "onnxruntime": ort.__version__,
        "logits_difference": float(f"{exported.verification.logits_difference:.2g}"),
        "pixel_agreement": round(pixel_agreement(segzoo.Predictor(backend), data, masks), 7),
    }


def export_packaged(model: SegmentationModel, path: Path) -> bytes:
    """The .onnx file of a model that ships in the package.

    Raises:
        SegzooError: it is too large.
    """
    segzoo.export(model, path)
    content = path.read_bytes()
    if len(content) > MAX_GRAPH:
        raise SegzooError(f"An .onnx file in the package may have up to 16 MB; this one has {len(content):,} bytes.")
    return content


def describe_file(name: str, content: bytes) -> dict[str, Any]:
    """The values of `Entry.exported`."""
    return {"file": name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def cpu() -> str:
    """The model name of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def describe_training(trained: Mapping[str, Any], recipes: Sequence[Recipe]) -> str:
    """The training data, the initial weights and the number of runs; `recipes` are those of the runs, in order."""
    encoder_weights = recipes[0].model.encoder_weights
    start = f"from an encoder of {encoder_weights}" if encoder_weights else "from random weights"
    runs = f" in {len(recipes)} runs" if len(recipes) > 1 else ""
    return f"{trained['data']}, {trained['images']} images, {start}{runs}"


def create_options(model: SegmentationModel) -> dict[str, Any]:
    """The arguments of `segzoo.create` besides decoder, encoder and classes."""
    spec = model.spec
    options = dict(spec.options)
    if spec.output_stride != DECODERS[spec.decoder].output_strides[0]:
        options["output_stride"] = spec.output_stride
    return options


def input_size(recipe: Recipe, data: SegmentationData) -> list[int]:
    """Height and width during training: of the crop, or of the images."""
    crops = [step for step in recipe.augmentation if step["name"] == "crop"]
    return [crops[-1]["height"], crops[-1]["width"]] if crops else list(data[0].mask.shape)


def check_sizes(entries: Any) -> None:
    """Raises SegzooError if the wheel or the repository would become too large."""
    sizes = {source: [entry.size for entry in entries if entry.source == source] for source in MAX_SIZE}
    if max(sizes["package"], default=0) > MAX_SIZE["package"] or sum(sizes["repository"]) > MAX_SIZE["repository"]:
        raise SegzooError(
            f"A file in the package may have up to 8 MB, all in the repository up to 60 MB; they have {sizes} bytes."
        )


def as_table(entry: Mapping[str, Any]) -> Any:
    """An entry as a TOML table with inline subtables."""
    table = tomlkit.table()
    for field in fields(catalog.Entry):
        if field.name in entry:
            table.add(field.name, _inline(entry[field.name]))
    return table


def _inline(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    table = tomlkit.inline_table()
    for name, element in value.items():
        table.append(name, _inline(element))
    return table


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as draft:
        draft.write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the folder of the data set")
    parser.add_argument(
        "--holdout-runs", type=Path, nargs="+", default=(), metavar="RUN", help="runs that held out a part of the data"
    )
    parser.add_argument(
        "--to", dest="source", choices=tuple(MAX_SIZE), default=ReleaseConfig.source, help="(%(default)s)"
    )
    parser.add_argument(
        "--checkpoint", choices=("last", "best"), default=ReleaseConfig.checkpoint, help="(%(default)s)"
    )
    parser.add_argument("--tag", help="the last part of the key (default: the name of the data set)")
    parser.add_argument("--split", default=ReleaseConfig.split, help="the split to measure on (%(default)s)")
    parser.add_argument("--license", default=ReleaseConfig.license, help="of the weights (%(default)s)")
    parser.add_argument(
        "--threads", type=int, default=ReleaseConfig.threads, help="of onnxruntime and torch (%(default)s)"
    )
    parser.add_argument("--float32", dest="half", action="store_false", help="store float32 weights, twice as large")
    parser.add_argument("--force", action="store_true", help="replace an existing entry, and a recipe that differs")
    args = vars(parser.parse_args())
    try:
        entry = release(ReleaseConfig(**args | {"holdout_runs": tuple(args["holdout_runs"])}))
    except (SegzooError, OSError) as error:
        parser.exit(1, f"Error: {error}\n")
    for name, value in vars(entry).items():
        print(f"{name:18} {value}")


if __name__ == "__main__":
    main()
