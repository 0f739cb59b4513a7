"""What stands behind an option, as values: sizes, lists of numbers, views."""

import re
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from segzoo.inference.session import Size
    from segzoo.inference.tta import Augment

MODEL = "a .safetensors file, a key of `segzoo list --weights`, hf://owner/repo or https://...#sha256=..."
MODEL_OR_ONNX = f"An .onnx file, {MODEL}"
"""What names a model, for the help of a command; `files.find` finds it."""

DEVICES = "auto|cpu|cuda|cuda:N|tensorrt"

DATA_SETS = "folder|camvid|voc|cityscapes|pet|lfw|drone"
LABEL_SETS = "camvid|voc|cityscapes|pet|lfw|drone"


def typed(context: typer.Context) -> list[str]:
    """The options of a command that were typed, as they can be typed again."""
    given: list[str] = []
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.param_type_name == "option" and source is not None and source.name == "COMMANDLINE":
            value = context.params[str(parameter.name)]
            given += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return given


def size(text: str | None, option: str) -> "Size | None":
    """The pixels of --tile and --overlap: "512" for both sides, "512,1024" for height and width."""
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


def sizes(text: str, option: str) -> list[tuple[int, int]]:
    """Several (height, width): "256,512x1024" is a square and 512 rows of 1024 pixels."""
    found = [re.fullmatch(r"([1-9][0-9]{0,5})(?:x([1-9][0-9]{0,5}))?", word.strip()) for word in text.split(",")]
    pairs = [(int(one[1]), int(one[2] or one[1])) for one in found if one is not None]
    if len(pairs) != len(found):
        raise typer.BadParameter(f"{option} takes sizes such as 256,512 or 512x1024 (height x width), not {text!r}.")
    return pairs


def numbers(text: str, option: str) -> list[int]:
    """Several whole numbers from 1 up: "1,4"."""
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[1-9][0-9]{0,5}", word) for word in words):
        raise typer.BadParameter(f"{option} takes numbers from 1 up such as 1,4, not {text!r}.")
    return [int(word) for word in words]


def augment(text: str | None) -> "Augment | None":
    """The views of --tta: "flip", "0.75,1,1.25", or both: "flip,0.75,1,1.25"."""
    if text is None:
        return None
    try:
        return ["flip" if word.strip() == "flip" else float(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"--tta takes flip, scales such as 0.75,1,1.25, or both: flip,0.75,1,1.25; not {text!r}."
        ) from None
