"""Known data sets, by name: `open_data("camvid", "data/camvid", "train")`."""

import os
from collections.abc import Sequence
from pathlib import Path

from segzoo._arguments import explained
from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets.base import Reader, check_split
from segzoo.data.datasets.camvid import CAMVID
from segzoo.data.datasets.drone import DRONE
from segzoo.data.datasets.folder import FOLDER
from segzoo.data.datasets.lfw import LFW
from segzoo.data.datasets.vision import CITYSCAPES, PET, VOC
from segzoo.errors import DataError, ImageError, unknown

READERS: dict[str, Reader] = {
    "folder": FOLDER,
    "camvid": CAMVID,
    "voc": VOC,
    "cityscapes": CITYSCAPES,
    "pet": PET,
    "lfw": LFW,
    "drone": DRONE,
}


@explained
def open_data(
    name: str,
    root: str | os.PathLike[str],
    split: str | None = None,
    *,
    select: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
) -> SegmentationData:
    """Opens a data set. It reads only file names.

    Args:
        name: "camvid", "voc", "cityscapes", "pet", "lfw", "drone", or "folder" for your own.
        root: the folder of the data set.
        split: such as "train" or "val"; None selects the split to train on.
        select: patterns of the names to include, such as "0001TP*"; empty includes all.
        exclude: patterns of the names to leave out.

    Raises:
        UnknownNameError: an unknown data set or split; the message suggests similar names.
        DataError: the data is missing; the message describes the expected files and where to download them.
    """
    if name not in READERS:
        raise unknown("data set", name, READERS, f"Data sets are {', '.join(READERS)}.")
    reader, folder = READERS[name], Path(root)
    if split is None:
        split = reader.splits[0] if reader.splits else "train" if (folder / "train").is_dir() else "all"
    if reader.splits:
        check_split(name, split, reader.splits)
    try:
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}.")
        data = reader.read(folder, split)
    except (DataError, ImageError) as error:
        raise DataError(f"{error} {name} expects {reader.layout}. Source: {reader.source}.") from None
    return data.select(select, exclude) if select or exclude else data
