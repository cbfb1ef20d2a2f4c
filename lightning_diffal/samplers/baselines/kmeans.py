"""k-means in blocks: k-means++ centres and Lloyd's iterations, never N x K.

`scipy.cluster.vq.kmeans2` holds all N x K products at once (and seeds its own way in each version), scikit-learn is
an optional extra of this package; a hundred lines do.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lightning_diffal.samplers.points import squared_distances
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.matrices import relative_distances

__all__ = ["draw_by_weight", "kmeans", "nearest_to_means"]


_POINTS_PER_CLUSTER = 256
_ITERATIONS = 25
_BLOCK_VALUES = 2**22


def kmeans(points: FloatArray, n_clusters: int, generator: np.random.Generator) -> IntArray:
    """Assign every point to one of at most `n_clusters` clusters.

    The centres are fitted to at most 256 points a cluster, as faiss does (more move a mean little), then every
    point joins its nearest. Seeds are drawn by k-means++ (Arthur and Vassilvitskii, SODA 2007), then up to 25 of
    Lloyd's iterations follow.

    Args:
        points: `(N, D)` in random order: the centres are fitted to the first of them.
        n_clusters: fewer come out where fewer points are distinct, or where a cluster ran empty.
        generator: draws the seeds.

    Returns:
        `(N,)` clusters, numbered from 0 without a gap.

    Example:
        >>> labels = kmeans(np.float32([[0], [10], [1], [11]]), 2, np.random.default_rng(0))
        >>> bool(labels[0] == labels[2] != labels[1] == labels[3])
        True
    """
    if not len(points):
        return np.empty(0, np.int64)
    sample = points[: max(1, n_clusters) * _POINTS_PER_CLUSTER]
    centres = _seeds(sample, min(n_clusters, len(sample)), generator)
    labels = _assign(sample, centres)
    for _ in range(_ITERATIONS):
        centres = _means(sample, labels, centres)
        before, labels = labels, _assign(sample, centres)
        if (before == labels).all():
            break
    if len(sample) < len(points):
        labels = _assign(points, centres)
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)


def draw_by_weight(weights: npt.NDArray[np.floating], generator: np.random.Generator) -> int:
    """One position, drawn with a probability in proportion to its weight; the first one where all weigh nothing.

    Args:
        weights: `(M,)`, none below 0.
        generator: one number is drawn from it.

    Example:
        >>> draw_by_weight(np.array([0.0, 2.0, 0.0]), np.random.default_rng(0))
        1
    """
    cumulated = np.cumsum(weights, dtype=np.float64)
    total = cumulated[-1]
    drawn = generator.random() * total
    if total == 0:
        return 0
    # the draw stays below the total, where rounding takes it too, so that what is found has a weight
    return int(np.searchsorted(cumulated, min(drawn, np.nextafter(total, 0)), side="right"))


def nearest_to_means(points: FloatArray, labels: IntArray) -> IntArray:
    """The point nearest to the mean of each cluster, of the largest cluster first.

    Args:
        points: `(N, D)`; of equally near ones the first.
        labels: `(N,)` clusters, numbered from 0 without a gap.

    Returns:
        `(K,)` positions.

    Example:
        >>> nearest_to_means(np.float32([[0], [1], [2], [9]]), np.array([0, 0, 0, 1]))
        array([1, 3])
    """
    sizes = np.bincount(labels)
    means = _means(points, labels, np.zeros((len(sizes), points.shape[1]), np.float32))
    squared = np.empty(len(points), np.float32)
    block = max(1, _BLOCK_VALUES // max(1, points.shape[1]))
    for start in range(0, len(points), block):
        difference = points[start : start + block] - means[labels[start : start + block]]
        squared[start : start + block] = np.einsum("ij,ij->i", difference, difference)
    order = np.lexsort((squared, labels))  # stable: the first of equals stays the first
    nearest = order[np.append(0, np.cumsum(sizes)[:-1])]
    largest_first: IntArray = nearest[np.argsort(-sizes, kind="stable")]
    return largest_first


def _seeds(points: FloatArray, n_clusters: int, generator: np.random.Generator) -> FloatArray:
    chosen = [0]  # the points come in random order
    nearest = squared_distances(points, points[0])
    while len(chosen) < n_clusters and nearest.max() > 0:
        chosen.append(draw_by_weight(nearest, generator))
        np.minimum(nearest, squared_distances(points, points[chosen[-1]]), out=nearest)
    return points[chosen]


def _assign(points: FloatArray, centres: FloatArray) -> IntArray:
    labels = np.empty(len(points), np.int64)
    for part, squared in relative_distances(points, centres, _BLOCK_VALUES // len(centres), points.dtype):
        labels[part] = squared.argmin(axis=1)
    return labels


def _means(points: FloatArray, labels: IntArray, centres: FloatArray) -> FloatArray:
    """The mean of each cluster; an empty one keeps its centre."""
    members = sp.csr_matrix(
        (np.ones(len(points), np.float64), labels, np.arange(len(points) + 1)), shape=(len(points), len(centres))
    )
    counts = np.bincount(labels, minlength=len(centres))[:, None]
    means: FloatArray = np.where(counts > 0, (members.T @ points) / np.maximum(counts, 1), centres).astype(np.float32)
    return means
