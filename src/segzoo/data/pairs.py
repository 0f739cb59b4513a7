"""`PairData`: a torch data set of (image, mask) pairs, as the training loop reads it."""

import dataclasses
from collections.abc import Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo.classes import ClassSet
from segzoo.data.dataset import Sample, as_ids, ignore_index_of
from segzoo.data.masks import check_ids
from segzoo.errors import DataError


class PairData:
    """The pairs of any object with a length and an index, such as a torch Dataset, with a class set.

    Args:
        pairs: pairs[i] is (image, mask): uint8 (H, W, channels), 0-255, and integers (H, W), as arrays, tensors or PIL
            images; or a `Sample`, as a data set has that wraps a `SegmentationData`.
        classes: the class set of the masks; `ignore_index` is also allowed in masks if the class set has none.
        title: the name of the data in messages.

    Raises:
        DataError: `pairs` has no length or no index, or is empty.
    """

    def __init__(self, pairs: Any, classes: ClassSet, title: str = "data") -> None:
        if not isinstance(pairs, Sized) or not hasattr(pairs, "__getitem__") or isinstance(pairs, str | bytes | dict):
            raise DataError(
                f"{title} must be a SegmentationData, such as segzoo.data.datasets.open_data returns, or a torch "
                f"Dataset with a length whose elements are (image, mask), not {type(pairs).__name__}."
            )
        if len(pairs) == 0:
            raise DataError(f"{title} contains no images.")
        self.classes = classes
        self.title = title
        self.description = type(pairs).__name__
        self._pairs: Any = pairs

    @property
    def ignore_index(self) -> int:
        """The id that losses and metrics ignore: that of the class set, else 255 (-1 for more than 255 classes)."""
        return ignore_index_of(self.classes)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        """One pair, as new arrays, with its index as its name unless it has one.

        Raises:
            DataError: it is not a pair, or its type, size or ids are wrong.
        """
        pair = self._pairs[index]
        try:
            image, mask, name = pair if isinstance(pair, Sample) else (*pair, str(index))
            image, mask = np.asarray(image), np.asarray(mask)
        except (TypeError, ValueError):
            raise DataError(
                f"{self.title}[{index}] must be (image, mask), not {type(pair).__name__}. Return a tuple of both."
            ) from None
        if image.dtype != np.uint8 or image.ndim != 3 or mask.shape != image.shape[:2] or mask.dtype.kind not in "iu":
            raise DataError(
                f"{self.title}[{index}] must be a uint8 image (H, W, channels) and an integer mask (H, W), not "
                f"{image.dtype} {image.shape} and {mask.dtype} {mask.shape}. Leave normalization to the model."
            )
        allowed = dataclasses.replace(self.classes, ignore_index=self.ignore_index)
        checked = check_ids(mask, f"The mask of {self.title}[{index}]", allowed)
        return Sample(np.array(image), as_ids(checked, self.classes), name)

    def mask(self, index: int) -> NDArray[Any]:
        """The mask of one pair; the image is read too."""
        return self[index].mask
