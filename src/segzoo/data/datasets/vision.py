"""PASCAL VOC, Cityscapes and Oxford-IIIT Pet: torchvision's data sets say which files there are.

Each wants its root as torchvision does, so that its `download=True` (VOC, Pet) makes the folder to open.
"""

from pathlib import Path

from torchvision import datasets

from segzoo.classes import label_set
from segzoo.data.dataset import Item, SegmentationData
from segzoo.data.datasets.base import Reader, require
from segzoo.data.masks import IdsThrough, MaskReader, ids_of
from segzoo.errors import DataError


def read_voc(root: Path, split: str) -> SegmentationData:
    """PASCAL VOC 2012, 21 classes; 255 marks borders and what is hard to tell.

    Everingham et al.: The PASCAL Visual Object Classes Challenge, IJCV 2010.

    Raises:
        DataError: the folder is not as torchvision wants it.
    """
    require(root, f"VOCdevkit/VOC2012/ImageSets/Segmentation/{split}.txt")
    found = datasets.VOCSegmentation(root, year="2012", image_set=split)
    return _of(zip(found.images, found.masks, strict=True), "voc", split)


def read_cityscapes(root: Path, split: str) -> SegmentationData:
    """Cityscapes' fine annotations, in the 19 classes that are evaluated; all other ids become 255.

    Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, arXiv 1604.01685.

    Raises:
        DataError: the folder is not as torchvision wants it.
    """
    require(root, f"leftImg8bit/{split}", f"gtFine/{split}")
    found = datasets.Cityscapes(str(root), split=split, mode="fine", target_type="semantic")
    pairs = zip(found.images, (targets[0] for targets in found.targets), strict=True)
    classes = len(label_set("cityscapes"))
    table = {c.id: c.train_id if 0 <= c.train_id < classes else 255 for c in datasets.Cityscapes.classes if c.id >= 0}
    return _of(pairs, "cityscapes", split, IdsThrough(table), ending="_leftImg8bit")


def read_pet(root: Path, split: str) -> SegmentationData:
    """Oxford-IIIT Pet's trimaps: background and pet; the border between them, which is neither, is ignored.

    Parkhi, Vedaldi, Zisserman, Jawahar: Cats and Dogs, CVPR 2012.

    Raises:
        DataError: the folder is not as torchvision wants it.
    """
    base = "oxford-iiit-pet"
    require(root, f"{base}/images", f"{base}/annotations/trimaps", f"{base}/annotations/{split}.txt")
    found = datasets.OxfordIIITPet(root, split=split, target_types="segmentation")
    # Only its items are public, and these are decoded images, of which no message could name the file.
    return _of(zip(found._images, found._segs, strict=True), "pet", split, IdsThrough({1: 1, 2: 0, 3: 255}))


def _of(
    pairs: "zip[tuple[str | Path, str | Path]]",
    name: str,
    split: str,
    mask_reader: MaskReader = ids_of,
    ending: str = "",
) -> SegmentationData:
    files = sorted((Path(image), Path(mask)) for image, mask in pairs)
    items = [Item(image.stem.removesuffix(ending), image, mask) for image, mask in files]
    for item in items:
        if not item.mask.is_file() or not item.image.is_file():
            missing = item.image if item.mask.is_file() else item.mask
            raise DataError(f"There is no {missing}, which {name} {split} lists.")
    return SegmentationData(items, label_set(name), f"{name} {split}", mask_reader)


VOC = Reader(
    read_voc,
    splits=("train", "val", "trainval"),
    layout="VOCdevkit/VOC2012 with JPEGImages, SegmentationClass and ImageSets/Segmentation",
    source="torchvision.datasets.VOCSegmentation(root, download=True)",
)

CITYSCAPES = Reader(
    read_cityscapes,
    splits=("train", "val"),
    layout="leftImg8bit/SPLIT/CITY and gtFine/SPLIT/CITY",
    source="https://www.cityscapes-dataset.com/downloads/, leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip",
)

PET = Reader(
    read_pet,
    splits=("trainval", "test"),
    layout="oxford-iiit-pet with images and annotations",
    source="torchvision.datasets.OxfordIIITPet(root, download=True)",
)
