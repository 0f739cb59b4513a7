"""Turns a finished run into a released model: `nox -s release -- runs/default --data ../shared/camvid`.

It writes, in this tree:

    src/segzoo/weights/packaged/NAME.safetensors   kernels as float16; with --to repository, weights/NAME.safetensors
    src/segzoo/training/recipes/NAME.toml         the recipe of the run, unless one that does the same is there; that
                                                  of a run before it, which it went on from, is NAME_first.toml
    docs/images/curves/NAME.png                   loss, mean IU and accuracy over epochs
    src/segzoo/weights/catalog.toml               the entry: figures, sha256, size; last, and only if all else is well

All figures are those of the file that is released: of its float16, on all images of the split, and of the .onnx file
that is exported from it. A file whose float16 changes the label of more than 0.1 % of the pixels is not released; as
float32 it is.
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
import onnxruntime
import tomlkit
import torch

import segzoo
from published_recipe import ORDINALS, check_recipe
from run_chain import SUMMED, Finished, chain_of, held_out_of, joined
from segzoo._io import written_aside
from segzoo.classes import LABEL_SETS
from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets import open_data
from segzoo.errors import SegzooError
from segzoo.inference import Session
from segzoo.metrics import ConfusionMatrix
from segzoo.models.base import SegmentationModel
from segzoo.models.create import count
from segzoo.models.decoders import DECODERS
from segzoo.training.curves import draw_curves
from segzoo.training.evaluate import evaluate
from segzoo.training.recipe import Recipe
from segzoo.weights import catalog

ROOT = Path(__file__).parents[1]
GREATEST_CHANGE = 0.001
"""The share of pixels whose label float16 may change."""

GREATEST = {"package": 8_000_000, "repository": 60_000_000}
"""Bytes: of the file in the package, and of all files in the repository."""

RUNS = 30


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        run: the folder of a finished run.
        data: the folder of its data set.
        unseen: folders of runs by the same recipe without a part of the data, which they held out.
        place: "package" or "repository".
        checkpoint: "last" or "best". The held-out images chose the best one, so that figures on them flatter it.
        tag: the last part of the key; None is the name of the data set.
        split: what is measured on.
        threads: of onnxruntime and torch.
        half: store kernels as float16.
        force: replace an entry, and a recipe that differs.
        root: the tree that is written to.
    """

    run: Path
    data: Path
    unseen: tuple[Path, ...] = ()
    place: str = "package"
    checkpoint: str = "last"
    tag: str | None = None
    split: str = "val"
    licence: str = "Apache-2.0, as segzoo; terms of the training data may apply"
    threads: int = 2
    half: bool = True
    force: bool = False
    root: Path = ROOT

    @property
    def catalog(self) -> Path:
        return self.root / "src/segzoo/weights/catalog.toml"

    def weights(self, place: str) -> Path:
        return self.root / ("src/segzoo/weights/packaged" if place == "package" else "weights")


class Kept:
    """A model that keeps what it predicts."""

    def __init__(self, model: SegmentationModel) -> None:
        self.labels = model.labels
        self.predicted: list[np.ndarray] = []
        self._model = model

    def predict(self, image: np.ndarray) -> np.ndarray:
        self.predicted.append(self._model.predict(image))
        return self.predicted[-1]


def release(wish: Wish) -> catalog.Entry:
    """Measures, and writes all of it; gives the entry that the catalog then has.

    Raises:
        SegzooError: the run cannot be released, and why; the catalog is as it was.
    """
    torch.set_num_threads(wish.threads)
    path = wish.run / f"{wish.checkpoint}.safetensors"
    model, runs = segzoo.load(path), chain_of(wish.run, wish.checkpoint)
    recipe = runs[-1].recipe
    name = recipe.data.name
    if name not in LABEL_SETS or model.labels != LABEL_SETS[name]:
        raise SegzooError(f"The catalog knows label sets by name, and {wish.run} has none of {', '.join(LABEL_SETS)}.")
    config = model.config
    key = f"{config.decoder}/{config.encoder}/{wish.tag or name}"
    slug = key.replace("/", "-")
    document = tomlkit.parse(wish.catalog.read_text(encoding="utf-8"))
    if key in document and not wish.force:
        raise SegzooError(f"{key} is in the catalog already. --force replaces it, --tag names another.")
    stem = slug.replace("-", "_").replace(".", "_").lower()
    trained = config.info["trained"]
    before = {name: sum(type(trained[name])(run.log[-1][name]) for run in runs[:-1]) for name in SUMMED}
    trained = {**trained, **{name: trained[name] + value for name, value in before.items()}}
    names = [f"{stem}_{which}" for which in ORDINALS[: len(runs) - 1]] + [stem]
    paths = [wish.root / "src/segzoo/training/recipes" / f"{one}.toml" for one in names]
    new_recipes = {path: check_recipe(run.recipe, path, wish.force) for path, run in zip(paths, runs, strict=True)}
    data = open_data(name, wish.data, wish.split)
    unseen = dict(without_a_part(run, runs, wish.data) for run in wish.unseen)

    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder, f"{slug}.safetensors")
        stored = segzoo.load(segzoo.save(model, draft, half=wish.half))
        kept = Kept(stored)
        metrics = shares(evaluate(kept, data).matrix)
        changes = 1 - agreement(model, data, kept.predicted)
        if changes > GREATEST_CHANGE:
            raise SegzooError(
                f"float16 changes the label of {changes:.3%} of the pixels, more than 0.1 %. --float32 stores all."
            )
        runtime = measured_runtime(stored, data, kept.predicted, Path(folder, f"{slug}.onnx"), wish.threads)
        about = {
            "licence": wish.licence,
            "paper": DECODERS[config.decoder].paper,
            "date": datetime.datetime.now(datetime.UTC).date(),
            "data": trained_on(trained, [run.recipe for run in runs]),
            "metrics": metrics,
        }
        split = f"{data.title}, {len(data)} images"
        said = about | {"key": key, "date": str(about["date"]), "metrics_on": split, "metrics_by": "segzoo"}
        stored.with_info(recipe=recipe.to_dict(), trained=trained, **said)
        content = segzoo.save(stored, draft, half=wish.half).read_bytes()

    entry = {
        "format": "segzoo",
        "file": f"{slug}.safetensors",
        "place": wish.place,
        "urls": [],
        "sha256": hashlib.sha256(content).hexdigest(),
        "sha256_by": "segzoo",
        "size": len(content),
        "build": built(model),
        "labels": name,
        "mean": list(model.mean),
        "std": list(model.std),
        "input_size": input_size(recipe, data),
        "split": split,
        "metrics_by": "segzoo",
        "params": count(model),
        "recipe": stem,
        **about,
        "unseen": unseen,
        "runtime": runtime,
        **({"storage_changes": round(changes, 7)} if wish.half else {}),
    }
    document[key] = as_table(entry)
    text = tomlkit.dumps(document)
    entries = catalog.read(text)
    check_sizes(entries.values())

    write(wish.weights(wish.place) / entry["file"], content)
    curves = wish.root / "docs/images/curves" / f"{slug}.png"
    curves.parent.mkdir(parents=True, exist_ok=True)
    draw_curves(joined(runs), curves)
    for path, new_recipe in new_recipes.items():
        if new_recipe is not None:
            write(path, new_recipe.encode())
    write(wish.catalog, text.encode())
    elsewhere = "repository" if wish.place == "package" else "package"
    (wish.weights(elsewhere) / entry["file"]).unlink(missing_ok=True)
    return entries[key]


def without_a_part(run: Path, like: Sequence[Finished], root: Path) -> tuple[str, dict[str, float]]:
    """The name of the part that a run held out of the training data, and its figures there."""
    part, held_out = held_out_of(chain_of(run), like, root)
    return part, shares(evaluate(segzoo.load(run / "last.safetensors"), held_out).matrix)


def shares(matrix: ConfusionMatrix) -> dict[str, float]:
    """The catalog's metrics, to a hundredth of a percent."""
    figures = (matrix.mean_iu, matrix.pixel_accuracy, matrix.mean_accuracy, matrix.frequency_weighted_iu)
    return {name: round(value, 4) for name, value in zip(catalog.METRICS, figures, strict=True)}


def agreement(model: Any, data: SegmentationData, labels: Sequence[np.ndarray]) -> float:
    """The share of pixels that a model gives these labels."""
    same = sum(int((model.predict(sample.image) == one).sum()) for sample, one in zip(data, labels, strict=True))
    return same / sum(one.size for one in labels)


def measured_runtime(
    model: SegmentationModel, data: SegmentationData, labels: Sequence[np.ndarray], path: Path, threads: int
) -> dict[str, Any]:
    """What `Entry.runtime` holds."""
    exported = segzoo.export(model, path)
    session = Session(path, "cpu", threads=threads)
    image = data[0].image[None]
    times = []
    for number in range(-3, RUNS):
        start = time.perf_counter()
        session.run(image)
        if number >= 0:
            times.append(time.perf_counter() - start)
    return {
        "milliseconds": round(1e3 * statistics.median(times), 2),
        "height": image.shape[1],
        "width": image.shape[2],
        "threads": threads,
        "cpu": cpu(),
        "onnxruntime": onnxruntime.__version__,
        "logits_difference": float(f"{exported.proof.logits_difference:.2g}"),
        "label_agreement": round(agreement(session, data, labels), 7),
    }


def cpu() -> str:
    """What the processor calls itself."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def trained_on(trained: Mapping[str, Any], recipes: Sequence[Recipe]) -> str:
    """The data and what the weights were before; the recipes of a model's runs in their order."""
    start = recipes[0].model.encoder_weights
    began = f"from an encoder of {start}" if start else "from random weights"
    runs = f" in {len(recipes)} runs" if len(recipes) > 1 else ""
    return f"{trained['data']}, {trained['images']} images, {began}{runs}"


def built(model: SegmentationModel) -> dict[str, Any]:
    """What `segzoo.create` is given besides decoder, encoder and labels."""
    config = model.config
    options = dict(config.options)
    if config.output_stride != DECODERS[config.decoder].output_strides[0]:
        options["output_stride"] = config.output_stride
    return options


def input_size(recipe: Recipe, data: SegmentationData) -> list[int]:
    """Height and width that were trained at: of the crop, or of the images."""
    crops = [step for step in recipe.augmentation if step["name"] == "crop"]
    return [crops[-1]["height"], crops[-1]["width"]] if crops else list(data[0].mask.shape)


def check_sizes(entries: Any) -> None:
    """Raises SegzooError where the wheel, or the repository, would become too large."""
    sizes = {place: [one.size for one in entries if one.place == place] for place in GREATEST}
    if max(sizes["package"], default=0) > GREATEST["package"] or sum(sizes["repository"]) > GREATEST["repository"]:
        raise SegzooError(
            f"A file in the package has up to 8 MB, all in the repository up to 60 MB, not {sizes} bytes."
        )


def as_table(entry: Mapping[str, Any]) -> Any:
    """An entry as a table of TOML whose own tables stand in one line."""
    table = tomlkit.table()
    for name in (one.name for one in fields(catalog.Entry) if one.name in entry):
        table.add(name, _inline(entry[name]))
    return table


def _inline(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    found = tomlkit.inline_table()
    for name, one in value.items():
        found.append(name, _inline(one))
    return found


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as draft:
        draft.write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="of the data set")
    parser.add_argument("--unseen", type=Path, nargs="+", default=(), metavar="RUN", help="runs that held a drive out")
    parser.add_argument("--to", dest="place", choices=tuple(GREATEST), default=Wish.place, help="(%(default)s)")
    parser.add_argument("--checkpoint", choices=("last", "best"), default=Wish.checkpoint, help="(%(default)s)")
    parser.add_argument("--tag", help="last part of the key (the name of the data set)")
    parser.add_argument("--split", default=Wish.split, help="what is measured on (%(default)s)")
    parser.add_argument("--licence", default=Wish.licence, help="of the weights (%(default)s)")
    parser.add_argument("--threads", type=int, default=Wish.threads, help="of onnxruntime and torch (%(default)s)")
    parser.add_argument("--float32", dest="half", action="store_false", help="store float32, twice as large")
    parser.add_argument("--force", action="store_true", help="replace an entry, and a recipe that differs")
    args = vars(parser.parse_args())
    try:
        entry = release(Wish(**args | {"unseen": tuple(args["unseen"])}))
    except (SegzooError, OSError) as error:
        parser.exit(1, f"Error: {error}\n")
    for name, value in vars(entry).items():
        print(f"{name:18} {value}")


if __name__ == "__main__":
    main()
