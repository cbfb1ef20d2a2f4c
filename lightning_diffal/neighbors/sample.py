"""A few hundred points whose true neighbours are known: what a search is measured on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.neighbors.refine import nearest_of
from lightning_diffal.neighbors.rows import SearchedRows
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.matrices import relative_distances
from lightning_diffal.utils.numeric.threads import slices
from lightning_diffal.utils.storage.stages import counted

__all__ = ["RecallSample"]

_SIZE = 400
_SPARE = 8


class RecallSample:
    """Some rows, evenly spread, each with the distance of its true `k`-th neighbour among all points.

    Args:
        faiss: the module, if it is installed.
        points: `(N, D)`.
        centre: `(D,)` for the Gram form.
        k: neighbours of each.
        generator: draws the rows.
    """

    def __init__(
        self, faiss: Any, points: SearchedRows, centre: FloatArray, k: int, generator: np.random.Generator
    ) -> None:
        n_points = len(points)
        self._points = points
        self.k = k
        self.rows: IntArray = np.sort(generator.choice(n_points, min(_SIZE, n_points), replace=False))
        queries = points[self.rows] - centre
        width = min(n_points, k + 1 + _SPARE)
        best = np.full((len(self.rows), width), np.inf, np.float32)
        found = np.full((len(self.rows), width), -1, np.int64)
        for part in counted("true neighbours of a sample", slices(n_points, points.block), n_points):
            squared, places = _nearest(faiss, queries, points[part] - centre, min(width, part.stop - part.start))
            squared, places = np.hstack([best, squared]), np.hstack([found, places + part.start])
            order = np.argpartition(squared, width - 1, axis=1)[:, :width]
            best, found = np.take_along_axis(squared, order, axis=1), np.take_along_axis(places, order, axis=1)
        _, distances = nearest_of(points, self.rows, found, k)
        self._furthest = distances[:, -1]

    def recall(self, found: npt.NDArray[Any]) -> float:
        """The share of the true neighbours in lists of the rows; others at the same distance are as good.

        Args:
            found: `(S, w)` positions; -1 is a gap.
        """
        width = min(self.k, found.shape[1] - 1)
        _, distances = nearest_of(self._points, self.rows, found, width)
        return float((distances <= self._furthest[:, None] * (1 + 1e-6)).sum() / (len(self.rows) * self.k))


def _nearest(faiss: Any, queries: FloatArray, block: FloatArray, width: int) -> tuple[FloatArray, IntArray]:
    if faiss is not None:
        squared, places = faiss.knn(queries, block, width)
        return squared, places
    (_, gram), *_ = relative_distances(queries, block, len(queries), np.float32)
    gram += np.einsum("ij,ij->i", queries, queries)[:, None]
    places = np.argpartition(gram, width - 1, axis=1)[:, :width]
    return np.take_along_axis(gram, places, axis=1), places
