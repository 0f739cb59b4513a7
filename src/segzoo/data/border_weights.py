"""U-Net's weight map: higher loss weights in narrow gaps between objects, so that a network learns to separate them.

Ronneberger, Fischer, Brox: U-Net, arXiv 1505.04597, equation 2.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo._arguments import explained
from segzoo.errors import OptionError


class BorderWeights:
    """A callable mask (H, W) -> weights (H, W), float32: w_c(x) + w0 * exp(-(d1(x) + d2(x))^2 / (2 sigma^2)).

    d1 and d2 are the distances of a background pixel to the nearest and the second nearest object. Pixels of other
    classes, and images with fewer than two objects, have the weight w_c alone. An object is a 4-connected region of one
    class.

    With TrainingSet(data, augment, pixel_weights=BorderWeights(data.ignore_index)), each batch contains "weights".

    Args:
        ignore_index: the id that is neither an object nor background; its pixels have weight 0.
        w0: the additional weight of a gap of zero width.
        sigma: in pixels; at d1 + d2 = 2 sigma the additional weight has fallen to 14 %.
        background: the id of the class between the objects.
        class_weights: w_c, one weight per class; None means 1 for each.

    Raises:
        OptionError: w0 or sigma is not above 0.
    """

    @explained
    def __init__(
        self,
        ignore_index: int,
        *,
        w0: float = 10.0,
        sigma: float = 5.0,
        background: int = 0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        if not (w0 > 0 and sigma > 0):
            raise OptionError(f"w0 and sigma of the border weights must be above 0, not {w0} and {sigma}.")
        self.ignore_index = ignore_index
        self.w0 = w0
        self.sigma = sigma
        self.background = background
        self.class_weights = None if class_weights is None else np.asarray(class_weights, np.float32)

    def __call__(self, mask: NDArray[Any]) -> NDArray[np.float32]:
        """The weights (H, W) for a mask of class ids (H, W)."""
        valid = mask != self.ignore_index
        if self.class_weights is None:
            weights = np.ones(mask.shape, np.float32)
        else:
            weights = self.class_weights[np.where(valid, mask, 0)]
        nearest, second = self._distances(mask)
        gap = np.exp(-((nearest + second) ** 2) / (2 * self.sigma**2))
        weights = weights + np.where(mask == self.background, self.w0 * gap, 0)
        return np.where(valid, weights, 0).astype(np.float32)

    def _distances(self, mask: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The distance of each pixel to the nearest and the second nearest object; infinite if there is none nearby."""
        from scipy import ndimage

        # Beyond this distance the additional weight is below w0 * 2e-14, so each object needs only its surroundings.
        reach = math.ceil(8 * self.sigma)
        nearest = np.full(mask.shape, np.inf, np.float32)
        second = nearest.copy()
        for class_id in np.unique(mask):
            if class_id in (self.ignore_index, self.background):
                continue
            objects, _ = ndimage.label(mask == class_id)
            for number, box in enumerate(ndimage.find_objects(objects), 1):
                window = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in box)
                distance = ndimage.distance_transform_edt(objects[window] != number).astype(np.float32)
                second[window] = np.minimum(second[window], np.maximum(nearest[window], distance))
                nearest[window] = np.minimum(nearest[window], distance)
        return nearest, second
