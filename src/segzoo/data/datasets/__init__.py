"""Known data sets, by name: `open_data("camvid", "data/camvid", "train")`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from segzoo import _registry
from segzoo._arguments import explained
from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets.base import Reader, check_split
from segzoo.errors import DataError, ImageError

READERS: Mapping[str, Reader] = _registry.DATASETS.objects


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
        name: "camvid", "voc", "cityscapes", "pet", "lfw", "drone", "folder" for your own, or a registered one.
        root: the folder of the data set.
        split: such as "train" or "val"; None selects the split to train on.
        select: patterns of the names to include, such as "0001TP*"; empty includes all.
        exclude: patterns of the names to leave out.

    Raises:
        UnknownNameError: an unknown data set or split; the message suggests similar names.
        DataError: the data is missing; the message describes the expected files and where to download them.
    """
    reader: Reader = _registry.DATASETS.load(name)
    folder = Path(root)
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
