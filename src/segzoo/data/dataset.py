"""The contract of data to train on: a sequence of images and masks with their label set, read one at a time.

Readers in `segzoo.data.datasets` make `SegmentationData` of the files of a known data set, and a list of `Item`
makes one of any files. `TrainingSet` is what a torch DataLoader takes.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segzoo.classes import LabelSet
from segzoo.data.images import Pixels, read_image
from segzoo.data.masks import MaskReader, check_ids, ids_of
from segzoo.errors import DataError, OptionError

Augment = Callable[[Pixels, NDArray[Any]], tuple[Pixels, NDArray[Any]]]
"""Any function of an image (H, W, 3) uint8 RGB and its mask (H, W) that gives both anew; sizes may change together."""


@dataclass(frozen=True)
class Item:
    """Where one image and its mask are.

    Attributes:
        name: what the item is called in results and selected by; unique in its data set.
        image: an image file of any kind that `segzoo.data.images.read_image` reads.
        mask: the file of its labels.
    """

    name: str
    image: Path
    mask: Path


class Sample(NamedTuple):
    """One image with its labels."""

    image: Pixels
    """uint8 RGB (H, W, 3), 0-255."""

    mask: NDArray[Any]
    """Class ids (H, W), uint8 where they fit (int32 otherwise); unlabelled pixels have `SegmentationData.ignored`."""

    name: str


class SegmentationData(Sequence[Sample]):
    """Images with masks, and what the ids in the masks mean. Only file names are held; a sample is read when asked for.

    Args:
        items: the files, with names that are unique.
        labels: what the ids mean.
        title: what to call the data in messages, such as "camvid train".
        mask_reader: how a mask's file becomes ids; the default takes ids or the label set's colours (`ids_of`).

    Raises:
        DataError: no items, or a name twice.
    """

    def __init__(
        self, items: Iterable[Item], labels: LabelSet, title: str = "data", mask_reader: MaskReader = ids_of
    ) -> None:
        self.items = tuple(items)
        self.labels = labels
        self.title = title
        self._read_mask = mask_reader
        if not self.items:
            raise DataError(f"{title} holds no images.")
        names = sorted(item.name for item in self.items)
        twice = next((name for name, after in itertools.pairwise(names) if name == after), None)
        if twice is not None:
            raise DataError(f"{title} has two images of the name {twice!r}. Rename one.")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the samples, in their order."""
        return tuple(item.name for item in self.items)

    @property
    def ignored(self) -> int:
        """The id of pixels that do not count: that of the labels; where they have none, 255 (-1 beyond 255 classes).

        Augmentation fills with it what lies outside of the image, so losses have to know it in any case.
        """
        if self.labels.ignored is not None:
            return self.labels.ignored
        return 255 if len(self.labels) <= 255 else -1

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "SegmentationData": ...
    def __getitem__(self, index: int | slice) -> "Sample | SegmentationData":
        """Reads one sample; a slice gives the data of these samples and reads nothing.

        Raises:
            DataError: the mask holds an id that the labels do not know, or has another size than the image.
            ImageError: a file is missing or damaged.
        """
        if isinstance(index, slice):
            return self._with(self.items[index], self.title)
        item = self.items[index]
        image, mask = read_image(item.image), self.mask(index)
        if mask.shape != image.shape[:2]:
            raise DataError(
                f"{item.mask} is {mask.shape[1]} x {mask.shape[0]} and its image {item.image} "
                f"{image.shape[1]} x {image.shape[0]} (width x height). A mask has the size of its image."
            )
        # A copy, since what Pillow gives must not be written to, and augmentation may.
        return Sample(np.array(image), mask, item.name)

    def mask(self, index: int) -> NDArray[Any]:
        """The mask of one sample, as the sample has it; its image is not read.

        Raises:
            DataError: it holds an id that the labels do not know, or cannot be read.
        """
        item = self.items[index]
        mask = check_ids(self._read_mask(item.mask, self.labels), item.mask, self.labels)
        small = len(self.labels) <= 256 and 0 <= self.ignored <= 255
        return np.array(mask, np.uint8 if small else np.int32)

    def select(self, select: str | Sequence[str] = (), exclude: str | Sequence[str] = ()) -> "SegmentationData":
        """The samples whose name matches a pattern of `select` (any, where there is none) and none of `exclude`.

        Patterns are those of a shell: "0001TP*" is a drive of CamVid. Leaving one drive out for validation:
        `data.select(exclude="0001TP*")` and `data.select("0001TP*")`.

        Raises:
            DataError: a pattern matches no name, or nothing is left.
        """
        wanted, unwanted = _patterns("select", select), _patterns("exclude", exclude)
        for pattern in (*wanted, *unwanted):
            if not any(fnmatchcase(name, pattern) for name in self.names):
                raise DataError(
                    f"No image of {self.title} matches {pattern!r}. Names are such as {self.names[0]!r} and "
                    f"{self.names[-1]!r}; * stands for any letters."
                )
        kept = [
            item
            for item in self.items
            if (not wanted or any(fnmatchcase(item.name, one) for one in wanted))
            and not any(fnmatchcase(item.name, one) for one in unwanted)
        ]
        if not kept:
            raise DataError(f"Nothing of {self.title} is left: select={wanted}, exclude={unwanted}.")
        return self._with(kept, self.title)

    def _with(self, items: Iterable[Item], title: str) -> "SegmentationData":
        return SegmentationData(items, self.labels, title, self._read_mask)


class TrainingSet(torch.utils.data.Dataset[dict[str, Any]]):
    """What a torch DataLoader takes: samples, augmented, as tensors.

    What is drawn for a sample depends on the seed, the epoch and the sample alone, and not on which worker draws it:
    a run that is resumed, or that has other workers, sees the same pixels. That holds for all that draws from torch's
    generator; a callable with a generator of its own sees to itself.

    Args:
        data: what to read.
        augment: any callable (image, mask) -> (image, mask) of numpy arrays, such as `Augmentation`; None for none.
        seed: of what is drawn.
        weigh: a callable mask -> weights (H, W), float32, such as `borders.BorderWeights`; None for none.
    """

    def __init__(
        self,
        data: SegmentationData,
        augment: Augment | None = None,
        seed: int = 0,
        weigh: Callable[[NDArray[Any]], NDArray[np.float32]] | None = None,
    ) -> None:
        self.data = data
        self.augment = augment
        self.weigh = weigh
        self._seed = seed
        # Shared memory: workers that outlive an epoch have copies of everything else.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Has each sample augmented in another way; for the loader's next pass, persistent workers or not."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample: "image" uint8 (H, W, 3), as `model.normalise` takes it in batches, "mask" (H, W), "name".

        With `weigh` also "weights", float32 (H, W).

        Raises:
            OptionError: `augment` gave something else than an image and a mask of one size.
            DataError, ImageError: the sample cannot be read.
        """
        sample = self.data[index]
        image, mask = sample.image, sample.mask
        if self.augment is not None:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(_mixed(self._seed, int(self._epoch[0]), index % len(self)))
                image, mask = _checked(self.augment(image, mask), self.augment)
        batch = {"image": torch.from_numpy(image), "mask": torch.from_numpy(mask), "name": sample.name}
        if self.weigh is not None:
            batch["weights"] = torch.from_numpy(np.ascontiguousarray(self.weigh(mask), np.float32))
        return batch


class PaddedBatch:
    """A DataLoader's `collate_fn` for images of several sizes: padded on the right and below to the largest.

    Args:
        ignored: what the masks are padded with (`SegmentationData.ignored`); images and weights get 0.
    """

    def __init__(self, ignored: int) -> None:
        self.ignored = ignored

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        height = max(sample["mask"].shape[0] for sample in samples)
        width = max(sample["mask"].shape[1] for sample in samples)
        batch: dict[str, Any] = {"name": [sample["name"] for sample in samples]}
        for key in samples[0].keys() - {"name"}:
            values: list[Tensor] = [sample[key] for sample in samples]
            fill = self.ignored if key == "mask" else 0
            padded = values[0].new_full((len(values), height, width, *values[0].shape[2:]), fill)
            for row, value in zip(padded, values, strict=True):
                row[: value.shape[0], : value.shape[1]] = value
            batch[key] = padded
        return batch


def _patterns(name: str, patterns: str | Sequence[str]) -> tuple[str, ...]:
    several = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    if not all(isinstance(one, str) for one in several):
        raise OptionError(f"{name} takes patterns of names such as '0001TP*', not {patterns!r}.")
    return several


def _mixed(*parts: int) -> int:
    # numpy's own way to make one seed of several: neighbouring epochs and samples get unrelated ones.
    return int(np.random.SeedSequence([part % 2**64 for part in parts]).generate_state(1, np.uint64)[0]) % 2**63


def _checked(result: Any, augment: Any) -> tuple[Pixels, NDArray[Any]]:
    try:
        image, mask = (np.asarray(one) for one in result)
    except (TypeError, ValueError):
        raise OptionError(f"{augment!r} takes (image, mask) and has to return (image, mask).") from None
    if image.dtype != np.uint8 or image.ndim != 3 or mask.shape != image.shape[:2] or mask.dtype.kind not in "iu":
        raise OptionError(
            f"{augment!r} has to return a uint8 image (H, W, 3) and an integer mask (H, W), "
            f"not {image.dtype} {image.shape} and {mask.dtype} {mask.shape}."
        )
    # torch has no negative strides, which numpy's flips leave.
    return np.ascontiguousarray(image), np.ascontiguousarray(mask)
