"""LFW part classes: 2,927 faces of 250 x 250 pixels in background, skin and hair.

Kae, Sohn, Lee, Learned-Miller: Augmenting CRFs with Boltzmann Machine Shape Priors for Image Labeling, CVPR 2013.

The classes come as images (blue background, green skin, red hair), or as text files with a class for each superpixel
and a superpixel number for each pixel. If both exist, the images are used.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo._text import read_text
from segzoo.classes import ClassSet, class_set
from segzoo.data.dataset import Item, SegmentationData
from segzoo.data.datasets.base import Reader, require_paths
from segzoo.data.masks import read_mask
from segzoo.errors import DataError, quoted

_LISTS = {"train": "parts_train.txt", "val": "parts_validation.txt", "test": "parts_test.txt"}
_MAX_LINE = 200  # it becomes the name of a file, and a name of 256 bytes raises an OSError on most systems
_IMAGES = "lfw_funneled"
_MASK_IMAGES = "parts_lfw_funneled_gt_images"
_LABELS = "parts_lfw_funneled_gt"
_SUPERPIXELS = "parts_lfw_funneled_superpixels_mat"


def read_lfw(root: Path, split: str) -> SegmentationData:
    """The faces in the list of a split.

    Raises:
        DataError: a folder or the list is missing, or a line of the list is not a name and a number.
    """
    require_paths(root, _LISTS[split], _IMAGES)
    has_images = (root / _MASK_IMAGES).is_dir()
    if not has_images:
        require_paths(root, _LABELS, _SUPERPIXELS)
    items = []
    list_file = root / _LISTS[split]
    try:
        lines = read_text(list_file).splitlines()
    except ValueError as error:
        raise DataError(f"{list_file} is not a list of faces: {error}. Download the file again.") from None
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) < 2 or not fields[1].isdigit() or len(line) > _MAX_LINE:
            raise DataError(f"Line {number} of {list_file} is {quoted(line)}, not a person's name and an image number.")
        person, name = fields[0], f"{fields[0]}_{fields[1].zfill(4)}"
        mask = root / _MASK_IMAGES / f"{name}.ppm" if has_images else root / _LABELS / person / f"{name}.dat"
        items.append(Item(name, root / _IMAGES / person / f"{name}.jpg", mask))
    return SegmentationData(items, class_set("lfw"), f"lfw {split}", read_mask if has_images else read_superpixel_mask)


def read_superpixel_mask(path: Path, classes: ClassSet) -> NDArray[Any]:
    """The ids (H, W), from a file with the number of superpixels and one class per line, and from a superpixel map.

    Raises:
        DataError: a file is missing or damaged, or a superpixel has no class.
    """
    map_path = path.parents[2] / _SUPERPIXELS / path.parent.name / path.name
    count, *class_ids = _read_integers(path).ravel().tolist()
    superpixels = _read_integers(map_path)
    if count != len(class_ids):
        raise DataError(f"{path} declares {count} superpixels but has {len(class_ids)} classes. Download it again.")
    if superpixels.min() < 0 or superpixels.max() >= count:
        raise DataError(
            f"{map_path} contains the superpixel {superpixels.max()}, but {path} has classes for 0-{count - 1}. "
            "Download both files again."
        )
    ids: NDArray[Any] = np.array(class_ids)[superpixels]
    return ids


def _read_integers(path: Path) -> NDArray[np.int64]:
    try:
        return np.loadtxt(path, np.int64, ndmin=2)
    except OSError:
        raise DataError(f"There is no {path}.") from None
    except ValueError as error:
        raise DataError(f"{path} is not a table of integers: {error}. Download the file again.") from None


LFW = Reader(
    read_lfw,
    splits=("train", "val", "test"),
    layout=f"{_IMAGES}, {_MASK_IMAGES} (or {_LABELS} and {_SUPERPIXELS}) and {', '.join(_LISTS.values())}",
    source="http://vis-www.cs.umass.edu/lfw/part_labels/ and lfw-funneled.tgz",
)
