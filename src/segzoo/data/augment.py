"""Augmentation: an image and its mask, changed together by a list of steps.

A recipe is a list of plain dicts, as a TOML file has them: {"name": "crop", "height": 256, "width": 256}. The steps and
their options are the classes of `segzoo.data.transforms`. Where a recipe is not enough, any callable
(image, mask) -> (image, mask) of numpy arrays can stand in its place, such as one that calls Albumentations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from types import MappingProxyType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import tv_tensors

from segzoo.data.images import Pixels
from segzoo.data.transforms import STEPS, Step, uniform
from segzoo.errors import OptionError, unknown

Recipe = Sequence[Mapping[str, Any]]


class Augmentation:
    """A callable (image, mask) -> (image, mask) that makes the steps of a recipe in their order.

    augment = Augmentation([{"name": "flip"}, {"name": "crop", "height": 256, "width": 256}], ignored=255)
    image, mask = augment(image, mask)

    All randomness is drawn from torch's generator.

    Args:
        recipe: dicts with the "name" of a step and its options; each step also takes p, its probability.
        ignored: the id that masks are filled with where there was no image: `SegmentationData.ignored`.

    Raises:
        UnknownNameError: a step or an option that there is not; near names are suggested.
        OptionError: an option that is missing, or has a value that it cannot take.
    """

    def __init__(self, recipe: Recipe, ignored: int) -> None:
        self.steps = tuple(_step(record) for record in recipe)
        self.ignored = ignored

    @property
    def recipe(self) -> list[dict[str, Any]]:
        """The steps with all their options, as plain dicts; what a checkpoint keeps."""
        names = {kind: name for name, kind in STEPS.items()}
        return [{"name": names[type(step)], **asdict(step)} for step in self.steps]  # type: ignore[call-overload]

    def __call__(self, image: Pixels, mask: NDArray[Any]) -> tuple[Pixels, NDArray[Any]]:
        """Both anew.

        Args:
            image: uint8 RGB (H, W, 3), 0-255.
            mask: class ids (H, W).
        """
        picture = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))))
        labels = tv_tensors.Mask(torch.from_numpy(mask)[None])
        for step in self.steps:
            if step.p >= 1 or uniform(0, 1) < step.p:
                picture, labels = step(picture, labels, self.ignored)
        return picture.permute(1, 2, 0).contiguous().numpy(), labels[0].numpy()

    def __repr__(self) -> str:
        return f"Augmentation({', '.join(map(repr, self.steps)) or 'nothing'})"


def default_recipe(height: int, width: int) -> list[dict[str, Any]]:
    """What to start from: mirrored, cropped to height x width at 0.5 to 2 times the size, colours, blur, noise."""
    return [
        {"name": "flip"},
        {"name": "crop", "height": height, "width": width, "scale": [0.5, 2.0], "stretch": 1.2},
        {"name": "colour"},
        {"name": "blur"},
        {"name": "noise"},
    ]


def _step(record: Mapping[str, Any]) -> Step:
    if not isinstance(record, Mapping) or not isinstance(record.get("name"), str):
        raise OptionError(f'A step of augmentation is a dict such as {{"name": "flip", "p": 0.5}}, not {record!r}.')
    name = record["name"]
    if name not in STEPS:
        raise unknown("step of augmentation", name, STEPS, f"Steps are {', '.join(STEPS)}.")
    kind: Any = STEPS[name]
    hints = {field.name: get_type_hints(kind)[field.name] for field in fields(kind)}
    options = {}
    for option, value in record.items():
        if option == "name":
            continue
        if option not in hints:
            raise unknown(f"option of the step {name!r}", option, hints, f"It takes {', '.join(hints)}.")
        limits = {"p": (0, 1), **kind.limits}.get(option)
        options[option] = _value(f"{option} of the step {name!r}", value, hints[option], limits)
    missing = [field.name for field in fields(kind) if field.default is MISSING and field.name not in options]
    if missing:
        raise OptionError(f"The step {name!r} needs {' and '.join(missing)}.")
    step: Step = kind(**options)
    return step


def _value(what: str, value: Any, hint: Any, limits: tuple[float, float] | None) -> Any:
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if not isinstance(value, list | tuple) or len(value) != len(parts):
            raise OptionError(f"{what} is two numbers, the least and the greatest, not {value!r}.")
        low, high = (_value(what, one, part, limits) for one, part in zip(value, parts, strict=True))
        if low > high:
            raise OptionError(f"{what} is the least and the greatest, in this order, not {value!r}.")
        return low, high
    kinds = (int, float) if hint is float else (hint,)
    if type(value) not in kinds:  # exactly: True is an int to isinstance
        raise OptionError(f"{what} is {_NAMES[hint]}, not {value!r}.")
    if limits is not None and not limits[0] <= value <= limits[1]:
        raise OptionError(f"{what} is {limits[0]:g}-{limits[1]:g}, not {value!r}.")
    return hint(value)


_NAMES = MappingProxyType({int: "a whole number", float: "a number", bool: "true or false"})
