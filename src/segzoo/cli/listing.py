"""`segzoo list`: decoders, papers' networks, encoders and trained weights."""

from collections.abc import Iterable
from typing import Annotated

import typer

from segzoo._registry import SHORT_NAMES
from segzoo.cli import console
from segzoo.errors import UnknownNameError
from segzoo.formatting import points

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
) -> None:
    """List decoders, encoders or trained weights.

    A decoder works with any encoder that provides the levels it needs: level 5 is 1/32 of the image size.

    Examples:

      segzoo list
      segzoo list --encoders '*resnet*'
      segzoo list --encoders '*' | wc -l
      segzoo list --weights
    """
    if weights:
        _print_weights()
        return
    if encoders is not None:
        _print_encoders(encoders)
        return
    with console.Steps(lines=False) as step:
        step("loading torch")
        from segzoo.models.decoders import DECODERS
        from segzoo.models.papers import PAPERS

    console.title("Decoders")
    console.table(
        ("name", "default encoder", "output strides", "levels", "upsampling modes"),
        [
            (
                name,
                decoder.default_encoder,
                _join(decoder.output_strides),
                _join(decoder.levels) or "any",
                _join(getattr(decoder, "upsample_modes", ())) or "-",
            )
            for name, decoder in DECODERS.items()
        ],
    )
    papers: dict[str, list[str]] = {}
    for name, decoder in DECODERS.items():
        papers.setdefault(decoder.paper, []).append(name)
    console.line()
    console.title("Papers of the decoders")
    console.table(("name", "paper"), [(_join(names), paper) for paper, names in papers.items()])
    console.line()
    console.title("Complete networks, as published")
    console.table(("name", "paper"), [(name, network.paper) for name, network in PAPERS.items()])
    console.line()
    console.title("Encoders")
    named = [f"{name} (timm's {SHORT_NAMES[name]})" if name in SHORT_NAMES else name for name in NAMED]
    console.prose(f"{_join(named)}; and hundreds more from timm: segzoo list --encoders '*convnext*'")
    console.line()
    console.prose("Details: segzoo info NAME. The first output stride and upsampling mode are the defaults.")


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
        from segzoo.models.encoders import list_encoders

    names = list_encoders(pattern)
    if not names:
        broader = f"*{pattern.strip('*')}*"
        count = len(list_encoders(broader))
        hint = f"{broader!r} matches {count}." if count else "Try a pattern such as '*resnet*'; '*' matches all."
        raise UnknownNameError(f"No encoder matches {pattern!r}. {hint}")
    typer.echo("\n".join(names))


def _join(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
