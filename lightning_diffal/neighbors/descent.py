"""Approximate neighbours by pynndescent."""

from __future__ import annotations

import numpy as np

from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["descent_shortlist"]


def descent_shortlist(points: FloatArray, k: int, generator: np.random.Generator) -> IntArray:
    """Lists of all points, `(N, min(k + 1, N))`, themselves among them and -1 where there is a gap.

    Args:
        points: `(N, D)`.
        k: neighbours wanted.
        generator: seeds it.
    """
    from pynndescent import NNDescent  # importing it costs seconds

    seed = int(generator.integers(2**31))
    index = NNDescent(points, metric="euclidean", n_neighbors=min(k + 1, len(points)), random_state=seed)
    return np.asarray(index.neighbor_graph[0], np.int64)
