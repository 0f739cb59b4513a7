"""Your own data: a folder of images, a folder of masks, and a file that names the classes.

    labels.json             {"names": ["sky", "road"], "colours": [[70, 130, 180], [128, 64, 128]], "ignored": 255}
    train/images/one.jpg
    train/masks/one.png     ids in a gray or palette image, or the colours of labels.json

Without a folder for each split, images/ and masks/ stand at the top, and the split is "all".
"""

import json
from pathlib import Path

from segzoo.classes import LabelSet
from segzoo.data.dataset import SegmentationData
from segzoo.data.datasets.base import Reader, paired, require, split_of
from segzoo.errors import DataError, OptionError


def read_folder(root: Path, split: str) -> SegmentationData:
    """The images of one split, or of the only one, "all".

    Raises:
        DataError: a folder or labels.json is missing or wrong, or images and masks do not belong together.
        UnknownNameError: there is no such split.
    """
    labels = read_labels(root / "labels.json")
    splits = sorted(path.parent.name for path in root.glob("*/images"))
    if not splits:
        require(root, "images", "masks")
        splits = ["all"]
    base = root if split_of("this folder", split, splits) == "all" and "all" not in _folders(root) else root / split
    require(base, "images", "masks")
    return SegmentationData(paired(base / "images", base / "masks"), labels, f"{root.name} {split}")


def read_labels(path: Path) -> LabelSet:
    """The label set in a file of JSON, as `LabelSet.to_dict` gives it; colours may be left out.

    Raises:
        DataError: there is no such file, or it describes no label set.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict) and isinstance(record.get("names"), list):
            record.setdefault("colours", [list(colour) for colour in LabelSet.generic(len(record["names"])).colours])
        return LabelSet.from_dict(record)
    except FileNotFoundError:
        raise DataError(
            f'There is no {path}. It names the classes: {{"names": ["sky", "road"], "ignored": 255}}; "colours" may '
            "follow, three numbers 0-255 a class."
        ) from None
    except (ValueError, OptionError) as error:
        raise DataError(f"{path} describes no label set: {error}") from None


def _folders(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir()}


FOLDER = Reader(
    read_folder,
    splits=(),
    layout="labels.json, and SPLIT/images with SPLIT/masks (or images and masks: the split is 'all')",
    source="your own",
)
