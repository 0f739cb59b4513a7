"""`segzoo list`: what has a name: decoders, encoders, trained weights, data sets, losses, steps and metrics."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from segzoo._docstrings import first_sentence
from segzoo._optional import needs
from segzoo._registry import DATASETS, DECODERS, LOSSES, METRICS, PAPERS, SHORT_NAMES, TRANSFORMS, Registry
from segzoo.cli import console
from segzoo.errors import OptionError, UnknownNameError
from segzoo.formatting import METRICS as OWN_METRICS
from segzoo.formatting import points

if TYPE_CHECKING:
    from segzoo._descriptions import ClassDescription

NAMED = ("vgg16", "resnet101", "xception", "mobilenet", "unet")
"""The encoders that segzoo highlights: four classics, and U-Net's contracting path."""


def list_models(
    encoders: Annotated[
        str | None,
        typer.Option(
            "--encoders",
            "-e",
            metavar="PATTERN",
            help="List the encoders that match a quoted shell pattern, one per line.",
        ),
    ] = None,
    weights: Annotated[bool, typer.Option("--weights", help="List the trained weights of the catalog.")] = False,
    datasets: Annotated[bool, typer.Option("--datasets", help="List the data sets, for --data.")] = False,
    losses: Annotated[bool, typer.Option("--losses", help="List the losses of recipes.")] = False,
    transforms: Annotated[bool, typer.Option("--transforms", help="List the augmentation steps of recipes.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="List the metrics of an evaluation.")] = False,
) -> None:
    """List decoders and encoders, or whatever else has a name.

    A decoder works with any encoder that provides the levels it needs: level 5 is 1/32 of the image size.

    Examples:

      segzoo list
      segzoo list --encoders '*resnet*'
      segzoo list --encoders '*' | wc -l
      segzoo list --weights
      segzoo list --losses --import mymodule
    """
    kinds: dict[str, tuple[bool, Callable[[], None]]] = {
        "--encoders": (encoders is not None, lambda: _print_encoders(encoders or "")),
        "--weights": (weights, _print_weights),
        "--datasets": (datasets, _print_datasets),
        "--losses": (losses, _print_losses),
        "--transforms": (transforms, _print_transforms),
        "--metrics": (metrics, _print_metrics),
    }
    chosen = [name for name, (is_chosen, _) in kinds.items() if is_chosen]
    if len(chosen) > 1:
        raise OptionError(f"One list at a time: pass only one of {', '.join(chosen)}.")
    if chosen:
        kinds[chosen[0]][1]()
        return
    from segzoo import _descriptions

    decoders = {name: _descriptions.decoder(name) for name in DECODERS}
    console.title("Decoders")
    console.table(
        ("name", "default encoder", "output strides", "levels", "upsampling modes"),
        [
            (
                name,
                str(DECODERS[name].default_encoder),
                _join(decoder.output_strides),
                _join(decoder.levels) or "any",
                _join(decoder.upsample_modes) or "-",
            )
            for name, decoder in decoders.items()
        ],
    )
    papers: dict[str, list[str]] = {}
    for name, decoder in decoders.items():
        papers.setdefault(decoder.paper, []).append(name)
    console.line()
    console.title("Papers of the decoders")
    console.table(("name", "paper"), [(_join(names), paper) for paper, names in papers.items()])
    console.line()
    console.title("Complete networks, as published")
    console.table(("name", "paper"), [(name, _descriptions.paper(name).paper) for name in PAPERS])
    console.line()
    console.title("Encoders")
    named = [f"{name} (timm's {SHORT_NAMES[name]})" if name in SHORT_NAMES else name for name in NAMED]
    console.prose(f"{_join(named)}; and hundreds more from timm: segzoo list --encoders '*convnext*'")
    console.line()
    console.prose("Details: segzoo info NAME. The first output stride and upsampling mode are the defaults.")
    console.prose("More lists: segzoo list --weights, --datasets, --losses, --transforms or --metrics.")


def _print_weights() -> None:
    from segzoo.weights.catalog import default, entries

    rows = [
        (
            entry.key,
            points(entry.metrics.get("mean_iou")),
            points(entry.metrics.get("pixel_accuracy")),
            entry.split.partition(",")[0],
            f"{entry.params / 1e6:.1f} M",
            console.megabytes(entry.size),
            entry.source,
        )
        for entry in entries().values()
    ]
    header = ("key", "mIoU %", "pixel accuracy %", "measured on", "params", "size", "source")
    console.table(header, rows, right=(1, 2, 4, 5), optional=(2, 4, 5), no_wrap=(0, 1, 2, 4, 5, 6))
    console.line()
    console.prose("Metrics measured on different data do not rank the models.")
    packaged = default()
    if packaged is not None:
        console.prose(f"predict and demo use {packaged.key}, which ships with segzoo, if you name no model.")
    console.prose("Details: segzoo info KEY. To load one in Python: segzoo.load(KEY).")


def _print_encoders(pattern: str) -> None:
    with console.Steps(lines=False) as step:
        step("loading timm")
        with needs("A list of encoders"):
            from segzoo.models.encoders import list_encoders

    names = list_encoders(pattern)
    if not names:
        broader = f"*{pattern.strip('*')}*"
        count = len(list_encoders(broader))
        hint = f"{broader!r} matches {count}." if count else "Try a pattern such as '*resnet*'; '*' matches all."
        raise UnknownNameError(f"No encoder matches {pattern!r}. {hint}")
    typer.echo("\n".join(names))


def _print_datasets() -> None:
    from segzoo import _descriptions

    rows = []
    for name in DATASETS:
        dataset = _descriptions.dataset(name)
        rows.append((name, _join(dataset.splits) or "any", dataset.source, dataset.layout, _origin(DATASETS, name)))
    console.table(("name", "splits", "source", "files below the root", "from"), rows, optional=(2,), no_wrap=(0,))
    console.line()
    console.prose("segzoo evaluate MODEL ROOT --data NAME, or data.name of a recipe. The first split is for training.")


def _print_losses() -> None:
    from segzoo._descriptions import loss

    _print_classes(LOSSES, loss)


def _print_transforms() -> None:
    from segzoo._descriptions import transform

    _print_classes(TRANSFORMS, transform)


def _print_classes(registry: Registry, describe: "Callable[[str], ClassDescription]") -> None:
    rows = []
    for name in registry:
        described = describe(name)
        options = (o.name if o.default is None else f"{o.name}={o.default}" for o in described.options)
        rows.append((name, described.summary or "-", _join(options) or "-", _origin(registry, name)))
    console.table(("name", "summary", "options and defaults", "from"), rows, no_wrap=(0,))


def _print_metrics() -> None:
    from segzoo.metrics import ConfusionMatrix

    rows = [(name, first_sentence(getattr(ConfusionMatrix, name)) or "-", "segzoo") for name in OWN_METRICS]
    for name, metric in METRICS.objects.items():
        rows.append((name, first_sentence(metric) or "-", _origin(METRICS, name)))
    console.table(("name", "summary", "from"), rows, no_wrap=(0,))


def _origin(registry: Registry, name: str) -> str:
    return registry[name].plugin or "segzoo"


def _join(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
