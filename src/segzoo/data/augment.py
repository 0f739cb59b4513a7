"""Augmentation: a list of steps that change an image and its mask together.

A recipe is a list of plain dicts, as in a TOML file: {"name": "crop", "height": 256, "width": 256}. The steps and their
options are the classes of `segzoo.data.transforms`. If a recipe is not enough, use any callable
(image, mask) -> (image, mask) on numpy arrays instead, such as a function that calls Albumentations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import tv_tensors

from segzoo.data.images import Pixels
from segzoo.data.transforms import STEPS, Step, uniform
from segzoo.errors import OptionError, unknown
from segzoo.schema import check_options

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
    options = {option: value for option, value in record.items() if option != "name"}
    step: Step = STEPS[name](**check_options(f"the step {name!r}", STEPS[name], options))
    return step
