"""Option values: metavars for help texts, and parsers for sizes, counts and views."""

import re
from typing import TYPE_CHECKING, Literal

import typer

from segzoo._registry import DATASETS
from segzoo.classes import CLASS_SETS as CLASS_SET_NAMES

if TYPE_CHECKING:
    from segzoo.inference.options import Size
    from segzoo.inference.tta import Augment

MODEL = "a .safetensors file, a catalog key (`segzoo list --weights`), hf://owner/repo, or https://...#sha256=..."
MODEL_OR_ONNX = f"an .onnx file, {MODEL}"
"""What names a model, for help texts; `files.find` resolves it."""

DEVICES = "auto|cpu|cuda|cuda:N|tensorrt"

DATA_SETS = "|".join(entry.name for entry in DATASETS.own())
CLASS_SETS = "|".join((*CLASS_SET_NAMES, "FILE"))
CLASSES_HELP = "Class set: names and palette; or FILE: a .txt with one name per line, or a classes.json."


def parse_size(text: str | None, option: str) -> "Size | None":
    """Height and width in pixels: "512,1024", or "512" for both."""
    if text is None:
        return None
    try:
        height, *rest = (int(word) for word in text.split(","))
        (width,) = rest or (height,)
    except ValueError:
        raise typer.BadParameter(
            f"{option} takes H,W such as 512,1024, or one number for both, not {text!r}."
        ) from None
    return height, width


def parse_sizes(text: str, option: str) -> list[tuple[int, int]]:
    """A list of (height, width): "256,512x1024" is a square and 512 rows of 1024 pixels."""
    matches = [re.fullmatch(r"([1-9][0-9]{0,5})(?:x([1-9][0-9]{0,5}))?", word.strip()) for word in text.split(",")]
    sizes = [(int(match[1]), int(match[2] or match[1])) for match in matches if match is not None]
    if len(sizes) != len(matches):
        raise typer.BadParameter(f"{option} takes sizes such as 256,512 or 512x1024 (height x width), not {text!r}.")
    return sizes


def parse_counts(text: str, option: str) -> list[int]:
    """A list of integers, each at least 1: "1,4"."""
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[1-9][0-9]{0,5}", word) for word in words):
        raise typer.BadParameter(f"{option} takes positive integers such as 1,4, not {text!r}.")
    return [int(word) for word in words]


def parse_page(text: str | None) -> "int | Literal['all']":
    """The page of --page, from 1 up, or "all"; 1 if it is omitted."""
    if text == "all":
        return "all"
    if text is not None and not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise typer.BadParameter(f"--page takes a number from 1 up, or all, not {text!r}.")
    return int(text or 1)


def parse_tta(text: str | None) -> "Augment | None":
    """The views of --tta: "flip", "0.75,1,1.25", or both: "flip,0.75,1,1.25"."""
    if text is None:
        return None
    try:
        return ["flip" if word.strip() == "flip" else float(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"--tta takes flip, scales such as 0.75,1,1.25, or both: flip,0.75,1,1.25; not {text!r}."
        ) from None
