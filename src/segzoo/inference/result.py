"""`Segmentation`: the result for one image, in the same form from every backend."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.classes import ClassSet
from segzoo.errors import OptionError
from segzoo.spec import Task

Mask = npt.NDArray[np.uint8] | npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The mask of one image, at the image's own size, with what its values mean.

    `np.asarray(result)` is the mask: `np.asarray(result)`.

    Attributes:
        mask: what it holds depends on the task.
            "multiclass": the class id of each pixel, (H, W), uint8, or int32 for more than 256 classes.
            "binary": 0 (background) or 1 (foreground) for each pixel, (H, W), uint8; `classes` has these two names.
            "multilabel": 0 or 1 for each class and pixel, (K, H, W), uint8; classes may overlap.
        classes: names and colors, in the order of the ids.
        task: "multiclass", "binary" or "multilabel".
        confidence: None, or float32, 0-1, of the mask's shape: the probability of what the mask says there.
        probabilities: None, or float32 (K, H, W), 0-1. "multiclass": they sum to 1 at each pixel. "binary": K is 1, the
            foreground. "multilabel": each class on its own.
        variance: None, or float32, 0-0.25, of the probabilities' shape: their variance over random samples.
        path: the file that the image came from, if it came from one.

    Raises:
        OptionError: an array has another shape or type, or the mask has a value that means nothing.
    """

    mask: Mask
    classes: ClassSet
    task: Task = "multiclass"
    confidence: Floats | None = None
    probabilities: Floats | None = None
    variance: Floats | None = None
    path: Path | None = None
    image: Any = None

    def __post_init__(self) -> None:
        count = len(self.classes)
        if self.task == "binary" and count != 2:
            raise OptionError(f"A binary result must have two class names, background and foreground, not {count}.")
        dtype = mask_dtype(count if self.task == "multiclass" else 2)
        dimensions = 3 if self.task == "multilabel" else 2
        if self.mask.ndim != dimensions or self.mask.dtype != dtype or self.mask.size == 0:
            shape = "(K, H, W)" if self.task == "multilabel" else "(H, W)"
            raise OptionError(
                f"The mask of a {self.task} result must be {dtype} {shape}, not {self.mask.dtype} {self.mask.shape}."
            )
        if self.task == "multilabel" and len(self.mask) != count:
            raise OptionError(f"A multilabel mask must have one plane per class ({count}), not {len(self.mask)}.")
        highest = count - 1 if self.task == "multiclass" else 1
        if self.mask.max() > highest or self.mask.min() < 0:
            raise OptionError(f"The mask must hold values 0-{highest}, not {self.mask.min()} to {self.mask.max()}.")
        channels = 1 if self.task == "binary" else count
        for name, shape_ in (
            ("confidence", self.mask.shape),
            ("probabilities", (channels, *self.size)),
            ("variance", (channels, *self.size)),
        ):
            values = getattr(self, name)
            if values is not None and (values.shape != shape_ or values.dtype != np.float32):
                raise OptionError(f"{name} must be float32 {shape_}, not {values.dtype} {values.shape}.")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image, in pixels."""
        height, width = self.mask.shape[-2:]
        return height, width

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False and dtype is not None and np.dtype(dtype) != self.mask.dtype:
            raise ValueError(f"The mask is {self.mask.dtype}; as {np.dtype(dtype)} it has to be copied.")
        return np.array(self.mask, dtype) if copy else np.asarray(self.mask, dtype)

    def __repr__(self) -> str:
        height, width = self.size
        extra = "".join(
            f", {name}" for name in ("confidence", "probabilities", "variance") if getattr(self, name) is not None
        )
        return f"Segmentation({height} x {width}, {self.task}, {len(self.classes)} classes{extra})"


def mask_dtype(count: int) -> "np.dtype[Any]":
    """The dtype of a mask with `count` different ids: uint8, or int32 for more than 256."""
    return np.dtype(np.uint8 if count <= 256 else np.int32)
