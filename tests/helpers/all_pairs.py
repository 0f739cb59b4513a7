"""The kernels of the dense CRF as full matrices, for images of a few thousand pixels."""

import numpy as np


def normalized(features: np.ndarray) -> np.ndarray:
    f = features.astype(np.float64)
    squares = (f**2).sum(1)
    kernel = np.exp(-np.maximum(squares[:, None] + squares - 2 * f @ f.T, 0) / 2)
    scale = 1 / np.sqrt(kernel.sum(1))
    return kernel * scale[:, None] * scale


def positions(height: int, width: int, theta: float) -> np.ndarray:
    return np.mgrid[:height, :width].reshape(2, -1).T / theta


def appearance(image: np.ndarray, theta_alpha: float, theta_beta: float) -> np.ndarray:
    coordinates = positions(*image.shape[:2], theta_alpha)
    return normalized(np.concatenate([coordinates, image.reshape(-1, 3) / theta_beta], 1))
