"""PASCAL VOC, Cityscapes and Oxford-IIIT Pet, with the file lists of torchvision's data sets.

Each expects the folder layout of torchvision, so torchvision's `download=True` (VOC, Pet) creates the folder to open.
"""

from pathlib import Path

from torchvision import datasets

from segzoo.classes import class_set
from segzoo.data.dataset import Item, SegmentationData
from segzoo.data.datasets.base import Reader, require_paths
from segzoo.data.masks import MaskReader, RemappedIds, read_mask
from segzoo.errors import DataError


def read_voc(root: Path, split: str) -> SegmentationData:
    """PASCAL VOC 2012, 21 classes; 255 marks borders and difficult areas.

    Everingham et al.: The PASCAL Visual Object Classes Challenge, IJCV 2010.

    Raises:
        DataError: the folder does not have torchvision's layout.
    """
    require_paths(root, f"VOCdevkit/VOC2012/ImageSets/Segmentation/{split}.txt")
    listing = datasets.VOCSegmentation(root, year="2012", image_set=split)
    return _data(zip(listing.images, listing.masks, strict=True), "voc", split)


def read_cityscapes(root: Path, split: str) -> SegmentationData:
    """The fine annotations of Cityscapes, in the 19 evaluated classes; all other ids become 255.

    Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, arXiv 1604.01685.

    Raises:
        DataError: the folder does not have torchvision's layout.
    """
    require_paths(root, f"leftImg8bit/{split}", f"gtFine/{split}")
    listing = datasets.Cityscapes(str(root), split=split, mode="fine", target_type="semantic")
    pairs = zip(listing.images, (targets[0] for targets in listing.targets), strict=True)
    limit = len(class_set("cityscapes"))
    table = {c.id: c.train_id if 0 <= c.train_id < limit else 255 for c in datasets.Cityscapes.classes if c.id >= 0}
    return _data(pairs, "cityscapes", split, RemappedIds(table), suffix="_leftImg8bit")


def read_pet(root: Path, split: str) -> SegmentationData:
    """The trimaps of Oxford-IIIT Pet: background and pet; the border between them is ignored.

    Parkhi, Vedaldi, Zisserman, Jawahar: Cats and Dogs, CVPR 2012.

    Raises:
        DataError: the folder does not have torchvision's layout.
    """
    base = "oxford-iiit-pet"
    require_paths(root, f"{base}/images", f"{base}/annotations/trimaps", f"{base}/annotations/{split}.txt")
    listing = datasets.OxfordIIITPet(root, split=split, target_types="segmentation")
    # Private attributes, because its public items are decoded images without a file name for error messages.
    return _data(zip(listing._images, listing._segs, strict=True), "pet", split, RemappedIds({1: 1, 2: 0, 3: 255}))


def _data(
    pairs: "zip[tuple[str | Path, str | Path]]",
    name: str,
    split: str,
    mask_reader: MaskReader = read_mask,
    suffix: str = "",
) -> SegmentationData:
    files = sorted((Path(image), Path(mask)) for image, mask in pairs)
    items = [Item(image.stem.removesuffix(suffix), image, mask) for image, mask in files]
    for item in items:
        if not item.mask.is_file() or not item.image.is_file():
            missing = item.image if item.mask.is_file() else item.mask
            raise DataError(f"There is no {missing}, which {name} {split} lists.")
    return SegmentationData(items, class_set(name), f"{name} {split}", mask_reader)


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
