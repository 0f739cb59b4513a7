"""`Segmentation`: the result for one image, in the same form from every backend."""

import base64
import html
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from segzoo import visualize
from segzoo._arguments import explained
from segzoo.classes import ClassSet
from segzoo.data.images import ImageLike, read_image
from segzoo.errors import OptionError
from segzoo.spec import Task

_NOTEBOOK_SIDE = 640
"""Longest side of a picture in a notebook, in pixels."""

Mask = npt.NDArray[np.uint8] | npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The mask of one image, at the image's own size, with what its values mean.

    `np.asarray(result)` is the mask. In a notebook, a result shows its colors and a legend.

    Attributes:
        mask: what it holds depends on the task.
            "multiclass": the class id of each pixel, (H, W), uint8, or int32 for more than 256 classes.
            "binary": 0 (background) or 1 (foreground) for each pixel, (H, W), uint8; `classes` has these two names.
            "multilabel": 0 or 1 for each class and pixel, (K, H, W), uint8; classes may overlap.
            A numpy array, or whatever `predict` was told to write to with `out=`.
        classes: names and colors, in the order of the ids.
        task: "multiclass", "binary" or "multilabel".
        confidence: None, or float32, 0-1, of the mask's shape: the probability of what the mask says there.
        probabilities: None, or float32 (K, H, W), 0-1. "multiclass": they sum to 1 at each pixel. "binary": K is 1, the
            foreground. "multilabel": each class on its own.
        variance: None, or float32, 0-0.25, of the probabilities' shape: their variance over random samples.
        path: the file that the image came from, if it came from one.
        image: the pixels that were predicted, (H, W, channels); None if there is a `path`, and for images that were
            read tile by tile.
        page: the page of the file at `path`, from 1 up.

    Raises:
        OptionError: an array has another shape or type, or the mask has a value that means nothing.
    """

    mask: Any
    classes: ClassSet
    task: Task = "multiclass"
    confidence: Floats | None = None
    probabilities: Floats | None = None
    variance: Floats | None = None
    path: Path | None = None
    image: npt.NDArray[Any] | None = None
    page: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.mask, np.ndarray):
            return  # an array outside memory that `predict` was told to write to, and that may be too large to check
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

    @explained
    def overlay(self, image: ImageLike | None = None, *, opacity: float = 0.5, legend: bool = True) -> Image.Image:
        """The image with its classes in color, their boundaries, and a legend with the share of each class.

        Where classes of a multilabel mask overlap, the smaller one is on top.

        Args:
            image: the image that was predicted; None takes the one at `path`, or the pixels in `image`. Of an array
                with more than three channels, the first three are shown; of one with two, the first.
            opacity: 0 shows only the image, 1 only the colors.
            legend: whether to draw the legend, to the right of the image or below it.

        Returns:
            an RGB picture whose top left W x H is the image.

        Raises:
            OptionError: the image is not known and was not passed.
            ImageError: the image cannot be read, or has another size; or `opacity` is invalid.
        """
        source = next((given for given in (image, self.path, self.image) if given is not None), None)
        if source is None:
            raise OptionError("This result does not know its image. Pass it: result.overlay('street.jpg').")
        if isinstance(source, np.ndarray) and source.ndim == 3 and source.shape[2] != 3:
            source = source[..., :3] if source.shape[2] > 3 else source[..., 0]
        page = self.page if source is self.path else None
        return visualize.overlay(read_image(source, page=page), self._ids(), self.classes, opacity, legend)

    @explained
    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the mask, completely or not at all. An existing file is replaced.

        Args:
            path: a .png file, or .tif or .tiff. Up to 256 classes, pixels are class ids with a palette, so that
                viewers show colors; above, they are 16-bit gray. A multilabel mask needs .tif, with one page for each
                class in order.

        Returns:
            the path.

        Raises:
            ImageError: another suffix, a .png of a multilabel mask, or there is no such folder.
        """
        planes = list(self.mask) if self.task == "multilabel" else [self.mask]
        visualize.save_masks(path, planes, self.classes)
        return Path(path)

    def areas(self) -> dict[str, float]:
        """The share of pixels of each class, 0-1, by name; those of a multilabel mask need not sum to 1."""
        if self.task == "multilabel":
            shares = self.mask.mean((1, 2))
        else:
            shares = np.bincount(self.mask.ravel(), minlength=len(self.classes)) / self.mask.size
        return dict(zip(self.classes.names, map(float, shares), strict=True))

    def _ids(self) -> Any:
        """One class id for each pixel, (H, W); -1 where a multilabel mask has none."""
        if self.task != "multilabel":
            return self.mask
        ids = np.full(self.size, -1, np.int32)
        for index in np.argsort(-self.mask.sum((1, 2)), kind="stable"):
            ids[self.mask[index] == 1] = index
        return ids

    def _repr_png_(self) -> bytes:
        picture = Image.fromarray(visualize.colorize(self._ids(), self.classes))
        picture.thumbnail((_NOTEBOOK_SIDE, _NOTEBOOK_SIDE), Image.Resampling.NEAREST)
        file = io.BytesIO()
        picture.save(file, format="PNG")
        return file.getvalue()

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self._repr_png_()).decode()
        present = sorted(((share, name) for name, share in self.areas().items() if share), reverse=True)
        shares = [(name, visualize.percent(share)) for share, name in present]
        colors = dict(zip(self.classes.names, self.classes.palette, strict=True))
        rows = "".join(
            f'<tr><td style="background: rgb{colors[name]}; width: 1.5em"></td>'
            f'<td style="text-align: left">{html.escape(name)}</td><td>{html.escape(text)}</td></tr>'
            for name, text in shares
        )
        return (
            f'<div style="display: flex; gap: 1em; align-items: flex-start"><img alt="{html.escape(repr(self))}" '
            f'src="data:image/png;base64,{picture}"><table>{rows}</table></div>'
        )

    def __repr__(self) -> str:
        height, width = self.size
        extra = "".join(
            f", {name}" for name in ("confidence", "probabilities", "variance") if getattr(self, name) is not None
        )
        return f"Segmentation({height} x {width}, {self.task}, {len(self.classes)} classes{extra})"


def mask_dtype(count: int) -> "np.dtype[Any]":
    """The dtype of a mask with `count` different ids: uint8, or int32 for more than 256."""
    return np.dtype(np.uint8 if count <= 256 else np.int32)
