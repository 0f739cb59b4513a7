"""Gaussian filtering of scattered points in linear time: the permutohedral lattice.

Adams, Baek, Davis: Fast High-Dimensional Filtering Using the Permutohedral Lattice, Eurographics 2010. Each point is
distributed over the d + 1 corners of its enclosing simplex (splat), the corners are blurred along the d + 1 axes of the
lattice, and each point interpolates the values of its corners (slice). All three steps are sparse matrices here.

Two differences from the paper:

- To spread from one occupied corner to another, blurring needs the unoccupied corners between them. The paper omits all
  unoccupied corners and loses what would have passed through them. Here, an unoccupied corner is added if at least two
  of its neighbors are occupied. This uses two to three times as many corners and reduces the largest errors by 50 to
  90 %.
- Because corners are missing, the result depends on the order of the axes, and the filter is not quite symmetric. The
  mean over an order and its reverse is symmetric.

For 600 points from a normal distribution in five dimensions, the error is 15 % for a single weight, in the root mean
square, and 6 % for the sum of a point's weights; in two dimensions 7 % and 3 %.
"""

import numpy as np
import numpy.typing as npt

from segzoo._optional import CRF, needs
from segzoo.errors import OptionError

with needs("The dense CRF", CRF):
    from scipy import sparse

Floats = npt.NDArray[np.float32]
_Integers = npt.NDArray[np.int64]
_Doubles = npt.NDArray[np.float64]

# Points processed at a time when locating corners. Limits memory, and is fast because the data fits into the cache.
_CHUNK = 1 << 15


class Lattice:
    """Filters values at scattered points with a Gaussian of the distance between the points; reusable.

    Args:
        features: float32 (points, d), positions in units of the Gaussian's standard deviation.

    Attributes:
        corners: number of lattice corners in use.

    Raises:
        OptionError: the positions are too far apart to number the corners.
    """

    def __init__(self, features: npt.NDArray[np.float32]) -> None:
        points, d = features.shape
        elevation = _elevation(d)
        strides, lowest = _numbering(features @ elevation.T)
        numbers = np.empty((points, d + 1), np.int64)
        weights = np.empty((points, d + 1), np.float32)
        for start in range(0, points, _CHUNK):
            chunk = slice(start, start + _CHUNK)
            numbers[chunk], weights[chunk] = _corners(features[chunk] @ elevation.T, strides, lowest)
        # One step along axis k adds d to coordinate k and subtracts 1 from every other coordinate.
        axes = (d + 1) * np.append(strides, 0) - strides.sum()
        occupied, inverse = np.unique(numbers, return_inverse=True)
        corners = _with_bridges(occupied, axes)
        self.corners = len(corners)
        columns = np.searchsorted(corners, occupied)[inverse.reshape(points, d + 1)]
        row_starts = np.arange(0, points * (d + 1) + 1, d + 1)
        self._slice = sparse.csr_matrix((weights.ravel(), columns.ravel(), row_starts), (points, self.corners))
        self._splat = self._slice.T.tocsr()
        self._blurs = [_blur(corners, axis) for axis in axes]

    def __call__(self, values: Floats) -> Floats:
        """Sums all values under the Gaussian around each point, up to one factor common to all points.

        Args:
            values: float32 (points, channels).

        Returns:
            float32 (points, channels).
        """
        splatted = self._splat @ values
        forward = backward = splatted
        for blur in self._blurs:
            forward = blur @ forward
        for blur in reversed(self._blurs):
            backward = blur @ backward
        forward += backward
        filtered: Floats = self._slice @ forward
        return filtered


def _elevation(d: int) -> _Doubles:
    """(d + 1, d): the isometry onto the plane of coordinate sum 0, scaled to the lattice filter's standard deviation.

    Splat, blur and slice together have the variance 2 (d + 1)^2 / 3 (section 3.1).
    """
    columns = np.arange(d)
    rows = np.arange(d + 1)[:, None]
    basis = np.where(rows <= columns, 1.0, np.where(rows == columns + 1, -(columns + 1.0), 0.0))
    scaled: _Doubles = basis / np.sqrt((columns + 1) * (columns + 2)) * (np.sqrt(2 / 3) * (d + 1))
    return scaled


def _numbering(elevated: _Doubles) -> tuple[_Integers, _Integers]:
    """Maps d corner coordinates to one number: the stride and the lowest value of each coordinate."""
    d = elevated.shape[1] - 1
    # A corner is less than d + 1 away from its point, and a bridge less than d + 1 away from a corner.
    margin = 3 * (d + 1)
    lowest = np.floor(elevated[:, :d].min(0)) - margin
    spans = np.ceil(elevated[:, :d].max(0)) + margin - lowest + 1
    if spans.prod() >= 2.0**62:
        raise OptionError(
            "The points are too far apart for their Gaussian, which is so narrow that they barely influence each "
            "other. Use larger values of theta."
        )
    strides = np.cumprod(np.append(1, spans[:-1].astype(np.int64)))
    return strides, lowest.astype(np.int64)


def _corners(elevated: _Doubles, strides: _Integers, lowest: _Integers) -> tuple[_Integers, _Doubles]:
    """Numbers of the d + 1 corners around each point, and the point's barycentric weights (section 3.1)."""
    d = elevated.shape[1] - 1
    # The nearest point whose coordinates are multiples of d + 1; below, the nearest of those with coordinate sum 0.
    origin = np.rint(elevated / (d + 1)).astype(np.int64) * (d + 1)
    excess = origin.sum(1, keepdims=True) // (d + 1)
    order = np.argsort(origin - elevated, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(d + 1)[None], 1)
    rank += excess
    wrapped = (rank < 0).astype(np.int64) - (rank > d)
    rank += wrapped * (d + 1)
    origin += wrapped * (d + 1)
    # Rank 0 is the coordinate furthest above that of the origin.
    heights = np.empty_like(elevated)
    np.put_along_axis(heights, rank, (elevated - origin) / (d + 1), 1)
    weights = np.empty_like(elevated)
    weights[:, 0] = 1 - (heights[:, 0] - heights[:, d])
    weights[:, 1:] = (heights[:, :-1] - heights[:, 1:])[:, ::-1]
    # Corner r is the origin plus r in the coordinates of rank 0 to d - r, and plus r - (d + 1) in the others.
    numbers = np.repeat(((origin[:, :d] - lowest) @ strides)[:, None], d + 1, 1)
    for r in range(1, d + 1):
        numbers[:, r] += r * strides.sum() - (d + 1) * ((rank[:, :d] > d - r) @ strides)
    return numbers, weights


def _with_bridges(occupied: _Integers, axes: _Integers) -> _Integers:
    """The occupied corners and those with at least two occupied neighbors, sorted."""
    neighbors = np.concatenate([occupied + step for axis in axes for step in (axis, -axis)])
    candidates, counts = np.unique(neighbors, return_counts=True)
    return np.union1d(occupied, candidates[counts > 1])


def _blur(corners: _Integers, axis: int) -> sparse.csr_matrix:
    """Matrix with the weights 1/2, 1, 1/2 along one axis of the corners; a missing neighbor counts as 0."""
    count = len(corners)
    positions = np.minimum(np.searchsorted(corners, corners + axis), count - 1)
    rows = np.flatnonzero(corners[positions] == corners + axis)
    ahead = sparse.csr_matrix((np.full(len(rows), 0.5, np.float32), (rows, positions[rows])), (count, count))
    return (sparse.identity(count, np.float32, "csr") + ahead + ahead.T).tocsr()
