"""The graph built on several processes: each makes the rows of its share of the points."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lightning_diffal.graph import weights as graph
from lightning_diffal.processes.shards import ShardedRows, Shards
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["sharded_graph"]


def sharded_graph(
    neighbours: npt.NDArray[Any], distances: FloatArray, n_nodes: int, shards: Shards
) -> tuple[ShardedRows, npt.NDArray[np.float64]]:
    """Transition matrix and degrees of `lightning_diffal.graph`, of which every process builds its rows.

    Args:
        neighbours: `(R, k)` of the nodes of this process.
        distances: `(R, k)`.
        n_nodes: `N`.
        shards: the processes; on all in step.

    Returns:
        transition: of all nodes.
        degree: `(N,)` of all nodes.
    """
    bounds = shards.bounds(n_nodes)
    start = bounds[shards.rank]
    scale = graph.local_scale(distances)
    directed = graph.directed_weights(neighbours, distances, scale, shards.gather_rows(scale, n_nodes))
    weights = graph.symmetric_weights(directed, _edges_to(directed, bounds, shards))
    del directed
    degree = shards.gather_rows(graph.weighted_degree(weights), n_nodes)
    transition = graph.transition_matrix(weights, start=int(start))
    return ShardedRows(transition, shards), degree


def _edges_to(directed: sp.csr_matrix, bounds: IntArray, shards: Shards) -> sp.csr_matrix:
    """`(R, N)` this process's rows of the transpose: the edges that lead to its points, from whoever holds them."""
    start, end = bounds[shards.rank : shards.rank + 2]
    edges = directed.tocoo()
    owner = np.searchsorted(bounds, edges.col, side="right") - 1
    order = np.argsort(owner, kind="stable")
    cuts = np.searchsorted(owner[order], np.arange(1, shards.size))
    targets, sources, values = (
        shards.exchange(np.split(part[order], cuts))
        for part in (edges.col.astype(np.int64), edges.row.astype(np.int64) + start, edges.data)
    )
    return sp.csr_matrix((values, (targets - start, sources)), shape=(int(end - start), directed.shape[1]))
