"""LFW part labels: 2,927 faces of 250 x 250 pixels in background, skin and hair.

Kae, Sohn, Lee, Learned-Miller: Augmenting CRFs with Boltzmann Machine Shape Priors for Image Labeling, CVPR 2013.

The labels come as images (blue background, green skin, red hair), or as a label for each superpixel beside the
superpixels' numbers, both as text. Where both are there, images are taken.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo.classes import LabelSet, label_set
from segzoo.data.dataset import Item, SegmentationData
from segzoo.data.datasets.base import Reader, require
from segzoo.data.masks import ids_of
from segzoo.errors import DataError

_LISTS = {"train": "parts_train.txt", "val": "parts_validation.txt", "test": "parts_test.txt"}
_IMAGES = "lfw_funneled"
_PICTURES = "parts_lfw_funneled_gt_images"
_LABELS = "parts_lfw_funneled_gt"
_SUPERPIXELS = "parts_lfw_funneled_superpixels_mat"


def read_lfw(root: Path, split: str) -> SegmentationData:
    """The faces that the list of a split names.

    Raises:
        DataError: a folder or the list is missing, or a line of the list is not a name and a number.
    """
    require(root, _LISTS[split], _IMAGES)
    pictures = (root / _PICTURES).is_dir()
    if not pictures:
        require(root, _LABELS, _SUPERPIXELS)
    items = []
    listing = root / _LISTS[split]
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) < 2 or not words[1].isdigit():
            raise DataError(f"Line {number} of {listing} is {line!r}, not a person's name and the number of a picture.")
        person, name = words[0], f"{words[0]}_{words[1].zfill(4)}"
        mask = root / _PICTURES / f"{name}.ppm" if pictures else root / _LABELS / person / f"{name}.dat"
        items.append(Item(name, root / _IMAGES / person / f"{name}.jpg", mask))
    return SegmentationData(items, label_set("lfw"), f"lfw {split}", ids_of if pictures else ids_of_superpixels)


def ids_of_superpixels(path: Path, labels: LabelSet) -> NDArray[Any]:
    """Ids (H, W) from the labels of superpixels, a number a line after their count, and from where these lie.

    Raises:
        DataError: a file is missing or damaged, or there is a superpixel without a label.
    """
    places = path.parents[2] / _SUPERPIXELS / path.parent.name / path.name
    count, *given = _numbers(path).ravel().tolist()
    superpixels = _numbers(places)
    if count != len(given):
        raise DataError(f"{path} says {count} superpixels and has {len(given)} labels. Fetch the file again.")
    if superpixels.min() < 0 or superpixels.max() >= count:
        raise DataError(f"{places} numbers a superpixel {superpixels.max()}, and {path} has labels for 0-{count - 1}.")
    ids: NDArray[Any] = np.array(given)[superpixels]
    return ids


def _numbers(path: Path) -> NDArray[np.int64]:
    try:
        return np.loadtxt(path, np.int64, ndmin=2)
    except OSError:
        raise DataError(f"There is no {path}.") from None
    except ValueError as error:
        raise DataError(f"{path} is no table of whole numbers: {error}. Fetch the file again.") from None


LFW = Reader(
    read_lfw,
    splits=("train", "val", "test"),
    layout=f"{_IMAGES}, {_PICTURES} (or {_LABELS} and {_SUPERPIXELS}) and {', '.join(_LISTS.values())}",
    source="http://vis-www.cs.umass.edu/lfw/part_labels/ and lfw-funneled.tgz",
)
