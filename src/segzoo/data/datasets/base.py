"""What readers of data sets have in common: what they say of themselves, and pairing images with masks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from segzoo.data.dataset import Item, SegmentationData
from segzoo.data.images import list_images
from segzoo.errors import DataError, unknown


@dataclass(frozen=True)
class Reader:
    """A data set that `open_data` opens by name.

    Attributes:
        read: a function of the root folder and the split.
        splits: the splits that there are, the one to train on first; none where the folders decide.
        layout: what has to be where below the root.
        source: where to get it.
    """

    read: Callable[[Path, str], SegmentationData]
    splits: tuple[str, ...]
    layout: str
    source: str


def require(root: Path, *places: str) -> None:
    """Makes sure that files or folders are there.

    Raises:
        DataError: the first that is missing.
    """
    for place in places:
        if not (root / place).exists():
            raise DataError(f"There is no {root / place}.")


def paired(images: Path, masks: Path) -> list[Item]:
    """An item for each image of a folder and the mask of the same name in another; endings may differ.

    Names are paths below the folder without the ending, with forward slashes.

    Raises:
        DataError: an image without a mask, a mask without an image, or two of one name.
        ImageError: a folder is missing or empty.
    """
    found, labelled = by_name(images, list_images(images)), by_name(masks, list_images(masks))
    lonely = sorted(found.keys() ^ labelled.keys())
    if lonely:
        here, there = (images, masks) if lonely[0] in found else (masks, images)
        more = f" The same goes for {len(lonely) - 1} more." if len(lonely) > 1 else ""
        raise DataError(f"{lonely[0]!r} is in {here}, and nothing of that name in {there}.{more}")
    return [Item(name, path, labelled[name]) for name, path in found.items()]


def by_name(folder: Path, files: Iterable[Path]) -> dict[str, Path]:
    """Files by their path below `folder` without the ending.

    Raises:
        DataError: two of one name.
    """
    named: dict[str, Path] = {}
    for path in files:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            raise DataError(f"{named[name]} and {path} have one name. Rename one.")
        named[name] = path
    return named


def split_of(name: str, split: str, splits: Iterable[str]) -> str:
    """The split, if it is one of `splits`.

    Raises:
        UnknownNameError: it is none.
    """
    known = tuple(splits)
    if split not in known:
        raise unknown(f"split of {name}", split, known, f"Its splits are {', '.join(known)}.")
    return split
