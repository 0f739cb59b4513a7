"""A contact sheet of augmentation: what the network is shown, for a person to look at before training on it."""

import numpy as np
import torch
from PIL import Image

from segzoo.data.dataset import Augment, SegmentationData, TrainingSet
from segzoo.errors import OptionError
from segzoo.visualize import overlay

_GAP = 6


def contact_sheet(
    data: SegmentationData, augment: Augment, *, rows: int = 4, columns: int = 4, width: int = 320, seed: int = 0
) -> Image.Image:
    """Images spread over the data, one a row: as it is, then augmented in several ways, with the masks laid over.

    Ignored pixels show the image as it is, and the legend names the classes of the whole sheet.

    Args:
        data: where the images come from.
        augment: any callable (image, mask) -> (image, mask).
        rows: how many images; no more than there are.
        columns: how many pictures of each, the unchanged one counted; at least 2.
        width: of a picture, in pixels; the height is that of the first image's shape.
        seed: of what is drawn.

    Returns:
        an RGB picture.

    Raises:
        OptionError: a number that makes no sheet.
        DataError, ImageError: a sample cannot be read.
    """
    if rows < 1 or columns < 2 or width < 8:
        raise OptionError(
            f"A contact sheet has at least 1 row and 2 columns of 8 pixels: not {rows}, {columns}, {width}."
        )
    rows = min(rows, len(data))
    plain, training = TrainingSet(data), TrainingSet(data, augment, seed)
    first = data.mask(0).shape
    height = max(8, round(width * first[0] / first[1]))
    pixels = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8)
    labels = np.full(pixels.shape[:2], -1, np.int32)
    for row in range(rows):
        index = row * len(data) // rows
        for column in range(columns):
            training.set_epoch(column)
            sample = (training if column else plain)[index]
            top, left = row * (height + _GAP), column * (width + _GAP)
            picture, mask = _fitted(sample["image"], sample["mask"], height, width)
            place = slice(top, top + picture.shape[0]), slice(left, left + picture.shape[1])
            pixels[place], labels[place] = picture, mask
    labels[labels == data.ignored] = -1
    return overlay(pixels, labels, data.labels)


def _fitted(image: torch.Tensor, mask: torch.Tensor, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Both scaled to fit into height x width, their shape kept."""
    high, wide = mask.shape
    factor = min(height / high, width / wide)
    size = (max(1, min(width, round(wide * factor))), max(1, min(height, round(high * factor))))
    picture = Image.fromarray(image.numpy()).resize(size, Image.Resampling.BILINEAR)
    ids = Image.fromarray(mask.numpy().astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    return np.asarray(picture), np.asarray(ids)
