"""`segzoo list`: the decoders, and the encoders they stand on."""

from typing import Annotated

import typer

from segzoo.cli import console
from segzoo.errors import UnknownNameError
from segzoo.formatting import points

NAMED = ("vgg16", "resnet101", "xception", "mobilenet", "unet")
"""The encoders that the zoo is named for, and U-Net's own."""


def list_models(
    encoders: Annotated[
        str | None,
        typer.Option(
            "--encoders",
            "-e",
            metavar="PATTERN",
            help="Print the names of the encoders that match a shell pattern instead, one a line. Quote it.",
        ),
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Show the trained weights that segzoo knows by name instead.")
    ] = False,
) -> None:
    """Lists the decoders with what each one needs; or encoders by pattern; or trained weights.

    Every decoder goes with any encoder that has the levels it needs: level 5 is 1/32 of the image's size.

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
        from segzoo.models.encoders import SHORT_NAMES
        from segzoo.models.papers import PAPERS

    console.title("Decoders")
    console.table(
        ("name", "own encoder", "output strides", "levels", "ways up (--upsample)"),
        [
            (
                name,
                kind.encoder,
                _join(kind.output_strides),
                _join(kind.levels) or "any",
                _join(getattr(kind, "upsamples", ())) or "-",
            )
            for name, kind in DECODERS.items()
        ],
    )
    papers: dict[str, list[str]] = {}
    for name, kind in DECODERS.items():
        papers.setdefault(kind.paper, []).append(name)
    console.line()
    console.title("Papers of the decoders")
    console.table(("name", "paper"), [(_join(names), paper) for paper, names in papers.items()])
    console.line()
    console.title("Whole networks, as published")
    console.table(("name", "paper"), [(name, network.paper) for name, network in PAPERS.items()])
    console.line()
    console.title("Encoders")
    named = [f"{name} (timm's {SHORT_NAMES[name]})" if name in SHORT_NAMES else name for name in NAMED]
    console.prose(f"{_join(named)}; and hundreds more of timm's: segzoo list --encoders '*convnext*'")
    console.line()
    console.prose("More on one of them: segzoo info NAME. The first output stride and way up are the default.")


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
            entry.place,
        )
        for entry in entries().values()
    ]
    head = ("key", "mIoU %", "pixel accuracy %", "measured on", "params", "size", "where")
    console.table(head, rows, right=(1, 2, 4, 5), spare=(2, 4, 5), whole=(0, 1, 2, 4, 5, 6))
    console.line()
    console.prose("Figures on different data say nothing of which model is better.")
    shipped = default()
    if shipped is not None:
        console.prose(f"predict and demo take {shipped.key}, which is in the package, where no model is named.")
    console.prose("segzoo info KEY tells all of one; segzoo.load(KEY) loads it.")


def _print_encoders(pattern: str) -> None:
    with console.Steps(lines=False) as step:
        step("loading timm")
        from segzoo.models.encoders import list_encoders

    names = list_encoders(pattern)
    if not names:
        wider = f"*{pattern.strip('*')}*"
        more = len(list_encoders(wider))
        hint = f"{wider!r} matches {more}." if more else "A pattern is such as '*resnet*'; '*' matches all."
        raise UnknownNameError(f"No encoder matches {pattern!r}. {hint}")
    typer.echo("\n".join(names))


def _join(words: "tuple[object, ...] | list[str]") -> str:
    return ", ".join(map(str, words))
