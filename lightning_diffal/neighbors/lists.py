"""Approximate neighbours by the inverted lists of faiss, with the recall measured on a sample in every search.

Points are grouped by the nearest of a few hundred or thousand centroids, and each is compared with those of the
nearest groups only. Many dimensions are searched along their first principal axes; distances are always those of all
dimensions. How many axes, groups and candidates are looked at follows from the size and from the sample.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from lightning_diffal.neighbors.axes import Axes
from lightning_diffal.neighbors.refine import nearest_of
from lightning_diffal.neighbors.rows import SearchedRows
from lightning_diffal.neighbors.sample import RecallSample
from lightning_diffal.utils.aliases import Array, FloatArray, IntArray
from lightning_diffal.utils.numeric.threads import slices
from lightning_diffal.utils.storage.stages import Stages, counted

__all__ = ["Found", "Sharing", "list_search"]

TARGET_RECALL = 0.985
"""Asked of the sample, so that .98 holds of all."""

_QUERIES = 8192  # at a time
_KEPT_EVERY = 8  # blocks, after which a search that is kept in a folder can go on
_TRAINING_POINTS = 32  # for each centroid; more change nothing
_ITERATIONS = 8
_PROBED = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
_FLAT_FROM = 0.3  # share of the lists from which on comparing with all points takes less time
_SPARE_OF_GRAM = 8
_SPARE = 1  # shortlisted beyond what is wanted: float32 distances order close neighbours only roughly


class Found(NamedTuple):
    """Neighbour lists with what is known of them.

    Attributes:
        indices: `(R, k)` int32.
        distances: `(R, k)` float32.
        recall: share of the true neighbours found, on the sample.
    """

    indices: npt.NDArray[np.int32]
    distances: FloatArray
    recall: float


class Sharing(Protocol):
    """What processes exchange by that search at the same time; see `lightning_diffal.processes.shards.Shards`."""

    rank: int
    size: int

    def bounds(self, n_rows: int) -> IntArray:
        """Where the share of each process starts."""

    def gather_rows(self, own: Array, n_rows: int) -> Array:
        """All rows out of each one's share."""

    def from_first(self, array: Array) -> Array:
        """What the first process has."""


def list_search(
    faiss: Any,
    points: SearchedRows,
    k: int,
    *,
    generator: np.random.Generator,
    rows: IntArray | None = None,
    shards: Sharing | None = None,
    stages: Stages | None = None,
) -> Found:
    """Neighbours of all points, or of some.

    What is drawn, and all sums that decide between groups or neighbours, depend neither on the number of threads nor
    on that of processes; the centroids may, by the rounding of large products of matrices.

    Args:
        faiss: the module.
        points: `(N, D)`.
        k: neighbours of each, fewer than `N`.
        generator: draws samples, and keys that break ties.
        rows: `(R,)` positions whose neighbours are wanted. Default: all.
        shards: processes that search at the same time, each for its share of the rows. The centroids and the recall
            are those of the first one.
        stages: keeps finished stages, and arrays that are larger than memory, in a folder.

    Returns:
        The lists; distances are those of `points`.
    """
    stages = Stages() if stages is None else stages
    wanted = np.arange(len(points)) if rows is None else rows
    keys = generator.permutation(len(points)).astype(np.int32)
    tuned = stages.facts("tuned")
    if (stages.facts("searched") or {}).get("done") == len(wanted) and tuned is not None:
        return Found(*_lists_of(stages, len(wanted), k), tuned["recall"])
    axes = Axes.of(points)
    if shards is not None:
        centre, directions = shards.from_first(axes.centre), shards.from_first(axes.directions)
        axes = Axes(centre, directions, axes.step)
    sample = None
    if tuned is None:
        sample = RecallSample(faiss, points, axes.centre, k, np.random.default_rng(generator.integers(2**63)))
    else:
        axes = axes._replace(step=tuned["step"])
    while True:
        lists = _Lists(faiss, points, axes, shards, stages)
        if sample is None:
            assert tuned is not None, "else there is a sample"
            probed, recall = tuned["probed"], tuned["recall"]
            break
        probed, recall = lists.tuned(sample, axes.width(k))
        if shards is not None:
            probed, recall = shards.from_first(np.array([probed, recall])).tolist()
        if recall >= TARGET_RECALL or axes.widest:
            stages.finish("tuned", probed=int(probed), recall=recall, step=axes.step)
            break
        axes = axes.wider()
        stages.forget("grouped", "searched")
    indices, distances = lists.search(wanted, int(probed), k, axes.width(k), keys)
    return Found(indices, distances, recall)


def _lists_of(stages: Stages, n_rows: int, k: int) -> tuple[npt.NDArray[np.int32], FloatArray]:
    shape = (n_rows, k)
    return stages.array("neighbours", shape, np.int32), stages.array("distances", shape, np.float32)


class _Lists:
    """The points in groups by the nearest centroid, ready to be searched."""

    def __init__(
        self,
        faiss: Any,
        points: SearchedRows,
        axes: Axes,
        shards: Sharing | None,
        stages: Stages,
    ) -> None:
        self._faiss, self._points, self._axes, self._stages = faiss, points, axes, stages
        n_points = len(points)
        self._stored: npt.NDArray[Any] | None = None
        if axes.n_axes < points.shape[1] or stages.outlives:
            self._stored = self._projected()
        self.size = _number_of_lists(n_points)
        self._centroids = self._trained(shards)
        self._coarse = faiss.IndexFlatL2(axes.n_axes)
        self._coarse.add(self._centroids)
        self._group = self._grouped(shards)
        self.order: IntArray = np.argsort(self._group, kind="stable")
        self._index = self._filled()

    def _codes(self, key: slice | IntArray) -> FloatArray:
        if self._stored is not None:
            codes: FloatArray = np.ascontiguousarray(self._stored[key])
            return codes
        return self._axes.project(self._points[key])

    def _projected(self) -> npt.NDArray[Any]:
        n_points = len(self._points)
        stored = self._stages.array("projected", (n_points, self._axes.n_axes), np.float32)
        if self._stages.facts("projected") != {"n_axes": self._axes.n_axes}:
            for part in counted("projecting on principal axes", slices(n_points, self._points.block), n_points):
                stored[part] = self._axes.project(self._points[part])
            self._stages.finish("projected", n_axes=self._axes.n_axes)
        return stored

    def _trained(self, shards: Sharing | None) -> FloatArray:
        shape = (self.size, self._axes.n_axes)
        centroids = self._stages.array("centroids", shape, np.float32)
        if self._stages.facts("trained") != {"shape": list(shape)}:
            if shards is None or shards.rank == 0:
                count = min(len(self._points), _TRAINING_POINTS * self.size)
                training = self._codes(np.sort(np.random.default_rng(0).permutation(len(self._points))[:count]))
                means = self._faiss.Kmeans(
                    shape[1], shape[0], niter=_ITERATIONS, seed=1234, min_points_per_centroid=1,
                    max_points_per_centroid=2 * _TRAINING_POINTS,
                )  # fmt: skip
                means.train(training)
                centroids[:] = means.centroids
            self._stages.finish("trained", shape=list(shape))
        return centroids if shards is None else shards.from_first(centroids)

    def _grouped(self, shards: Sharing | None) -> npt.NDArray[np.int32]:
        n_points = len(self._points)
        group = self._stages.array("group", (n_points,), np.int32)
        if self._stages.facts("grouped") is None:
            start, end = (0, n_points) if shards is None else shards.bounds(n_points)[shards.rank : shards.rank + 2]
            own = slices(int(end - start), 4 * _QUERIES)
            for part in counted("grouping points", own, int(end - start)):
                rows = slice(int(start) + part.start, int(start) + part.stop)
                group[rows] = self._nearest_groups(self._codes(rows), 1)[0][:, 0]
            if shards is not None:
                group = shards.gather_rows(group[int(start) : int(end)], n_points)
            self._stages.finish("grouped")
        return group

    def _nearest_groups(self, codes: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
        """`(B, count)` the nearest groups, and how far. The Gram form decides unless two are about as near."""
        width = min(self.size, count + 1)
        squared, found = self._coarse.search(codes, width)
        if width > count:
            size = np.einsum("ij,ij->i", codes, codes) + squared[:, -1]
            close = np.flatnonzero(squared[:, -1] - squared[:, -2] <= 1e-5 * size)
            if len(close):
                wide = min(self.size, count + 8)
                _, candidates = self._coarse.search(codes[close], wide)
                both = np.concatenate([codes[close], self._centroids])
                nearest, lengths = nearest_of(both, np.arange(len(close)), candidates + len(close), count)
                found[close, :count], squared[close, :count] = nearest - len(close), lengths**2
        return np.ascontiguousarray(found[:, :count]), np.ascontiguousarray(squared[:, :count])

    def _filled(self) -> Any:
        """The lists, each of exactly the memory it takes."""
        faiss = self._faiss
        index = faiss.IndexIVFFlat(self._coarse, self._axes.n_axes, self.size)
        ends = np.searchsorted(self._group[self.order], np.arange(self.size + 1))
        for number in range(self.size):
            members = self.order[ends[number] : ends[number + 1]]
            if len(members):
                codes = self._codes(members)
                index.invlists.add_entries(
                    number, len(members), faiss.swig_ptr(members), faiss.swig_ptr(codes.view(np.uint8))
                )
        index.ntotal = len(self._points)
        return index

    def _shortlist(self, rows: IntArray, probed: int, width: int) -> IntArray:
        """`(B, width + 1 + _SPARE)` positions, the points themselves among them."""
        codes = self._codes(rows)
        if isinstance(self._index, self._faiss.IndexFlat):
            every: IntArray = self._index.search(codes, min(len(self._points), width + 1 + _SPARE_OF_GRAM))[1]
            return every
        width = min(len(self._points), width + 1 + _SPARE)
        self._index.nprobe = probed
        groups, squared = self._nearest_groups(codes, probed)
        found: IntArray = self._index.search_preassigned(codes, width, groups, squared)[1]
        return found

    def _compare_all(self) -> None:
        self._index = None  # free it first
        self._index = self._faiss.IndexFlatL2(self._axes.n_axes)
        for part in slices(len(self._points), self._points.block):
            self._index.add(self._codes(part))

    def tuned(self, sample: RecallSample, width: int) -> tuple[int, float]:
        """How many groups to look at, the fewest for the recall that is wanted; and the recall."""
        recall, before = 0.0, 0.0
        for probed in [*(count for count in _PROBED if count < self.size), self.size]:
            recall = sample.recall(self._shortlist(sample.rows, probed, width))
            if recall >= TARGET_RECALL:
                return probed, recall
            if not self._axes.widest and probed >= 16 and recall - before < 0.002:
                break  # it is the axes
            before = recall
        return self.size, recall

    def search(
        self, rows: IntArray, probed: int, k: int, width: int, keys: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.int32], FloatArray]:
        """Lists of some rows, found group by group: what one point is compared with lies in the cache for the next."""
        stages, n_rows = self._stages, len(rows)
        indices, distances = _lists_of(stages, n_rows, k)
        if probed >= _FLAT_FROM * self.size:
            self._compare_all()
        by_group = np.argsort(self._group[rows], kind="stable")
        done = (stages.facts("searched") or {"done": 0})["done"]
        parts = [part for part in slices(n_rows, _QUERIES) if part.stop > done]
        for number, part in enumerate(counted("searching neighbours", parts, n_rows), start=1):
            places = by_group[part]
            found = self._shortlist(rows[places], probed, width)
            nearest, lengths = nearest_of(self._points, rows[places], found, k, keys=keys)
            short = np.flatnonzero(~np.isfinite(lengths[:, -1]))
            if len(short):  # the groups looked at hold too few
                found = self._shortlist(rows[places[short]], self.size, width)
                nearest[short], lengths[short] = nearest_of(self._points, rows[places[short]], found, k, keys=keys)
            indices[places], distances[places] = nearest, lengths
            if number % _KEPT_EVERY == 0 or part.stop == n_rows:
                stages.finish("searched", done=part.stop)
        return indices, distances


def _number_of_lists(n_points: int) -> int:
    """A power of two near `2 sqrt(N)`, or `4 sqrt(N)` of many: groups of a few hundred points."""
    per_root = 2 if n_points < 500_000 else 4
    return int(2 ** np.round(np.log2(max(2.0, per_root * np.sqrt(n_points)))))
