"""Tables that mkdocs puts into the pages from the code itself, wherever a page has `<!-- table: NAME -->`."""

import dataclasses
import enum
import inspect
import json
import re
import warnings
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import torch
import typer
from mkdocs.structure.files import File, Files

import results
import segzoo
from segzoo import formatting
from segzoo.classes import LABEL_SETS
from segzoo.cli import app
from segzoo.data.datasets import READERS
from segzoo.data.transforms import STEPS
from segzoo.errors import PairingError
from segzoo.models.create import count
from segzoo.models.decoders import DECODERS
from segzoo.models.layers.upsampling import WAYS, upsampling
from segzoo.models.papers import PAPERS
from segzoo.training.recipe import Recipe
from segzoo.weights.catalog import entries

NAMED = ("vgg16", "resnet101", "xception", "mobilenet")
"""The encoders that the zoo is named for."""


def papers() -> str:
    """The decoders and where they come from."""
    names: dict[str, list[str]] = {}
    for name, kind in DECODERS.items():
        names.setdefault(kind.paper, []).append(f"`{name}`")
    return _table(["Decoder", "Paper"], [[", ".join(those), paper] for paper, those in names.items()])


def decoders() -> str:
    """What each decoder needs and offers, with the parameters of its own pairing."""
    rows = []
    for name, kind in DECODERS.items():
        with torch.device("meta"):  # shapes only: DeconvNet's weights alone would take a gigabyte
            model = segzoo.create(name)
        count = sum(p.numel() for p in model.parameters())
        levels = ", ".join(map(str, kind.levels)) or "any"
        strides = ", ".join(map(str, kind.output_strides))
        paper = re.sub(r".*arXiv ([\d.]+).*", r"[\1](https://arxiv.org/abs/\1)", kind.paper)
        rows.append([f"`{name}`", f"`{kind.encoder}`", levels, strides, f"{count:,}", paper])
    return _table(["Decoder", "Own encoder", "Levels it needs", "Output strides", "Parameters", "arXiv"], rows)


def networks() -> str:
    """The papers' whole networks: what they are, and how they want their input."""
    rows = []
    for name, kind in PAPERS.items():
        with torch.device("meta"):
            model = segzoo.create(name)
        mean = ", ".join(f"{value:g}" for value in kind.pixel_mean[: kind.channels])
        order = model.channel_order if kind.channels == 3 else "gray"
        less = f"less RGB {mean}" if any(kind.pixel_mean) else "no mean subtracted"
        scale = "" if kind.pixel_scale == 1 else f", divided by {kind.pixel_scale:g}"
        paper = re.sub(r" ?arXiv ([\d.]+)", r" [\1](https://arxiv.org/abs/\1)", kind.paper)
        rows.append([f"`{name}`", paper, str(kind.classes), f"{count(model):,}", f"{order}, {less}{scale}"])
    return _table(["Name", "Paper", "Classes", "Parameters", "Input, of 0-255"], rows)


def upsamples() -> str:
    """Which ways up each decoder allows."""
    kinds = {name: getattr(kind, "upsamples", ()) for name, kind in DECODERS.items()}
    rows = [[f"`{name}`", ", ".join(f'`"{way}"`' for way in ways) or "none"] for name, ways in kinds.items()]
    return _table(["Decoder", "`upsample=`, the default first"], rows)


def ways() -> str:
    """What one step of each way up is, measured: from 64 channels to 64, from 64 x 64 to 128 x 128."""
    x, like = torch.randn(1, 64, 64, 64, requires_grad=True), torch.randn(1, 64, 128, 128)
    rows = []
    for way in WAYS:
        up = upsampling(way, 64, 64)
        own = {weight.untyped_storage().data_ptr() for weight in up.parameters()}
        saved: list[torch.UntypedStorage] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, saved=saved: saved.append(tensor.untyped_storage()) or tensor, lambda tensor: tensor
        ):
            up(x, like)
        kept = {storage.data_ptr(): storage.nbytes() for storage in saved if storage.data_ptr() not in own}
        takers = [f"`{name}`" for name, kind in DECODERS.items() if way in getattr(kind, "upsamples", ())]
        rows.append(
            [
                f'`"{way}"`',
                type(up).__name__,
                f"{count(up):,}",
                f"{sum(kept.values()) / 2**20:.0f} MiB" if kept else "nothing",
                ", ".join(_operators(up, x.detach(), like)),
                ", ".join(takers),
            ]
        )
    return _table(["`upsample=`", "Module", "Weights", "Kept", "In the exported graph", "Decoders"], rows)


def _operators(up: torch.nn.Module, x: torch.Tensor, like: torch.Tensor) -> list[str]:
    """The names of the ONNX operators of a way up, each once, in their order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(up.eval(), (x, like), dynamo=True, verbose=False)
    return list(dict.fromkeys(node.op_type for node in program.model_proto.graph.node))


def pairs() -> str:
    """Millions of parameters of each decoder on each of the zoo's own four encoders."""
    rows = []
    for name in DECODERS:
        cells = []
        for encoder in NAMED:
            try:
                with torch.device("meta"):
                    model = segzoo.create(name, encoder=encoder)
                cells.append(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M")
            except PairingError:
                cells.append("no")
        rows.append([f"`{name}`", *cells])
    return _table(["Decoder", *(f"`{encoder}`" for encoder in NAMED)], rows)


def weights() -> str:
    """Every entry of the catalog."""
    rows = []
    for entry in entries().values():
        measured = ", ".join(f"{name} {value}" for name, value in formatting.rows(entry.metrics))
        place = f"[{entry.file}]({entry.urls[0]})" if entry.urls else f"{entry.file}, in the {entry.place}"
        rows.append(
            [
                f"`{entry.key}`",
                f"`{entry.labels}`",
                f"{measured} ({entry.split}; by {entry.metrics_by})",
                f"{entry.data}; {results.recipe_link(entry, 'results.md')}",
                f"{entry.params:,}",
                f"{place}, {entry.size / 1e6:.1f} MB, `{entry.sha256}`",
                entry.licence,
            ]
        )
    return _table(["Key", "Labels", "Metrics", "Trained on", "Parameters", "File and sha256", "Licence"], rows)


def commands() -> str:
    """Arguments and options of each command, as `--help` has them."""
    parts = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        rows = []
        for parameter in command.params:
            if parameter.name in ("help", "context"):
                continue
            argument = parameter.param_type_name == "argument"
            word = parameter.metavar if argument else ", ".join(parameter.opts)
            value = "" if argument or not parameter.metavar else f" {parameter.metavar}"
            rows.append([f"`{word}{value}`", _default(parameter), parameter.help or ""])
        parts.append(f"### segzoo {name}\n\n{command.help.partition(chr(10))[0]}\n\n")
        parts.append(_table(["", "Default", "Meaning"], rows) + "\n\n")
    return "".join(parts)


def datasets() -> str:
    """The data sets that are opened by name: splits, layout, source."""
    rows = []
    for name, reader in READERS.items():
        splits = ", ".join(f"`{split}`" for split in reader.splits) or "its folders"
        classes = str(len(LABEL_SETS[name])) if name in LABEL_SETS else "yours"
        rows.append([f"`{name}`", classes, splits, reader.layout, reader.source])
    return _table(["Name", "Classes", "Splits", "What belongs into the folder", "Source"], rows)


def steps() -> str:
    """The steps of augmentation with their options."""
    rows = []
    for name, kind in STEPS.items():
        given = [
            f"`{field.name}`" if field.default is dataclasses.MISSING else f"`{field.name}={field.default}`"
            for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        ]
        rows.append([f"`{name}`", ", ".join(given), inspect.getdoc(kind).partition("\n\n")[0].replace("\n", " ")])
    return _table(["Step", "Options and their defaults", "What it does"], rows)


def recipe() -> str:
    """The keys of a recipe by their section, with their defaults and what they mean."""
    rows = []
    for section, part in get_type_hints(Recipe).items():
        kinds = [kind for kind in (part, *get_args(part)) if dataclasses.is_dataclass(kind)]
        meanings = _meanings(kinds[0] if kinds else Recipe)
        for field in dataclasses.fields(kinds[0]) if kinds else [Recipe.__dataclass_fields__[section]]:
            key = f"{section}.{field.name}" if kinds else section
            rows.append([f"`{key}`", _shown_default(field), meanings.get(field.name, "")])
    return _table(["Key", "Default", "What it is"], rows)


def _meanings(kind: type) -> dict[str, str]:
    """The entries of the section Attributes of a docstring."""
    text = inspect.getdoc(kind).partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n        .*)*)", text, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in entries for name in names.split(", ")}


def _shown_default(field: Any) -> str:
    if field.default is dataclasses.MISSING:
        return "required" if field.default_factory is dataclasses.MISSING else ""
    return "" if field.default in (None, "", ()) else f"`{json.dumps(field.default)}`"


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if isinstance(parameter.default, enum.Enum):
        return f"`{parameter.default.value}`"
    if parameter.default is None:
        return "required" if parameter.required else ""
    return "" if parameter.default is False else f"`{parameter.default}`"


TABLES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "comparison": results.comparison,
    "curves": results.curves,
    "datasets": datasets,
    "decoders": decoders,
    "pairs": pairs,
    "networks": networks,
    "papers": papers,
    "pictures": results.pictures,
    "recipe": recipe,
    "recipes": results.recipe_texts,
    "results": results.figures,
    "steps": steps,
    "upsamples": upsamples,
    "ways": ways,
    "weights": weights,
}


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """mkdocs calls this with all files of the site; what is drawn for it comes to them."""
    for path, content in (results.picture_files() | results.comparison_files()).items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs calls this with the text of each page."""
    return re.sub(r"^<!-- table: (\w+) -->$", lambda found: TABLES[found[1]](), markdown, flags=re.MULTILINE)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    # A bar ends a cell, but not within code.
    safe = [[cell if "`" in cell else cell.replace("|", "\\|") for cell in cells] for cells in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in safe)
