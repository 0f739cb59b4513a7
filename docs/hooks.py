"""Tables that mkdocs generates from the code and puts in place of each `<!-- table: NAME -->` in a page."""

import dataclasses
import enum
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
from segzoo import _docstrings, formatting
from segzoo._descriptions import describe_class
from segzoo.classes import CLASS_SETS
from segzoo.cli import app
from segzoo.data.datasets import READERS
from segzoo.data.transforms import STEPS
from segzoo.errors import PairingError
from segzoo.models.decoders import DECODERS
from segzoo.models.layers.upsampling import UPSAMPLE_MODES, upsampling
from segzoo.models.papers import PAPERS
from segzoo.models.parameters import count_parameters
from segzoo.training.recipe import Recipe
from segzoo.weights.catalog import entries

NAMED = ("vgg16", "resnet101", "xception", "mobilenet")
"""The encoders that every decoder is tested with."""


def papers() -> str:
    """The decoders and their papers."""
    names: dict[str, list[str]] = {}
    for name, decoder in DECODERS.items():
        names.setdefault(decoder.paper, []).append(f"`{name}`")
    return _table(["Decoder", "Paper"], [[", ".join(group), paper] for paper, group in names.items()])


def decoders() -> str:
    """Requirements of each decoder, and the parameters with its default encoder."""
    rows = []
    for name, decoder in DECODERS.items():
        with torch.device("meta"):  # shapes only: DeconvNet's weights alone would take a gigabyte
            parameters = count_parameters(segzoo.create(name))
        levels = ", ".join(map(str, decoder.levels)) or "any"
        strides = ", ".join(map(str, decoder.output_strides))
        paper = re.sub(r".*arXiv ([\d.]+).*", r"[\1](https://arxiv.org/abs/\1)", decoder.paper)
        rows.append([f"`{name}`", f"`{decoder.default_encoder}`", levels, strides, f"{parameters:,}", paper])
    return _table(["Decoder", "Default encoder", "Required levels", "Output strides", "Parameters", "arXiv"], rows)


def networks() -> str:
    """The papers' networks, with their input."""
    rows = []
    for name, network in PAPERS.items():
        with torch.device("meta"):
            model = segzoo.create(name)
        mean = ", ".join(f"{value:g}" for value in network.pixel_mean[: network.default_in_channels])
        order = model.spec.channel_order if network.default_in_channels == 3 else "gray"
        subtracted = f"minus RGB {mean}" if any(network.pixel_mean) else "no mean subtracted"
        scale = "" if network.pixel_scale == 1 else f", divided by {network.pixel_scale:g}"
        paper = re.sub(r" ?arXiv ([\d.]+)", r" [\1](https://arxiv.org/abs/\1)", network.paper)
        parameters, classes = f"{count_parameters(model):,}", str(network.default_num_classes)
        rows.append([f"`{name}`", paper, classes, parameters, f"{order}, {subtracted}{scale}"])
    return _table(["Name", "Paper", "Classes", "Parameters", "Input, from 0-255"], rows)


def upsample_modes() -> str:
    """The upsampling modes that each decoder supports."""
    supported = {name: getattr(decoder, "upsample_modes", ()) for name, decoder in DECODERS.items()}
    rows = [[f"`{name}`", ", ".join(f'`"{mode}"`' for mode in modes) or "none"] for name, modes in supported.items()]
    return _table(["Decoder", "`upsample=`, default first"], rows)


def upsampling_steps() -> str:
    """One step of each upsampling mode, measured: from 64 channels to 64, from 64 x 64 to 128 x 128."""
    x, ref = torch.randn(1, 64, 64, 64, requires_grad=True), torch.randn(1, 64, 128, 128)
    rows = []
    for mode in UPSAMPLE_MODES:
        up = upsampling(mode, 64, 64)
        parameters = {weight.untyped_storage().data_ptr() for weight in up.parameters()}
        saved: list[torch.UntypedStorage] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, saved=saved: saved.append(tensor.untyped_storage()) or tensor, lambda tensor: tensor
        ):
            up(x, ref)
        memory = {storage.data_ptr(): storage.nbytes() for storage in saved if storage.data_ptr() not in parameters}
        users = [f"`{name}`" for name, decoder in DECODERS.items() if mode in getattr(decoder, "upsample_modes", ())]
        rows.append(
            [
                f'`"{mode}"`',
                type(up).__name__,
                f"{count_parameters(up):,}",
                f"{sum(memory.values()) / 2**20:.0f} MiB" if memory else "none",
                ", ".join(_operators(up, x.detach(), ref)),
                ", ".join(users),
            ]
        )
    return _table(["`upsample=`", "Module", "Weights", "Memory", "In the exported graph", "Decoders"], rows)


def _operators(up: torch.nn.Module, x: torch.Tensor, ref: torch.Tensor) -> list[str]:
    """The names of a module's ONNX operators, each once, in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raised by the exporter
        program = torch.onnx.export(up.eval(), (x, ref), dynamo=True, verbose=False)
    return list(dict.fromkeys(node.op_type for node in program.model_proto.graph.node))


def pairs() -> str:
    """Millions of parameters of each decoder on each of these four encoders."""
    rows = []
    for name in DECODERS:
        cells = []
        for encoder in NAMED:
            try:
                with torch.device("meta"):
                    model = segzoo.create(name, encoder=encoder)
                cells.append(f"{count_parameters(model) / 1e6:.1f} M")
            except PairingError:
                cells.append("no")
        rows.append([f"`{name}`", *cells])
    return _table(["Decoder", *(f"`{encoder}`" for encoder in NAMED)], rows)


def weights() -> str:
    """Every entry of the catalog."""
    rows = []
    for entry in entries().values():
        measured = ", ".join(f"{name} {value}" for name, value in formatting.rows(entry.metrics))
        location = f"[{entry.file}]({entry.urls[0]})" if entry.urls else f"{entry.file}, in the {entry.source}"
        rows.append(
            [
                f"`{entry.key}`",
                f"`{entry.classes}`",
                f"{measured} ({entry.split}; by {entry.metrics_by})",
                f"{entry.data}; {results.recipe_link(entry, 'results.md')}",
                f"{entry.params:,}",
                f"{location}, {entry.size / 1e6:.1f} MB, `{entry.sha256}`",
                entry.license,
            ]
        )
    return _table(["Key", "Class set", "Metrics", "Trained on", "Parameters", "File and sha256", "License"], rows)


def commands() -> str:
    """Arguments and options of each command, as in `--help`."""
    parts = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        rows = []
        for parameter in command.params:
            if parameter.name in ("help", "context"):
                continue
            argument = parameter.param_type_name == "argument"
            names = parameter.metavar if argument else ", ".join(parameter.opts)
            value = "" if argument or not parameter.metavar else f" {parameter.metavar}"
            rows.append([f"`{names}{value}`", _default(parameter), parameter.help or ""])
        parts.append(f"### segzoo {name}\n\n{command.help.partition(chr(10))[0]}\n\n")
        parts.append(_table(["", "Default", "Meaning"], rows) + "\n\n")
    return "".join(parts)


def datasets() -> str:
    """The data sets that can be opened by name: splits, layout, source."""
    rows = []
    for name, reader in READERS.items():
        splits = ", ".join(f"`{split}`" for split in reader.splits) or "its folders"
        classes = str(len(CLASS_SETS[name])) if name in CLASS_SETS else "yours"
        rows.append([f"`{name}`", classes, splits, reader.layout, reader.source])
    return _table(["Name", "Classes", "Splits", "Contents of the folder", "Source"], rows)


def steps() -> str:
    """The steps of augmentation with their options."""
    rows = []
    for name, step in STEPS.items():
        described = describe_class(step)
        options = [f"`{o.name}`" if o.default is None else f"`{o.name}={o.default}`" for o in described.options]
        rows.append([f"`{name}`", ", ".join(options), f"{described.summary}."])
    return _table(["Step", "Options and defaults", "What it does"], rows)


def recipe() -> str:
    """The keys of a recipe by section, with defaults and meaning."""
    rows = []
    for section, hint in get_type_hints(Recipe).items():
        configs = [config for config in (hint, *get_args(hint)) if dataclasses.is_dataclass(config)]
        meanings = _docstrings.entries(configs[0] if configs else Recipe)
        for field in dataclasses.fields(configs[0]) if configs else [Recipe.__dataclass_fields__[section]]:
            key = f"{section}.{field.name}" if configs else section
            rows.append([f"`{key}`", _shown_default(field), meanings.get(field.name, "")])
    return _table(["Key", "Default", "Meaning"], rows)


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
    "upsample_modes": upsample_modes,
    "upsampling_steps": upsampling_steps,
    "weights": weights,
}


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """mkdocs calls this with all files of the site. It adds the generated pictures."""
    for path, content in (results.picture_files() | results.comparison_files()).items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs calls this with the text of each page."""
    return re.sub(r"^<!-- table: (\w+) -->$", lambda match: TABLES[match[1]](), markdown, flags=re.MULTILINE)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    # A bar ends a cell unless it is inside code.
    escaped = [[cell if "`" in cell else cell.replace("|", "\\|") for cell in cells] for cells in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)
