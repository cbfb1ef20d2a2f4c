"""The graph of the last features, kept for the next query where they have not changed (a frozen backbone)."""

from __future__ import annotations

from typing import Any, Literal

from lightning_diffal.graph.kept import graph_of
from lightning_diffal.graph.kernel import WalkKernel
from lightning_diffal.graph.point_graph import PointGraph, build_point_graph, neighbor_lists
from lightning_diffal.neighbors.nearest import NeighborBackend, Neighbors, auto_backend
from lightning_diffal.processes.shards import current_shards
from lightning_diffal.samplers.base import ScoreSampler
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.rows import digest_of
from lightning_diffal.utils.phases import announce

__all__ = ["GraphSampler"]

SHARED_FROM = 20_000  # points from which on several processes share the work; below, it takes a second or two


class GraphSampler(ScoreSampler):
    """Keeps the graph of the last features, and the kernel of that graph where it was needed.

    A class that derives from it has the attributes `n_neighbors`, `metric`, `backend` and `distributed`.
    """

    n_neighbors: int
    metric: str
    backend: str | NeighborBackend
    distributed: Literal["auto", False]
    _kept: tuple[tuple[Any, ...], PointGraph] | None = None
    _kept_kernel: tuple[PointGraph, WalkKernel] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None, "_kept_kernel": None}

    def _shares_selection(self, n_points: int, n_dimensions: int) -> bool:
        if self.distributed is False or n_points < SHARED_FROM or not self._selects_as_usual():
            return False
        # one dimension more: rows of zeros get one under the cosine
        search = auto_backend(n_points, n_dimensions + 1) if self.backend == "auto" else self.backend
        return search in ("exact", "faiss")

    def _graph(self, features: FloatArray) -> PointGraph:
        """The graph of these features: the kept one if they did not change."""
        shards = current_shards()
        source = self._source(features, shards)
        stale = self._kept is None or self._kept[0] != source
        if stale if shards is None else shards.any(stale):  # all build it, or none
            self._kept = self._kept_kernel = None  # free them first
            announce("searching neighbours")
            if shards is None and isinstance(self.backend, str) and self._builds_as_usual():
                self._kept = (source, graph_of(repr(source), lambda: self._build(features)))
            else:
                self._kept = (source, self._build(features))
        assert self._kept is not None
        return self._kept[1]

    def kept_graph(
        self, features: FloatArray, n_neighbors: int, metric: str, backend: str | NeighborBackend
    ) -> PointGraph | None:
        """The graph of the last query, where it is the one of these features and settings and lies here as a whole.

        Args:
            features: `(N, D)`.
            n_neighbors: neighbours of each point.
            metric: as the argument of the class.
            backend: as the argument of the class.
        """
        settings = (self.n_neighbors, self.metric, self.backend) == (n_neighbors, metric, backend)
        if not settings or self._kept is None or not self._builds_as_usual():
            return None
        return self._kept[1] if self._kept[0] == self._source(features, None) else None

    def _source(self, features: FloatArray, shards: Any) -> tuple[Any, ...]:
        """What a graph was made of."""
        return (digest_of(features), self.n_neighbors, self.metric, self.backend, shards)

    def _build(self, features: FloatArray) -> PointGraph:
        return build_point_graph(features, self._lists)

    def _lists(self, nodes: FloatArray, rows: IntArray | None = None) -> Neighbors:
        return neighbor_lists(nodes, self.n_neighbors, metric=self.metric, backend=self.backend, rows=rows)

    def _kernel(self, space: PointGraph) -> WalkKernel:
        """The kernel of this graph."""
        shards = current_shards()
        stale = self._kept_kernel is None or self._kept_kernel[0] is not space
        if stale if shards is None else shards.any(stale):
            self._kept_kernel = None  # free it first
            self._kept_kernel = (space, WalkKernel(space.transition, space.degree))
        assert self._kept_kernel is not None
        return self._kept_kernel[1]

    def _selects_as_usual(self) -> bool:
        """Whether `select` is one that several processes can share; a subclass may have another."""
        return False

    def _builds_as_usual(self) -> bool:
        """Whether the graph is made of features and settings alone; a subclass may build another."""
        return False
