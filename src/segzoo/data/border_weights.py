"""U-Net's weight map: pixels in narrow gaps between objects count more, so that a network learns to part them.

Ronneberger, Fischer, Brox: U-Net, arXiv 1505.04597, equation 2.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo.errors import OptionError


class BorderWeights:
    """A callable mask (H, W) -> weights (H, W), float32: w_c(x) + w0 * exp(-(d1(x) + d2(x))^2 / (2 sigma^2)).

    d1 and d2 are the distances of a background pixel to the nearest and to the second nearest object; elsewhere, and in
    an image of fewer than two objects, the weight is w_c alone. Objects are areas of one class that hang together by
    their pixels' sides.

    TrainingSet(data, augment, weigh=BorderWeights(data.ignored)) gives each batch its "weights".

    Args:
        ignored: the id that is neither an object nor background; its pixels weigh 0.
        w0: what a gap of no width weighs more.
        sigma: in pixels; at d1 + d2 = 2 sigma the additional weight has fallen to 14 %.
        background: the class between the objects.
        class_weights: w_c, one weight a class; None is 1 for each.

    Raises:
        OptionError: w0 or sigma is not above 0.
    """

    def __init__(
        self,
        ignored: int,
        *,
        w0: float = 10.0,
        sigma: float = 5.0,
        background: int = 0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        if not (w0 > 0 and sigma > 0):
            raise OptionError(f"w0 and sigma of the border weights are above 0, not {w0} and {sigma}.")
        self.ignored = ignored
        self.w0 = w0
        self.sigma = sigma
        self.background = background
        self.class_weights = None if class_weights is None else np.asarray(class_weights, np.float32)

    def __call__(self, mask: NDArray[Any]) -> NDArray[np.float32]:
        """Weights (H, W) of a mask of ids (H, W)."""
        valid = mask != self.ignored
        if self.class_weights is None:
            weights = np.ones(mask.shape, np.float32)
        else:
            weights = self.class_weights[np.where(valid, mask, 0)]
        nearest, second = self._distances(mask)
        between = np.exp(-((nearest + second) ** 2) / (2 * self.sigma**2))
        weights = weights + np.where(mask == self.background, self.w0 * between, 0)
        return np.where(valid, weights, 0).astype(np.float32)

    def _distances(self, mask: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of each pixel to the nearest and the second nearest object; infinite where they are out of reach."""
        from scipy import ndimage

        # Farther away the weight is below w0 * 2e-14, so that each object only matters around itself.
        reach = math.ceil(8 * self.sigma)
        nearest = np.full(mask.shape, np.inf, np.float32)
        second = nearest.copy()
        for index in np.unique(mask):
            if index in (self.ignored, self.background):
                continue
            objects, _ = ndimage.label(mask == index)
            for number, place in enumerate(ndimage.find_objects(objects), 1):
                around = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in place)
                distance = ndimage.distance_transform_edt(objects[around] != number).astype(np.float32)
                second[around] = np.minimum(second[around], np.maximum(nearest[around], distance))
                nearest[around] = np.minimum(nearest[around], distance)
        return nearest, second
