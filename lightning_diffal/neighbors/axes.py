"""Principal axes: many dimensions shortlisted along a few."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lightning_diffal.neighbors.rows import SearchedRows
from lightning_diffal.utils.aliases import FloatArray

__all__ = ["Axes"]

_SAMPLE = 10_000  # points that the axes are found from
_CENTRED_BY = 1000  # of those
_FEW = 96  # dimensions that are searched as they are
_STEPS = ((64, 3), (64, 6), (128, 4), (256, 4))  # axes, and shortlisted points for each one wanted


class Axes(NamedTuple):
    """A point's coordinates in a search: centred, and along principal axes where there are many dimensions.

    Attributes:
        centre: `(D,)`.
        directions: `(D, D)`, those of the largest variance first; `(0, 0)` where dimensions are few.
        step: how many axes are taken, and how many candidates: place in a list from the fastest to the surest.
    """

    centre: FloatArray
    directions: FloatArray
    step: int

    @classmethod
    def of(cls, points: SearchedRows) -> Axes:
        """The axes of some points, found from a sample.

        Args:
            points: `(N, D)`.

        Example:
            >>> axes = Axes.of(SearchedRows(np.float32([[0, 1], [0, 3], [0, 9]]), "euclidean"))
            >>> axes.centre.tolist(), axes.n_axes
            ([0.0, 3.0], 2)
        """
        places = np.unique(np.linspace(0, len(points) - 1, min(len(points), _SAMPLE)).astype(np.int64))
        sample = points[places]
        centre = np.median(sample[:: max(1, len(sample) // _CENTRED_BY)], axis=0)  # a mean would follow outliers
        n_dimensions = sample.shape[1]
        if n_dimensions <= _FEW:
            return cls(centre, np.empty((0, 0), np.float32), len(_STEPS))
        sample = sample - centre
        _, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))
        return cls(centre, np.ascontiguousarray(directions[:, ::-1], np.float32), 0)

    @property
    def n_axes(self) -> int:
        """How many coordinates a point has."""
        n_dimensions = len(self.centre)
        return n_dimensions if self.step >= len(_STEPS) else min(n_dimensions, _STEPS[self.step][0])

    def width(self, k: int) -> int:
        """How many points are shortlisted where `k` are wanted.

        Args:
            k: neighbours.
        """
        return k if self.step >= len(_STEPS) else _STEPS[self.step][1] * k

    @property
    def widest(self) -> bool:
        """Whether there is nothing left to add."""
        return self.step >= len(_STEPS)

    def wider(self) -> Axes:
        """The next surer way; all dimensions at the end."""
        step = self.step + 1
        if step < len(_STEPS) and _STEPS[step][0] >= len(self.centre):
            step = len(_STEPS)
        return self._replace(step=step)

    def project(self, block: FloatArray) -> FloatArray:
        """Coordinates of some points.

        Args:
            block: `(B, D)`.

        Returns:
            `(B, n_axes)`, contiguous.
        """
        centred = block - self.centre
        if self.n_axes == len(self.centre):
            return np.ascontiguousarray(centred)
        return centred @ np.ascontiguousarray(self.directions[:, : self.n_axes])
