"""Generated parts of the results page: metrics, curves and recipes of the catalog's models, and a few pictures."""

import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import segzoo
from segzoo.cli.console import logits_difference, pixel_agreement
from segzoo.data.datasets import open_data
from segzoo.formatting import name as name_of
from segzoo.formatting import points
from segzoo.training import recipes
from segzoo.training.plots import Compared, draw_comparison, side_by_side
from segzoo.weights.catalog import METRICS, Entry, default, entries

DOCS = Path(__file__).parent
CAMVID = Path(os.environ.get("SEGZOO_CAMVID") or DOCS.parents[1] / "shared" / "camvid")
COMPARISON = "images/compared.png"
SHOWN = 4
"""Number of val images in the pictures, one from each part of the drive."""


def trained() -> list[Entry]:
    """The models that segzoo itself trained, best first."""
    ours = [entry for entry in entries().values() if entry.format == "segzoo"]
    return sorted(ours, key=lambda entry: -entry.metrics["mean_iou"])


def figures() -> str:
    """A row for each of them, and the machines on which the latencies were measured."""
    if not trained():
        return "*None is released yet.*"
    names = map(name_of, METRICS)
    head = [
        "Key",
        "Parameters",
        *(f"{name} %" for name in names),
        "Holdout: mean IoU %",
        "ms",
        "Logits differ by",
    ]
    rows = [[*head, "Same class", "Size", "Recipe"]]
    milliseconds, notes = latencies(trained())
    for entry, latency in zip(trained(), milliseconds, strict=True):
        run = entry.runtime
        rows.append(
            [
                f"`{entry.key}`",
                f"{entry.params:,}",
                *(points(entry.metrics.get(name)) for name in METRICS),
                ", ".join(f"{part} {points(metrics['mean_iou'])}" for part, metrics in entry.holdout_metrics.items())
                or "-",
                latency,
                logits_difference(run.logits_difference) if run else "-",
                pixel_agreement(run.pixel_agreement) if run else "-",
                f"{entry.size / 1e6:.1f} MB",
                recipe_link(entry),
            ]
        )
    changes = [entry.storage_changes for entry in trained() if entry.storage_changes is not None]
    if changes:
        notes.append(f"Stored as float16, which changes the class of up to {100 * max(changes):.3f} % of the pixels.")
    unchanged = [f"`{entry.key}`" for entry in trained() if entry.storage_changes is None]
    if unchanged:
        notes.append(f"Stored as float32, since float16 would change more than 0.1 % of them: {', '.join(unchanged)}.")
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:], "", *notes])


def latencies(listed: Sequence[Entry]) -> tuple[list[str], list[str]]:
    """The milliseconds of each model with a letter for the machine, and a note on each letter."""
    cells = []
    machines: dict[str, str] = {}
    for entry in listed:
        run = entry.runtime
        if run is None:
            cells.append("-")
            continue
        machine = f"{run.width} x {run.height} pixels, {run.threads} threads of {run.cpu}"
        letter = machines.setdefault(machine, chr(ord("a") + len(machines)))
        cells.append(f"{run.milliseconds:.1f} ({letter})")
    return cells, [f"({letter}) {machine}." for machine, letter in machines.items()]


def recipe_link(entry: Entry, page: str = "") -> str:
    """A link to the recipe, on the web or on the results page.

    Args:
        page: the results page, relative to the page with the link; empty on the results page itself.
    """
    url = entry.recipe if "://" in entry.recipe else f"{page}#recipe-{entry.recipe}"
    return f"[recipe]({url})"


def comparison() -> str:
    """The plot that compares the models."""
    return f"![Mean IoU on val over milliseconds an image; the area is the number of parameters]({COMPARISON})"


def comparison_files() -> dict[str, bytes]:
    """That plot as a PNG file, by its path in the site."""
    compared = [
        Compared(
            entry.key.partition("/")[0],
            entry.metrics["mean_iou"],
            entry.metrics["pixel_accuracy"],
            entry.params,
            entry.runtime.milliseconds,
            training_seconds=None,
        )
        for entry in trained()
        if entry.runtime
    ]
    if not compared:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        draw_comparison(compared, Path(folder, "drawn.png"))
        return {COMPARISON: Path(folder, "drawn.png").read_bytes()}


def curves() -> str:
    """Each model's curves."""
    parts = [f"`{entry.key}`\n\n![Loss, mean IoU and accuracy over epochs]({_curves(entry)})" for entry in trained()]
    return "\n\n".join(parts) or "*There are none yet.*"


def recipe_texts() -> str:
    """The recipe of every model, and those of the runs that it started from."""
    known = recipes.names()
    named = [
        name for entry in trained() for name in known if name == entry.recipe or name.startswith(f"{entry.recipe}_")
    ]
    texts = {name: recipes.path(name).read_text(encoding="utf-8") for name in named}
    parts = [f"### {name} {{ #recipe-{name} }}\n\n```toml\n{text}```" for name, text in texts.items()]
    return "\n\n".join(parts) or "*There are none yet.*"


def pictures() -> str:
    """Image, ground truth and prediction next to each other; or why there are none."""
    reason = _missing_reason()
    if reason:
        return f"*{reason}*"
    return "\n\n".join(f"![{name}: image, ground truth, prediction]({_picture(name)})" for name in _names())


def picture_files() -> dict[str, bytes]:
    """Those pictures as JPEG files, by their paths in the site; empty if they cannot be made."""
    entry = default()
    if entry is None or _missing_reason():
        return {}
    data, model = open_data("camvid", CAMVID, "val"), segzoo.load(entry.key)
    files = {}
    for name in _names():
        image, mask, _ = data[data.names.index(name)]
        drawn = io.BytesIO()
        side_by_side(image, mask, model.predict(image).mask, data.classes).save(drawn, "JPEG", quality=88)
        files[_picture(name)] = drawn.getvalue()
    return files


def _missing_reason() -> str | None:
    """Why there are no pictures, as a sentence; None if there are."""
    entry = default()
    if entry is None or entry.classes != "camvid":
        return "No model of CamVid's classes ships in the package yet."
    if not CAMVID.is_dir():
        return "CamVid was not available when this page was built. Set SEGZOO_CAMVID to its folder."
    return None


def _names() -> list[str]:
    names = open_data("camvid", CAMVID, "val").names
    return [names[(2 * number + 1) * len(names) // (2 * SHOWN)] for number in range(SHOWN)]


def _picture(name: str) -> str:
    return f"images/results/{name}.jpg"


def _curves(entry: Entry) -> str:
    return f"images/curves/{entry.key.replace('/', '-')}.png"
