"""What the readers of data sets share: their description, and matching images with masks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from segzoo.data.dataset import Item, SegmentationData
from segzoo.data.images import scan
from segzoo.errors import DataError, some, unknown


@dataclass(frozen=True)
class Reader:
    """A data set that `open_data` opens by name.

    Attributes:
        read: a function of the root folder and the split.
        splits: the available splits, the one to train on first; empty if the folders define them.
        layout: the files expected below the root.
        source: where to download it.
    """

    read: Callable[[Path, str], SegmentationData]
    splits: tuple[str, ...]
    layout: str
    source: str


def require_paths(root: Path, *paths: str) -> None:
    """Checks that files or folders exist below `root`.

    Raises:
        DataError: names the first that is missing.
    """
    for path in paths:
        if not (root / path).exists():
            raise DataError(f"There is no {root / path}.")


def pair_files(images: Path, masks: Path) -> list[Item]:
    """One item per image in a folder, with the mask of the same name in another folder; suffixes may differ.

    Names are paths relative to the folder, without the suffix and with forward slashes.

    Raises:
        DataError: an image has no mask, a mask has no image, or two files have the same name.
        ImageError: a folder is missing or empty.
    """
    (image_paths, skipped_images), (mask_paths, skipped_masks) = scan(images), scan(masks)
    image_files, mask_files = files_by_name(images, image_paths), files_by_name(masks, mask_paths)
    unpaired = sorted(image_files.keys() ^ mask_files.keys())
    if unpaired:
        folder, other = (images, masks) if unpaired[0] in image_files else (masks, images)
        more = f" {len(unpaired) - 1} more have no partner." if len(unpaired) > 1 else ""
        skipped = skipped_masks if other == masks else skipped_images
        raise DataError(
            f"{unpaired[0]!r} is in {folder}, but {other} contains no image of that name.{more} {skipped}".rstrip()
        )
    return [Item(name, path, mask_files[name]) for name, path in image_files.items()]


def files_by_name(folder: Path, files: Iterable[Path]) -> dict[str, Path]:
    """Files by their path relative to `folder`, without the suffix.

    Raises:
        DataError: two files have the same name.
    """
    named: dict[str, Path] = {}
    for path in files:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            raise DataError(f"{named[name]} and {path} have the same name. Rename one.")
        named[name] = path
    return named


def check_split(name: str, split: str, splits: Iterable[str]) -> str:
    """Returns the split if it is one of `splits`.

    Raises:
        UnknownNameError: it is not.
    """
    known = tuple(splits)
    if split not in known:
        raise unknown(f"split of {name}", split, known, f"Its splits are {some(known, 20)}.")
    return split
