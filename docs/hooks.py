"""Tables that mkdocs puts into the pages from the code itself, wherever a page has `<!-- table: NAME -->`."""

import re
from collections.abc import Callable
from typing import Any

import torch

import segzoo
from segzoo.decoders import DECODERS
from segzoo.errors import PairingError

NAMED = ("vgg16", "resnet101", "xception", "mobilenet")
"""The encoders that the zoo is named for."""


def decoders() -> str:
    """What each decoder is and needs, with the parameters of its own pairing."""
    rows = []
    for name, kind in DECODERS.items():
        with torch.device("meta"):  # shapes only: DeconvNet's weights alone would take a gigabyte
            model = segzoo.create(name)
        count = sum(p.numel() for p in model.parameters())
        levels = ", ".join(map(str, kind.levels)) or "any"
        strides = ", ".join(map(str, kind.output_strides))
        rows.append([f"`{name}`", kind.paper, f"`{kind.encoder}`", levels, strides, f"{count:,}"])
    head = ["Decoder", "Paper", "Own encoder", "Levels it needs", "Output strides", "Parameters"]
    return _table(head, rows)


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


TABLES: dict[str, Callable[[], str]] = {"decoders": decoders, "pairs": pairs}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs calls this with the text of each page."""
    return re.sub(r"^<!-- table: (\w+) -->$", lambda found: TABLES[found[1]](), markdown, flags=re.MULTILINE)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
