"""What the page of results is made of: the catalog, curves and recipes of its models, pictures of a few images."""

import io
import os
import tempfile
from pathlib import Path

import segzoo
from segzoo.cli.files import agreement, difference
from segzoo.data.datasets import open_data
from segzoo.formatting import name as name_of
from segzoo.formatting import points
from segzoo.training import recipes
from segzoo.training.plots import Compared, beside, draw_comparison
from segzoo.weights.catalog import METRICS, Entry, default, entries

DOCS = Path(__file__).parent
CAMVID = Path(os.environ.get("SEGZOO_CAMVID") or DOCS.parents[1] / "shared" / "camvid")
COMPARISON = "images/compared.png"
SHOWN = 4
"""So many images of val, one in each part of the drive."""


def trained() -> list[Entry]:
    """The models that segzoo trained, and nobody else; the best first."""
    ours = [entry for entry in entries().values() if entry.format == "segzoo"]
    return sorted(ours, key=lambda entry: -entry.metrics["mean_iou"])


def figures() -> str:
    """A row for each of them, and what the latencies were measured on."""
    if not trained():
        return "*None is released yet.*"
    names = map(name_of, METRICS)
    head = ["Key", "Parameters", *(f"{name} %" for name in names), "Unseen drives: mean IU %", "ms", "Logits differ by"]
    rows = [[*head, "Same label", "Size", "Recipe"]]
    conditions = {}
    for entry in trained():
        run = entry.runtime
        where = f"{run['width']} x {run['height']} pixels, {run['threads']} threads of {run['cpu']}" if run else ""
        mark = chr(ord("a") + conditions.setdefault(where, len(conditions)))
        rows.append(
            [
                f"`{entry.key}`",
                f"{entry.params:,}",
                *(points(entry.metrics.get(name)) for name in METRICS),
                ", ".join(f"{part} {points(found['mean_iou'])}" for part, found in entry.unseen.items()) or "-",
                f"{run['milliseconds']:.1f} ({mark})" if run else "-",
                difference(run["logits_difference"]) if run else "-",
                agreement(run["label_agreement"]) if run else "-",
                f"{entry.size / 1e6:.1f} MB",
                recipe_link(entry),
            ]
        )
    notes = [f"({chr(ord('a') + number)}) {where}." for where, number in conditions.items() if where]
    changes = [entry.storage_changes for entry in trained() if entry.storage_changes is not None]
    if changes:
        notes.append(f"Stored as float16, which changes the label of up to {100 * max(changes):.3f} % of the pixels.")
    whole = [f"`{entry.key}`" for entry in trained() if entry.storage_changes is None]
    if whole:
        notes.append(f"Stored as float32, since float16 would change more than 0.1 % of them: {', '.join(whole)}.")
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:], "", *notes])


def recipe_link(entry: Entry, page: str = "") -> str:
    """To the web, or to the recipe on the page of results.

    Args:
        page: the page of results as the page of the link names it; none on itself.
    """
    url = entry.recipe if "://" in entry.recipe else f"{page}#recipe-{entry.recipe}"
    return f"[recipe]({url})"


def comparison() -> str:
    """The plot of all of them."""
    return f"![Mean IU on val over milliseconds an image; the area is the number of parameters]({COMPARISON})"


def comparison_files() -> dict[str, bytes]:
    """That plot, by its path in the site."""
    compared = [
        Compared(
            entry.key.partition("/")[0],
            entry.metrics["mean_iou"],
            entry.metrics["pixel_accuracy"],
            entry.params,
            entry.runtime["milliseconds"],
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
    """The picture of each run."""
    parts = [f"`{entry.key}`\n\n![Loss, mean IU and accuracy over epochs]({_curves(entry)})" for entry in trained()]
    return "\n\n".join(parts) or "*There are none yet.*"


def recipe_texts() -> str:
    """Every recipe that a model was trained by, and those of the runs that came before."""
    known = recipes.names()
    named = [
        name for entry in trained() for name in known if name == entry.recipe or name.startswith(f"{entry.recipe}_")
    ]
    texts = {name: recipes.path(name).read_text(encoding="utf-8") for name in named}
    parts = [f"### {name} {{ #recipe-{name} }}\n\n```toml\n{text}```" for name, text in texts.items()]
    return "\n\n".join(parts) or "*There are none yet.*"


def pictures() -> str:
    """Image, truth and prediction side by side; or why there are none."""
    why = _obstacle()
    if why:
        return f"*{why}*"
    return "\n\n".join(f"![{name}: image, truth, prediction]({_picture(name)})" for name in _names())


def picture_files() -> dict[str, bytes]:
    """Those pictures, as JPEG, by their paths in the site; none where there is an obstacle."""
    entry = default()
    if entry is None or _obstacle():
        return {}
    data, model = open_data("camvid", CAMVID, "val"), segzoo.load(entry.key)
    files = {}
    for name in _names():
        image, mask, _ = data[data.names.index(name)]
        drawn = io.BytesIO()
        beside(image, mask, model.predict(image), data.labels).save(drawn, "JPEG", quality=88)
        files[_picture(name)] = drawn.getvalue()
    return files


def _obstacle() -> str | None:
    """Why there are no pictures, as a sentence."""
    entry = default()
    if entry is None or entry.labels != "camvid":
        return "No model of CamVid's classes ships in the package yet."
    if not CAMVID.is_dir():
        return "CamVid was not at hand when this page was built: SEGZOO_CAMVID names its folder."
    return None


def _names() -> list[str]:
    names = open_data("camvid", CAMVID, "val").names
    return [names[(2 * number + 1) * len(names) // (2 * SHOWN)] for number in range(SHOWN)]


def _picture(name: str) -> str:
    return f"images/results/{name}.jpg"


def _curves(entry: Entry) -> str:
    return f"images/curves/{entry.key.replace('/', '-')}.png"
