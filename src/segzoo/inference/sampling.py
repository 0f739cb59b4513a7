"""Monte Carlo dropout: the mean and the variance of random predictions.

Gal and Ghahramani, arXiv 1506.02142; Kendall, Badrinarayanan, Cipolla: Bayesian SegNet, arXiv 1511.02680, section 3.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

MAX_BATCH_PIXELS = 2**20
"""Pixels of all samples that run together; six samples of 360 x 480."""


def mean_and_variance(
    sample: Callable[[int], Floats], samples: int, size: tuple[int, int], batch_size: int | None = None
) -> tuple[Floats, Floats]:
    """The mean over `samples` random predictions, and each probability's variance, both float32 (K, H, W).

    The variance is the mean squared deviation, 0-0.25; the paper's uncertainty map is its mean over the classes.

    Args:
        sample: a function that returns that many samples, float32 (n, K, H, W).
        size: (height, width) of the image.
        batch_size: how many samples one call returns; None chooses by `MAX_BATCH_PIXELS`.
    """
    limit = batch_size or max(1, MAX_BATCH_PIXELS // (size[0] * size[1]))
    # Welford's algorithm: the variance of equal samples is exactly zero, and only two maps are stored.
    mean = squares = np.zeros((1, 1, 1), np.float32)
    count = 0
    while count < samples:
        for probabilities in sample(min(limit, samples - count))[: samples - count]:
            count += 1
            deviation = probabilities - mean
            mean = mean + deviation / np.float32(count)
            squares = squares + deviation * (probabilities - mean)
    return mean, np.maximum(squares / np.float32(samples), np.float32(0))
