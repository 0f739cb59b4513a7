"""`PredictOptions`: the options of a prediction, which mean the same for every backend."""

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from segzoo.errors import OptionError, unknown
from segzoo.inference import tiling
from segzoo.inference.tta import Augment, View, views
from segzoo.schema import whole_number

Size = int | tuple[int, int]
"""In pixels: one number for both height and width, or (height, width)."""


MAX_SAMPLES = 10_000
"""Far beyond any use; more is a mistake that would run for hours."""


class PredictOptions(TypedDict, total=False):
    """Keyword arguments of `Predictor.predict`, `stream` and `submit`, and of `model.predict`."""

    tile: Size | None
    """Tile size. Larger images are predicted in tiles whose class probabilities are blended at the seams, so that
    memory depends on the tile and not on the image. Multiples of `spec.size_divisibility` need no padding."""

    overlap: Size | None
    """The minimum overlap of neighboring tiles, at most half the tile; a quarter of the tile by default. If the
    receptive field is smaller than a quarter of the overlap, tiled and whole-image masks are identical. Where
    `spec.context` is known, the default overlap is the smallest with that property."""

    tta: Augment | None
    """Test-time augmentation: the mean of the class probabilities over views of the image (or tile). "flip" adds the
    mirror image, numbers such as (0.75, 1.0, 1.25) are scales, ("flip", 0.75, 1.0) is both."""

    samples: int | None
    """Number of random predictions with dropout on, whose mean is the result; `variance` is set too. Monte Carlo
    dropout, Gal and Ghahramani, arXiv 1506.02142; 40 to 50 in Bayesian SegNet's paper."""

    confidence: bool
    """Whether the result has `confidence`."""

    probabilities: bool
    """Whether the result has `probabilities`. They take four bytes per class and pixel."""

    channel_order: Literal["RGB", "BGR"]
    """Channel order of arrays: "BGR" for those that OpenCV reads. Files and PIL images are always read as RGB."""

    page: int | None
    """For files: the page of a TIFF, or the frame of an animated GIF, PNG, WebP or AVIF, from 1 up. By default the
    first, with a UserWarning if there are more."""


@dataclass(frozen=True)
class Plan:
    """Checked options. Images with equal plans and equal sizes can run in one batch.

    Raises:
        OptionError: a value is invalid, or two options contradict each other.
    """

    tile: tuple[int, int] | None = None
    overlap: tuple[int, int] | None = None
    views: tuple[View, ...] = ((1.0, False),)
    samples: int | None = None
    confidence: bool = False
    probabilities: bool = False
    channel_order: Literal["RGB", "BGR"] = "RGB"
    page: int | None = None

    def __post_init__(self) -> None:
        if self.overlap is not None and self.tile is None:
            raise OptionError("overlap= needs tile=: pass tile=(height, width) too.")
        if self.tile is not None:
            tiling.check_overlap(self.tile, self.overlap)
        if self.samples is not None and (self.tile is not None or self.augments):
            raise OptionError("samples= cannot be combined with tile= or tta=. Leave these out.")
        if self.channel_order not in ("RGB", "BGR"):
            raise OptionError(f"channel_order must be 'RGB' or 'BGR', not {self.channel_order!r}.")
        for name in ("confidence", "probabilities"):
            if not isinstance(getattr(self, name), bool):
                raise OptionError(f"{name} must be True or False, not {getattr(self, name)!r}.")

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Plan":
        """The plan for keyword arguments.

        Raises:
            UnknownNameError: there is no such option.
            OptionError: as the class.
        """
        known = PredictOptions.__annotations__
        for name in options:
            if name not in known:
                raise unknown("option of predict", name, known, f"The options are {', '.join(known)}.")
        given = {name: value for name, value in options.items() if value is not None}
        for name, minimum in (("tile", 1), ("overlap", 0)):
            if name in given:
                given[name] = tiling.as_size(given[name], name, minimum)
        if "samples" in given:
            given["samples"] = whole_number("samples", given["samples"], 1)
            if given["samples"] > MAX_SAMPLES:
                raise OptionError(f"samples must be at most {MAX_SAMPLES:,}, not {given['samples']}.")
        if "page" in given:
            given["page"] = whole_number("page", given["page"], 1)
        given["views"] = tuple(views(given.pop("tta", None)))
        return cls(**given)

    @property
    def augments(self) -> bool:
        """Whether there is more than the image itself to predict."""
        return self.views != ((1.0, False),)

    @property
    def is_whole(self) -> bool:
        """Whether each image takes one run, so that several can share it."""
        return self.tile is None and self.samples is None and not self.augments
