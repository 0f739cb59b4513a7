"""Augmentation: a list of steps that change an image and its mask together.

A recipe is a list of plain dicts, as in a TOML file: {"name": "crop", "height": 256, "width": 256}. The steps and their
options are the classes of `segzoo.data.transforms`. If a recipe is not enough, use any callable
(image, mask) -> (image, mask) on numpy arrays instead, such as a function that calls Albumentations.
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
    """A callable (image, mask) -> (image, mask) that applies the steps of a recipe in order.

    augment = Augmentation([{"name": "flip"}, {"name": "crop", "height": 256, "width": 256}], ignore_index=255)
    image, mask = augment(image, mask)

    All random numbers come from torch's generator.

    Args:
        recipe: dicts with the "name" of a step and its options; each step also takes p, its probability.
        ignore_index: fills the mask outside the image; pass `SegmentationData.ignore_index`.

    Raises:
        UnknownNameError: an unknown step or option; the message suggests similar names.
        OptionError: an option that is missing or has an invalid value.
    """

    def __init__(self, recipe: Recipe, ignore_index: int) -> None:
        self.steps = tuple(_build_step(record) for record in recipe)
        self.ignore_index = ignore_index

    @property
    def recipe(self) -> list[dict[str, Any]]:
        """The steps with all their options, as plain dicts. Checkpoints store this."""
        names = {step_class: name for name, step_class in STEPS.items()}
        return [{"name": names[type(step)], **asdict(step)} for step in self.steps]  # type: ignore[call-overload]

    def __call__(self, image: Pixels, mask: NDArray[Any]) -> tuple[Pixels, NDArray[Any]]:
        """Returns a new image and a new mask.

        Args:
            image: uint8 RGB (H, W, 3), 0-255.
            mask: class ids (H, W).
        """
        tv_image = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))))
        tv_mask = tv_tensors.Mask(torch.from_numpy(mask)[None])
        for step in self.steps:
            if step.p >= 1 or uniform(0, 1) < step.p:
                tv_image, tv_mask = step(tv_image, tv_mask, self.ignore_index)
        return tv_image.permute(1, 2, 0).contiguous().numpy(), tv_mask[0].numpy()

    def __repr__(self) -> str:
        return f"Augmentation({', '.join(map(repr, self.steps)) or 'nothing'})"


def default_recipe(height: int, width: int) -> list[dict[str, Any]]:
    """A starting point: flip, a height x width crop at 0.5 to 2 times the original scale, color jitter, blur, noise."""
    return [
        {"name": "flip"},
        {"name": "crop", "height": height, "width": width, "scale": [0.5, 2.0], "max_aspect": 1.2},
        {"name": "color_jitter"},
        {"name": "blur"},
        {"name": "noise"},
    ]


def _build_step(record: Mapping[str, Any]) -> Step:
    if not isinstance(record, Mapping) or not isinstance(record.get("name"), str):
        raise OptionError(f'An augmentation step is a dict such as {{"name": "flip", "p": 0.5}}, not {record!r}.')
    name = record["name"]
    if name not in STEPS:
        raise unknown("augmentation step", name, STEPS, f"Steps are {', '.join(STEPS)}.")
    step_class: Any = STEPS[name]
    hints = {field.name: get_type_hints(step_class)[field.name] for field in fields(step_class)}
    options = {}
    for option, value in record.items():
        if option == "name":
            continue
        if option not in hints:
            raise unknown(f"option of the step {name!r}", option, hints, f"It takes {', '.join(hints)}.")
        limits = {"p": (0, 1), **step_class.limits}.get(option)
        options[option] = _check_value(f"{option} of the step {name!r}", value, hints[option], limits)
    required = [field.name for field in fields(step_class) if field.default is MISSING]
    missing = [option for option in required if option not in options]
    if missing:
        raise OptionError(f"The step {name!r} needs {' and '.join(missing)}.")
    step: Step = step_class(**options)
    return step


def _check_value(label: str, value: Any, hint: Any, limits: tuple[float, float] | None) -> Any:
    """The value with the type of its field; raises OptionError if the type or the range is wrong."""
    if get_origin(hint) is tuple:
        types = get_args(hint)
        if not isinstance(value, list | tuple) or len(value) != len(types):
            raise OptionError(f"{label} must be two numbers, minimum and maximum, not {value!r}.")
        low, high = (_check_value(label, number, type_, limits) for number, type_ in zip(value, types, strict=True))
        if low > high:
            raise OptionError(f"{label} must be the minimum and the maximum, in this order, not {value!r}.")
        return low, high
    accepted = (int, float) if hint is float else (hint,)
    if type(value) not in accepted:  # an exact comparison, because isinstance(True, int) holds
        raise OptionError(f"{label} must be {_TYPE_NAMES[hint]}, not {value!r}.")
    if limits is not None and not limits[0] <= value <= limits[1]:
        raise OptionError(f"{label} must be {limits[0]:g}-{limits[1]:g}, not {value!r}.")
    return hint(value)


_TYPE_NAMES = MappingProxyType({int: "an integer", float: "a number", bool: "true or false"})
