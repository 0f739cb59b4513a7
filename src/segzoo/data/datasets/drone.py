"""The Semantic Drone Dataset of TU Graz: 400 pictures of 6000 x 4000 pixels from 5 to 30 metres above, 24 classes.

There is one split, "train", since the labels of the others were kept back; `select` makes a validation part.
"""

import csv
from pathlib import Path

from segzoo.classes import LabelSet, label_set
from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets.base import Reader, paired, require
from segzoo.errors import DataError, OptionError

_LAYOUTS = (
    # Images, masks, table of classes: as TU Graz packs it, and as Kaggle's copy does (masks of ids).
    ("training_set/images", "training_set/gt/semantic/label_images", "training_set/gt/semantic/class_dict.csv"),
    ("original_images", "label_images_semantic", "class_dict_seg.csv"),
)


def read_drone(root: Path, split: str) -> SegmentationData:
    """All pictures; masks hold ids or the colours of the table of classes.

    The table gives the classes where it is there; otherwise they are those of `label_set("drone")`.

    Raises:
        DataError: a folder is missing, the table is damaged, or images and masks do not belong together.
    """
    images, masks, table = next((one for one in _LAYOUTS if (root / one[0]).is_dir()), _LAYOUTS[0])
    require(root, images, masks)
    labels = read_classes(root / table) if (root / table).is_file() else label_set("drone")
    return SegmentationData(paired(root / images, root / masks), labels, f"drone {split}")


def read_classes(path: Path) -> LabelSet:
    """The label set in a table: a line of headings, then a class a line as name, red, green, blue (0-255).

    Raises:
        DataError: the file is no such table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            _, *rows = ([word.strip() for word in row] for row in csv.reader(file) if row)
        names = tuple(name for name, *_ in rows)
        colours = [(int(red), int(green), int(blue)) for _, red, green, blue in rows]
        return LabelSet(names, tuple(colours))
    except (ValueError, csv.Error, OptionError) as error:
        raise DataError(f"{path} is no table of classes (name, r, g, b): {error}") from None


DRONE = Reader(
    read_drone,
    splits=("train",),
    layout="training_set with images and gt/semantic/label_images, or original_images and label_images_semantic",
    source="https://www.tugraz.at/index.php?id=22387",
)
