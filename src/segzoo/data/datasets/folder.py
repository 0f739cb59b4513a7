"""Your own data: a folder of images, a folder of masks, and a file that names the classes.

    classes.json            {"names": ["sky", "road"], "palette": [[70, 130, 180], [128, 64, 128]], "ignore_index": 255}
    train/images/one.jpg
    train/masks/one.png     ids in a gray or palette image, or the colors of classes.json

Without a folder for each split, images/ and masks/ are in the root folder, and the split is "all".
"""

from pathlib import Path

from segzoo import class_files
from segzoo.classes import ClassSet
from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets.base import Reader, check_split, pair_files, require_paths
from segzoo.errors import DataError, OptionError


def read_folder(root: Path, split: str) -> SegmentationData:
    """The images of one split, or of the only split, "all".

    Raises:
        DataError: a folder or classes.json is missing or invalid, or images and masks do not match.
        UnknownNameError: an unknown split.
    """
    classes = read_classes(root / "classes.json")
    splits = sorted(path.parent.name for path in root.glob("*/images"))
    if not splits:
        require_paths(root, "images", "masks")
        splits = ["all"]
    base = root if check_split("this folder", split, splits) == "all" and "all" not in _folders(root) else root / split
    require_paths(base, "images", "masks")
    return SegmentationData(pair_files(base / "images", base / "masks"), classes, f"{root.name} {split}")


def read_classes(path: Path) -> ClassSet:
    """The class set in classes.json; the palette is optional.

    Raises:
        DataError: the file is missing, or does not describe a class set.
    """
    if not path.exists():
        raise DataError(
            f'There is no {path}. Name the classes in it: {{"names": ["sky", "road"], "ignore_index": 255}}; "palette" '
            "is optional, with three numbers 0-255 per class."
        )
    try:
        return class_files.read_classes(path)
    except OptionError as error:
        raise DataError(str(error)) from None


def _folders(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir()}


FOLDER = Reader(
    read_folder,
    splits=(),
    layout="classes.json, and SPLIT/images with SPLIT/masks (or images and masks: the split is 'all')",
    source="your own",
)
