"""Gaussian filtering of scattered points in time linear in their number: the permutohedral lattice.

Adams, Baek, Davis: Fast High-Dimensional Filtering Using the Permutohedral Lattice, Eurographics 2010. Each point is
spread over the d + 1 corners of the simplex that it lies in (splat), the corners are blurred along the d + 1 axes of
the lattice, and each point reads what its corners hold (slice). All three are sparse matrices here.

Two things are not as in the paper:

- Blurring needs corners that no point touched, where they bridge two that were touched. The paper leaves all of those
  out, and loses what would have passed through them; here each that has two touched neighbours or more is there, which
  takes two to three times the corners and a half to nine tenths off the largest errors.
- With corners left out, the order of the axes matters, and the filter is not quite symmetric. The mean of an order and
  its reverse is.

Of 600 points of a normal distribution in five dimensions, a single weight is off by 15 % in the root mean square, and
the sum of a point's weights by 6 %; in two dimensions by 7 and 3 %.
"""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from segzoo.errors import OptionError

Floats = npt.NDArray[np.float32]
_Integers = npt.NDArray[np.int64]
_Doubles = npt.NDArray[np.float64]

# Points at a time while corners are looked for: bounds the memory, and is fast for what it keeps in the cache.
_CHUNK = 1 << 15


class Lattice:
    """Sums over points under a Gaussian of their distance, as a filter that may be used many times.

    Args:
        features: float32 (points, d): positions in units of the Gaussian's standard deviation.

    Attributes:
        corners: how many corners of the lattice are in use.

    Raises:
        OptionError: the positions are too far apart for corners to be numbered.
    """

    def __init__(self, features: npt.NDArray[np.float32]) -> None:
        points, d = features.shape
        elevation = _elevation(d)
        steps, lowest = _numbering(features @ elevation.T)
        numbers = np.empty((points, d + 1), np.int64)
        weights = np.empty((points, d + 1), np.float32)
        for start in range(0, points, _CHUNK):
            part = slice(start, start + _CHUNK)
            numbers[part], weights[part] = _corners(features[part] @ elevation.T, steps, lowest)
        # One step along axis k adds d to coordinate k, and takes 1 from every other.
        axes = (d + 1) * np.append(steps, 0) - steps.sum()
        touched, places = np.unique(numbers, return_inverse=True)
        known = _with_bridges(touched, axes)
        self.corners = len(known)
        places = np.searchsorted(known, touched)[places.reshape(points, d + 1)]
        starts = np.arange(0, points * (d + 1) + 1, d + 1)
        self._slice = sparse.csr_matrix((weights.ravel(), places.ravel(), starts), (points, self.corners))
        self._splat = self._slice.T.tocsr()
        self._blurs = [_blur(known, axis) for axis in axes]

    def __call__(self, values: Floats) -> Floats:
        """For each point the sum of all values under the Gaussian around it, up to one factor for all points.

        Args:
            values: float32 (points, channels).

        Returns:
            float32 (points, channels).
        """
        spread = self._splat @ values
        there = back = spread
        for blur in self._blurs:
            there = blur @ there
        for blur in reversed(self._blurs):
            back = blur @ back
        there += back
        filtered: Floats = self._slice @ there
        return filtered


def _elevation(d: int) -> _Doubles:
    """(d + 1, d): the isometry onto the plane whose coordinates add up to 0, scaled to the lattice's own deviation.

    Splatting, blurring and slicing together have the variance 2 (d + 1)^2 / 3 (section 3.1).
    """
    columns = np.arange(d)
    rows = np.arange(d + 1)[:, None]
    basis = np.where(rows <= columns, 1.0, np.where(rows == columns + 1, -(columns + 1.0), 0.0))
    scaled: _Doubles = basis / np.sqrt((columns + 1) * (columns + 2)) * (np.sqrt(2 / 3) * (d + 1))
    return scaled


def _numbering(elevated: _Doubles) -> tuple[_Integers, _Integers]:
    """What turns d coordinates of a corner into one number: the step of each coordinate, and its lowest value."""
    d = elevated.shape[1] - 1
    # A corner is less than d + 1 from its point, and a bridge less than that again.
    margin = 3 * (d + 1)
    lowest = np.floor(elevated[:, :d].min(0)) - margin
    spans = np.ceil(elevated[:, :d].max(0)) + margin - lowest + 1
    if spans.prod() >= 2.0**62:
        raise OptionError(
            "The points are too far apart for their Gaussian: it is so narrow that they hardly see each other. Use "
            "larger values of theta."
        )
    steps = np.cumprod(np.append(1, spans[:-1].astype(np.int64)))
    return steps, lowest.astype(np.int64)


def _corners(elevated: _Doubles, steps: _Integers, lowest: _Integers) -> tuple[_Integers, _Doubles]:
    """The numbers of the d + 1 corners around each point, and the point's barycentric weights (section 3.1)."""
    d = elevated.shape[1] - 1
    # The nearest point whose coordinates are multiples of d + 1, then the nearest of those that add up to 0.
    origin = np.rint(elevated / (d + 1)).astype(np.int64) * (d + 1)
    excess = origin.sum(1, keepdims=True) // (d + 1)
    order = np.argsort(origin - elevated, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(d + 1)[None], 1)
    rank += excess
    wrapped = (rank < 0).astype(np.int64) - (rank > d)
    rank += wrapped * (d + 1)
    origin += wrapped * (d + 1)
    # rank 0 is the coordinate that lies furthest above the origin's.
    heights = np.empty_like(elevated)
    np.put_along_axis(heights, rank, (elevated - origin) / (d + 1), 1)
    weights = np.empty_like(elevated)
    weights[:, 0] = 1 - (heights[:, 0] - heights[:, d])
    weights[:, 1:] = (heights[:, :-1] - heights[:, 1:])[:, ::-1]
    # Corner r is r above the origin in the coordinates of rank 0 to d - r, and r - (d + 1) in the others.
    numbers = np.repeat(((origin[:, :d] - lowest) @ steps)[:, None], d + 1, 1)
    for r in range(1, d + 1):
        numbers[:, r] += r * steps.sum() - (d + 1) * ((rank[:, :d] > d - r) @ steps)
    return numbers, weights


def _with_bridges(touched: _Integers, axes: _Integers) -> _Integers:
    """The touched corners, and those that have at least two touched neighbours; sorted."""
    around = np.concatenate([touched + step for axis in axes for step in (axis, -axis)])
    found, counts = np.unique(around, return_counts=True)
    return np.union1d(touched, found[counts > 1])


def _blur(known: _Integers, axis: int) -> sparse.csr_matrix:
    """The weights 1/2, 1, 1/2 along one axis, as a matrix over the corners; a neighbour that is not there is 0."""
    corners = len(known)
    found = np.minimum(np.searchsorted(known, known + axis), corners - 1)
    here = np.flatnonzero(known[found] == known + axis)
    ahead = sparse.csr_matrix((np.full(len(here), 0.5, np.float32), (here, found[here])), (corners, corners))
    return (sparse.identity(corners, np.float32, "csr") + ahead + ahead.T).tocsr()
