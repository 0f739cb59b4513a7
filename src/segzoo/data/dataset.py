"""Data sets: a sequence of images and masks with their class set, read one at a time.

The readers in `segzoo.data.datasets` return `SegmentationData` for the files of a known data set; a list of `Item`
creates it from any files. `TrainingSet` wraps it for a torch DataLoader. `segzoo.data.pairs` wraps other data sets.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate

from segzoo.classes import ClassSet
from segzoo.data.images import Pixels, read_only_page
from segzoo.data.masks import MaskReader, check_ids, read_mask
from segzoo.errors import DataError, OptionError

Augment = Callable[[Pixels, NDArray[Any]], tuple[Pixels, NDArray[Any]]]
"""A function that maps an image, uint8 RGB (H, W, 3), and its mask (H, W) to new ones; both may change in size."""


@dataclass(frozen=True)
class Item:
    """The files of one sample.

    Attributes:
        name: identifies the sample in results and in `select`; unique in its data set.
        image: an image file in any format that `segzoo.data.images.read_image` supports; a TIFF has one page.
        mask: the file with the mask, which has one page.
    """

    name: str
    image: Path
    mask: Path


class Sample(NamedTuple):
    """One image and its mask."""

    image: Pixels
    """uint8 RGB (H, W, 3), 0-255."""

    mask: NDArray[Any]
    """Class ids (H, W), uint8 if they fit, else int32; unlabeled pixels have `SegmentationData.ignore_index`."""

    name: str


class LabeledData(Protocol):
    """The interface that training needs of a data set: `SegmentationData`, or `segzoo.data.pairs.PairData`."""

    title: str
    """The name of the data in messages."""

    @property
    def classes(self) -> ClassSet:
        """The class set of the masks."""

    @property
    def ignore_index(self) -> int:
        """The id that losses and metrics ignore."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...

    def mask(self, index: int) -> NDArray[Any]:
        """The mask of one sample."""


def ignore_index_of(classes: ClassSet) -> int:
    """The id that losses and metrics ignore: that of the class set, else 255 (-1 for more than 255 classes).

    Losses need it even if the class set has none, because augmentation fills the area outside the image with it.
    """
    if classes.ignore_index is not None:
        return classes.ignore_index
    return 255 if len(classes) <= 255 else -1


def as_ids(mask: NDArray[Any], classes: ClassSet) -> NDArray[Any]:
    """A copy of a mask of valid ids, uint8 if all ids of the class set fit, else int32."""
    fits_uint8 = len(classes) <= 256 and 0 <= ignore_index_of(classes) <= 255
    return np.array(mask, np.uint8 if fits_uint8 else np.int32)


class SegmentationData(Sequence[Sample]):
    """Images with masks and their class set. It holds file names only; indexing reads a sample.

    Args:
        items: the files, with unique names.
        classes: the class set of the masks.
        title: the name of the data in messages, such as "camvid train".
        mask_reader: converts a mask file to ids; the default (`read_mask`) accepts ids and the colors of the class set.

    Raises:
        DataError: there are no items, or two have the same name.
    """

    def __init__(
        self, items: Iterable[Item], classes: ClassSet, title: str = "data", mask_reader: MaskReader = read_mask
    ) -> None:
        self.items = tuple(items)
        self.classes = classes
        self.title = title
        self._read_mask = mask_reader
        if not self.items:
            raise DataError(f"{title} contains no images.")
        names = sorted(item.name for item in self.items)
        duplicate = next((name for name, following in itertools.pairwise(names) if name == following), None)
        if duplicate is not None:
            raise DataError(f"{title} has two images named {duplicate!r}. Rename one.")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the samples, in order."""
        return tuple(item.name for item in self.items)

    @property
    def ignore_index(self) -> int:
        """The id that losses and metrics ignore: that of the class set, else 255 (-1 for more than 255 classes)."""
        return ignore_index_of(self.classes)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "SegmentationData": ...
    def __getitem__(self, index: int | slice) -> "Sample | SegmentationData":
        """Reads one sample; a slice returns the data of those samples and reads nothing.

        Raises:
            DataError: the mask contains an id that is not in the class set, or differs from the image in size.
            ImageError: a file is missing or damaged, or is a TIFF with several pages, so that it is unknown which one
                the mask belongs to.
        """
        if isinstance(index, slice):
            return self._with_items(self.items[index])
        item = self.items[index]
        image, mask = read_only_page(item.image), self.mask(index)
        if mask.shape != image.shape[:2]:
            raise DataError(
                f"{item.mask} is {mask.shape[1]} x {mask.shape[0]}, but its image {item.image} is "
                f"{image.shape[1]} x {image.shape[0]} (width x height). Give the mask the size of its image."
            )
        # A copy, because arrays from Pillow are read-only and augmentation may write to the image.
        return Sample(np.array(image), mask, item.name)

    def mask(self, index: int) -> NDArray[Any]:
        """Reads the mask of one sample, but not its image.

        Raises:
            DataError: the mask contains an id that is not in the class set, or cannot be read.
        """
        item = self.items[index]
        return as_ids(check_ids(self._read_mask(item.mask, self.classes), item.mask, self.classes), self.classes)

    def select(self, select: str | Sequence[str] = (), exclude: str | Sequence[str] = ()) -> "SegmentationData":
        """The samples whose name matches a pattern of `select` (all if it is empty) and no pattern of `exclude`.

        Patterns are shell-style: "0001TP*" is a drive of CamVid. To hold that drive out for validation, use
        `data.select(exclude="0001TP*")` and `data.select("0001TP*")`.

        Raises:
            DataError: a pattern matches no name, or no sample is left.
        """
        included, excluded = _patterns("select", select), _patterns("exclude", exclude)
        for pattern in (*included, *excluded):
            if not any(fnmatchcase(name, pattern) for name in self.names):
                raise DataError(
                    f"No image of {self.title} matches {pattern!r}. Names look like {self.names[0]!r} and "
                    f"{self.names[-1]!r}; * matches any characters."
                )
        kept = [
            item
            for item in self.items
            if (not included or any(fnmatchcase(item.name, pattern) for pattern in included))
            and not any(fnmatchcase(item.name, pattern) for pattern in excluded)
        ]
        if not kept:
            raise DataError(f"No image of {self.title} is left: select={included}, exclude={excluded}.")
        return self._with_items(kept)

    def take(self, indices: Iterable[int]) -> "SegmentationData":
        """The samples at these indices, in their order.

        Raises:
            DataError: there are none, or one occurs twice.
        """
        return self._with_items(self.items[index] for index in indices)

    def _with_items(self, items: Iterable[Item]) -> "SegmentationData":
        return SegmentationData(items, self.classes, self.title, self._read_mask)


class TrainingSet(torch.utils.data.Dataset[dict[str, Any]]):
    """A torch data set of augmented samples, as tensors.

    The random numbers for a sample depend only on the seed, the epoch and the sample, not on the worker: a resumed run,
    or a run with another number of workers, sees the same pixels. This holds for everything that uses torch's
    generator; a callable with its own generator has to take care of this itself.

    Args:
        augment: any callable (image, mask) -> (image, mask) on numpy arrays, such as `Augmentation`; None for none.
        seed: the seed of the augmentation.
        pixel_weights: a callable mask -> weights (H, W), float32, such as `BorderWeights`; None for none.
    """

    def __init__(
        self,
        data: LabeledData,
        augment: Augment | None = None,
        seed: int = 0,
        pixel_weights: Callable[[NDArray[Any]], NDArray[np.float32]] | None = None,
    ) -> None:
        self.data = data
        self.augment = augment
        self.pixel_weights = pixel_weights
        self._seed = seed
        # In shared memory, because persistent workers have copies of everything else.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Selects the random numbers of the loader's next pass; it also works with persistent workers."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample: "image" uint8 (H, W, 3), which `model.normalize` accepts in batches, "mask" (H, W) and "name".

        With `pixel_weights`, also "weights", float32 (H, W).

        Raises:
            OptionError: `augment` did not return an image and a mask of the same size.
            DataError, ImageError: the sample cannot be read.
        """
        sample = self.data[index]
        image, mask = sample.image, sample.mask
        if self.augment is not None:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(_mix_seeds(self._seed, int(self._epoch[0]), index % len(self)))
                image, mask = _check_result(self.augment(image, mask), self.augment)
        batch = {"image": torch.from_numpy(image), "mask": torch.from_numpy(mask), "name": sample.name}
        if self.pixel_weights is not None:
            batch["weights"] = torch.from_numpy(np.ascontiguousarray(self.pixel_weights(mask), np.float32))
        return batch


class PaddedBatch:
    """A `collate_fn` for images of different sizes: pads them at the right and the bottom to the largest size.

    Args:
        ignore_index: the padding of masks (`SegmentationData.ignore_index`); images and weights are padded with 0.
    """

    def __init__(self, ignore_index: int) -> None:
        self.ignore_index = ignore_index

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        if len({sample["mask"].shape for sample in samples}) == 1:
            # In a worker process, this one stacks into shared memory directly.
            same: dict[str, Any] = default_collate(list(samples))
            return same
        height = max(sample["mask"].shape[0] for sample in samples)
        width = max(sample["mask"].shape[1] for sample in samples)
        batch: dict[str, Any] = {"name": [sample["name"] for sample in samples]}
        for key in samples[0].keys() - {"name"}:
            values: list[Tensor] = [sample[key] for sample in samples]
            fill = self.ignore_index if key == "mask" else 0
            padded = values[0].new_full((len(values), height, width, *values[0].shape[2:]), fill)
            for row, value in zip(padded, values, strict=True):
                row[: value.shape[0], : value.shape[1]] = value
            batch[key] = padded
        return batch


def _patterns(name: str, patterns: str | Sequence[str]) -> tuple[str, ...]:
    result = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    if not all(isinstance(pattern, str) for pattern in result):
        raise OptionError(f"{name} takes patterns of names such as '0001TP*', not {patterns!r}.")
    return result


def _mix_seeds(*parts: int) -> int:
    # SeedSequence combines integers into one seed such that adjacent epochs and samples get unrelated seeds.
    return int(np.random.SeedSequence([part % 2**64 for part in parts]).generate_state(1, np.uint64)[0]) % 2**63


def _check_result(result: Any, augment: Any) -> tuple[Pixels, NDArray[Any]]:
    try:
        image, mask = (np.asarray(array) for array in result)
    except (TypeError, ValueError):
        raise OptionError(f"{augment!r} takes (image, mask) and must return (image, mask).") from None
    if image.dtype != np.uint8 or image.ndim != 3 or mask.shape != image.shape[:2] or mask.dtype.kind not in "iu":
        raise OptionError(
            f"{augment!r} must return a uint8 image (H, W, 3) and an integer mask (H, W), "
            f"not {image.dtype} {image.shape} and {mask.dtype} {mask.shape}."
        )
    # torch does not support the negative strides that numpy's flips produce.
    return np.ascontiguousarray(image), np.ascontiguousarray(mask)
