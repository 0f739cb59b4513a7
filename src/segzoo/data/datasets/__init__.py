"""Known data sets, by name: `open_data("camvid", "data/camvid", "train")`."""

import os
from collections.abc import Sequence
from pathlib import Path

from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets.base import Reader, split_of
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


def open_data(
    name: str,
    root: str | os.PathLike[str],
    split: str | None = None,
    *,
    select: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
) -> SegmentationData:
    """Opens a data set; nothing is read but names.

    Args:
        name: "camvid", "voc", "cityscapes", "pet", "lfw", "drone", or "folder" for your own.
        root: the folder that it lies in.
        split: such as "train" or "val"; None is the one to train on.
        select: patterns of names to take, such as "0001TP*"; none takes all.
        exclude: patterns of names to leave out.

    Raises:
        UnknownNameError: no such data set or split; near names are suggested.
        DataError: it is not there; the message says what belongs where, and where to get it.
    """
    if name not in READERS:
        raise unknown("data set", name, READERS, f"Data sets are {', '.join(READERS)}.")
    reader, folder = READERS[name], Path(root)
    if split is None:
        split = reader.splits[0] if reader.splits else "train" if (folder / "train").is_dir() else "all"
    if reader.splits:
        split_of(name, split, reader.splits)
    try:
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}.")
        data = reader.read(folder, split)
    except (DataError, ImageError) as error:
        raise DataError(f"{error} {name} takes {reader.layout}. Source: {reader.source}.") from None
    return data.select(select, exclude) if select or exclude else data
