"""Files of small images and masks, for tests that read data sets."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    """A random picture of (height, width), and its pixels as they are in the file if that is a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def write_mask(path: Path, ids: np.ndarray) -> np.ndarray:
    """A gray picture of ids, or an RGB one of colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids.astype(np.uint8)).save(path)
    return ids


def random_ids(classes: int, seed: int = 0, size: tuple[int, int] = (12, 16), ignored: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, classes, size)
    return ids if ignored is None else np.where(rng.random(size) < 0.2, ignored, ids)
