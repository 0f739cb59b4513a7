"""The Semantic Drone Dataset of TU Graz: 400 images of 6000 x 4000 pixels from 5 to 30 meters above ground, 24 classes.

There is one split, "train", because the masks of the others are not public; use `select` for a validation set.
"""

import csv
from pathlib import Path

from segzoo.classes import ClassSet, class_set
from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets.base import Reader, pair_files, require_paths
from segzoo.errors import DataError, OptionError

_LAYOUTS = (
    # Images, masks and class table: the layout of TU Graz, and that of the copy on Kaggle (masks of ids).
    ("training_set/images", "training_set/gt/semantic/label_images", "training_set/gt/semantic/class_dict.csv"),
    ("original_images", "label_images_semantic", "class_dict_seg.csv"),
)


def read_drone(root: Path, split: str) -> SegmentationData:
    """All images; masks contain ids or the colors of the class table.

    The classes come from the table if there is one, otherwise from `class_set("drone")`.

    Raises:
        DataError: a folder is missing, the table is damaged, or images and masks do not match.
    """
    images, masks, table = next((layout for layout in _LAYOUTS if (root / layout[0]).is_dir()), _LAYOUTS[0])
    require_paths(root, images, masks)
    classes = read_classes(root / table) if (root / table).is_file() else class_set("drone")
    return SegmentationData(pair_files(root / images, root / masks), classes, f"drone {split}")


def read_classes(path: Path) -> ClassSet:
    """The class set in a CSV file: a header, then one class per line as name, red, green, blue (0-255).

    Raises:
        DataError: the file has another format.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            _, *rows = ([cell.strip() for cell in row] for row in csv.reader(file) if row)
        names = tuple(name for name, *_ in rows)
        colors = [(int(red), int(green), int(blue)) for _, red, green, blue in rows]
        return ClassSet(names, tuple(colors))
    except (ValueError, csv.Error, OptionError) as error:
        raise DataError(f"{path} is not a table of classes (name, r, g, b): {error}") from None


DRONE = Reader(
    read_drone,
    splits=("train",),
    layout="training_set with images and gt/semantic/label_images, or original_images and label_images_semantic",
    source="https://www.tugraz.at/index.php?id=22387",
)
