"""The graph of a data set's distinct points, as built from features; for whoever diffuses labels over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lightning_diffal.graph import weights as graph
from lightning_diffal.graph.sharded import sharded_graph
from lightning_diffal.neighbors.nearest import NeighborBackend, Neighbors, find_neighbors
from lightning_diffal.processes.shards import ShardedRows, current_shards
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.memory import give_back_memory
from lightning_diffal.utils.numeric.rows import FileRows, RowView, read_when_needed
from lightning_diffal.utils.storage.mapped import lies_in_file
from lightning_diffal.utils.storage.stages import current_stages

_COPIED_VALUES = 2**24  # of features that are put in another order by copying them

__all__ = ["PointGraph", "build_point_graph", "neighbor_lists"]

Lists = Callable[[FloatArray, IntArray | None], "Neighbors | tuple[IntArray, FloatArray]"]
"""Neighbour lists of all nodes, or of some rows of them."""


@dataclass(frozen=True, eq=False)
class PointGraph:
    """The graph of the distinct points. `inverse` leads from a point of the data set to its node.

    With several processes `transition` may be a `ShardedRows`, of which every process holds a part.
    """

    inverse: IntArray
    transition: sp.csr_matrix | ShardedRows
    degree: npt.NDArray[np.float64]
    """`(U,)` sums of the weights of each node's edges."""
    recall: float | None = None
    """Share of the true neighbours in the lists, as `lightning_diffal.neighbors` measured it."""

    @property
    def n_nodes(self) -> int:
        """How many distinct points there are."""
        return len(self.degree)

    @cached_property
    def centrality(self) -> FloatArray:
        """`(U,)` ranks of the degrees, see `lightning_diffal.graph.centrality`."""
        return graph.degree_rank(self.degree)


def build_point_graph(features: Any, lists: Lists) -> PointGraph:
    """Collapse duplicates, weigh the edges of the neighbour lists, and make the random walk.

    Args:
        features: `(N, D)`.
        lists: gives the neighbour lists of the nodes; where several processes share the work, of some rows of them.

    Example:
        >>> features = np.array([[0.0], [1.0], [0.0]], np.float32)
        >>> space = build_point_graph(features, lambda nodes, rows: neighbor_lists(nodes, 1, rows=rows))
        >>> space.n_nodes, bool(space.inverse[0] == space.inverse[2])
        (2, True)
    """
    if lies_in_file(features):
        features = FileRows([features])  # read from its beginning to its end, and never copied as a whole
    representatives, inverse, _ = graph.collapse_duplicates(features)
    large = len(representatives) * features.shape[1] > _COPIED_VALUES
    if read_when_needed(features) and len(representatives) == len(features):
        nodes: Any = features  # they are in order
    else:
        nodes = RowView(features, representatives) if large else features[representatives]
    shards = current_shards()
    if shards is not None:
        own = shards.bounds(len(nodes))[shards.rank : shards.rank + 2]
        found = lists(nodes, np.arange(*own))
        sharded = sharded_graph(found[0], found[1], len(nodes), shards)
        return PointGraph(inverse, *sharded, getattr(found, "recall", None))
    found = lists(nodes, None)
    recall = getattr(found, "recall", None)
    neighbours, distances = graph.checked_lists(*found[:2])
    del found  # what is large goes as soon as nobody needs it any longer
    scale = graph.local_scale(distances)
    directed = graph.directed_weights(neighbours, distances, scale, scale)
    del neighbours, distances, scale
    weights = graph.symmetric_weights(directed)
    del directed
    if large:
        give_back_memory()
    degree = graph.weighted_degree(weights)
    return PointGraph(inverse, graph.normalised(weights, degree, in_place=True), degree, recall)


def neighbor_lists(
    nodes: FloatArray,
    n_neighbors: int,
    *,
    metric: str = "euclidean",
    backend: str | NeighborBackend = "auto",
    rows: IntArray | None = None,
) -> Neighbors:
    """Neighbours and the distances that the kernel takes: for the cosine the chord, on which it is Gaussian.

    Args:
        nodes: `(U, D)` distinct points.
        n_neighbors: as many of each.
        metric: `"euclidean"` or `"cosine"`.
        backend: how they are found, see `lightning_diffal.neighbors.nearest_neighbors`.
        rows: `(R,)` the nodes whose lists are wanted. Default: all.

    Example:
        >>> neighbor_lists(np.array([[0.0], [2.0]], np.float32), 1)[1].tolist()
        [[2.0], [2.0]]
    """
    # the nodes stand in an order of their content, so a fixed seed favours no position in the data set
    found = find_neighbors(
        nodes,
        n_neighbors,
        metric=metric,
        backend=backend,
        generator=np.random.default_rng(0),
        rows=rows,
        shards=current_shards(),
        stages=current_stages(),
    )
    return found._replace(distances=np.sqrt(2 * found.distances)) if metric == "cosine" else found
