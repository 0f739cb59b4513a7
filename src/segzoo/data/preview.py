"""A contact sheet of augmented samples, to check an augmentation before training with it."""

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
    """One row per image, spread over the data: the original, then augmented versions, all overlaid with their masks.

    Ignored pixels are left without overlay. The legend names the classes of the whole sheet.

    Args:
        augment: any callable (image, mask) -> (image, mask).
        rows: the number of images, at most all.
        columns: the number of pictures per image, the original included; at least 2.
        width: the width of a picture in pixels; its height follows from the aspect ratio of the first image.
        seed: the seed of the augmentation.

    Returns:
        an RGB image.

    Raises:
        OptionError: rows, columns or width is too small.
        DataError, ImageError: a sample cannot be read.
    """
    if rows < 1 or columns < 2 or width < 8:
        raise OptionError(
            f"A contact sheet needs at least 1 row, 2 columns and a width of 8 pixels, not {rows}, {columns}, {width}."
        )
    rows = min(rows, len(data))
    plain, training = TrainingSet(data), TrainingSet(data, augment, seed)
    first = data.mask(0).shape
    height = max(8, round(width * first[0] / first[1]))
    pixels = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8)
    classes = np.full(pixels.shape[:2], -1, np.int32)
    for row in range(rows):
        index = row * len(data) // rows
        for column in range(columns):
            training.set_epoch(column)
            sample = (training if column else plain)[index]
            top, left = row * (height + _GAP), column * (width + _GAP)
            picture, mask = _fit(sample["image"], sample["mask"], height, width)
            window = slice(top, top + picture.shape[0]), slice(left, left + picture.shape[1])
            pixels[window], classes[window] = picture, mask
    classes[classes == data.ignore_index] = -1
    return overlay(pixels, classes, data.classes)


def _fit(image: torch.Tensor, mask: torch.Tensor, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales both to fit into height x width, with their aspect ratio preserved."""
    image_height, image_width = mask.shape
    factor = min(height / image_height, width / image_width)
    size = (max(1, min(width, round(image_width * factor))), max(1, min(height, round(image_height * factor))))
    picture = Image.fromarray(image.numpy()).resize(size, Image.Resampling.BILINEAR)
    ids = Image.fromarray(mask.numpy().astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    return np.asarray(picture), np.asarray(ids)
