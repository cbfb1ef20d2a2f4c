"""Points in groups, each by the nearest of some centroids."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_diffal.neighbors.refine import nearest_of
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["Groups", "trained_centroids"]

_ITERATIONS = 8
_PER_GROUP = 64  # points that a centroid is found from, at most


class Groups:
    """The nearest centroids of points.

    Args:
        faiss: the module.
        centroids: `(L, A)` of the groups.
    """

    def __init__(self, faiss: Any, centroids: FloatArray) -> None:
        self._centroids = centroids
        self.coarse = faiss.IndexFlatL2(centroids.shape[1])
        self.coarse.add(np.ascontiguousarray(centroids))

    def nearest(self, codes: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
        """The nearest groups of some points. The Gram form decides unless two are about as near.

        Args:
            codes: `(B, A)`.
            count: of groups.

        Returns:
            groups: `(B, count)`.
            squared: `(B, count)` how far their centroids are.
        """
        width = min(len(self._centroids), count + 1)
        squared, found = self.coarse.search(codes, width)
        if width > count:
            size = np.einsum("ij,ij->i", codes, codes) + squared[:, -1]
            close = np.flatnonzero(squared[:, -1] - squared[:, -2] <= 1e-5 * size)
            if len(close):
                wide = min(len(self._centroids), count + 8)
                _, candidates = self.coarse.search(codes[close], wide)
                both = np.concatenate([codes[close], self._centroids])
                nearest, lengths = nearest_of(both, np.arange(len(close)), candidates + len(close), count)
                found[close, :count], squared[close, :count] = nearest - len(close), lengths**2
        return np.ascontiguousarray(found[:, :count]), np.ascontiguousarray(squared[:, :count])


def trained_centroids(faiss: Any, training: FloatArray, count: int) -> FloatArray:
    """Centroids of groups by k-means.

    Args:
        faiss: the module.
        training: `(T, A)` points.
        count: of centroids.

    Returns:
        `(count, A)`.
    """
    means = faiss.Kmeans(
        training.shape[1], count, niter=_ITERATIONS, seed=1234, min_points_per_centroid=1,
        max_points_per_centroid=_PER_GROUP,
    )  # fmt: skip
    means.train(training)
    centroids: FloatArray = means.centroids
    return centroids
