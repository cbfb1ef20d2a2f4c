"""Approximate neighbours by the inverted lists of faiss, with the recall measured on a sample in every search.

Points are grouped by the nearest of some hundreds or thousands of centroids, and each is compared with those of the
nearest groups only. Many dimensions are searched along their first principal axes, in half precision where points are
many; distances are always those of all dimensions. How many axes, groups and candidates are looked at follows from the
size and from the sample.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from lightning_diffal.neighbors.axes import Axes
from lightning_diffal.neighbors.groups import Groups, trained_centroids
from lightning_diffal.neighbors.refine import nearest_in_common, nearest_of
from lightning_diffal.neighbors.rows import SearchedRows
from lightning_diffal.neighbors.sample import RecallSample
from lightning_diffal.utils.aliases import Array, FloatArray, IntArray
from lightning_diffal.utils.numeric.threads import slices
from lightning_diffal.utils.storage.stages import Stages, counted, each_counted

__all__ = ["Found", "Sharing", "list_search"]

TARGET_RECALL = 0.985
"""Asked of the sample, so that .98 holds of all."""

_QUERIES = 8192  # at a time
_KEPT_EVERY = 8  # blocks, after which a search that is kept in a folder can go on
_TRAINING_POINTS = 32  # for each centroid; more change nothing
_MANY = 300_000
"""Points from which on coordinates along axes are kept in half precision, and shortlists are read in common."""

_WIDE = 128  # dimensions from which on shortlists of fewer points are read in common, too
_FIRST_STEP = 2  # of the axes, where points are many: groups along more axes hold more of each other's neighbours
_GROUPED_AT_ONCE = 2**17
_BLOCKS = 8  # read at once
_SHORT_AT_ONCE = 256  # rows compared with all groups
_LARGEST_HALF = 60_000.0
_USUAL_HALF = 8  # the exponent of the largest coordinate of a sample
_PROBED = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
_BY_QUERY = 3  # faiss's mode in which a search in given lists, too, takes all cores: each point on one of them
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
        by_group = np.argsort(stages.array("group", (len(points),), np.int32)[wanted], kind="stable")
        return Found(*_in_their_order(_kept_lists(stages, len(wanted), k), by_group), tuned["recall"])
    axes = Axes.of(points)
    if len(points) >= _MANY and not axes.widest:
        axes = axes._replace(step=_FIRST_STEP - 1).wider()
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
        self._many = n_points >= _MANY
        self._halves = self._many and not axes.widest
        self._stored: npt.NDArray[Any] | None = None
        if axes.n_axes < points.shape[1] or stages.outlives or self._halves:
            self._stored = self._projected()
        self.size = _number_of_lists(n_points)
        self._groups = Groups(faiss, self._trained(shards))
        self._group = self._grouped(shards)
        self.order: IntArray = np.argsort(self._group, kind="stable")
        self._index = self._filled()

    def _codes(self, key: slice | IntArray) -> FloatArray:
        if self._stored is not None:
            codes: FloatArray = np.ascontiguousarray(self._stored[key], np.float32)
            return codes
        return self._axes.project(self._points[key])

    def _projected(self) -> npt.NDArray[Any]:
        n_points = len(self._points)
        dtype = np.float16 if self._halves else np.float32
        stored = self._stages.array("projected", (n_points, self._axes.n_axes), dtype)
        if self._stages.facts("projected") != {"n_axes": self._axes.n_axes}:
            exponent = self._exponent_of_halves() if self._halves else 0

            def project(part: slice) -> None:
                codes = self._axes.project(self._points[part])
                if self._halves:
                    codes = np.clip(np.ldexp(codes, exponent), -_LARGEST_HALF, _LARGEST_HALF)
                stored[part] = codes

            block = self._points.block
            each_counted("projecting on principal axes", project, n_points, block, at_once=_BLOCKS)
            self._stages.finish("projected", n_axes=self._axes.n_axes)
        return stored

    def _exponent_of_halves(self) -> int:
        """Of the power of two that brings coordinates into the range of half precision."""
        rows = np.unique(np.linspace(0, len(self._points) - 1, 4096).astype(np.int64))
        largest = float(np.abs(self._axes.project(self._points[rows])).max(initial=0.0))
        return _USUAL_HALF - int(np.frexp(largest)[1]) if largest > 0 else 0

    def _trained(self, shards: Sharing | None) -> FloatArray:
        shape = (self.size, self._axes.n_axes)
        centroids = self._stages.array("centroids", shape, np.float32)
        if self._stages.facts("trained") != {"shape": list(shape)}:
            if shards is None or shards.rank == 0:
                count = min(len(self._points), _TRAINING_POINTS * self.size)
                training = self._codes(np.sort(np.random.default_rng(0).permutation(len(self._points))[:count]))
                centroids[:] = trained_centroids(self._faiss, training, self.size)
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
                group[rows] = self._groups.nearest(self._codes(rows), 1)[0][:, 0]
            if shards is not None:
                group = shards.gather_rows(group[int(start) : int(end)], n_points)
            self._stages.finish("grouped")
        return group

    def _filled(self) -> Any:
        """The lists, each of exactly the memory it takes."""
        faiss, n_axes = self._faiss, self._axes.n_axes
        if self._halves:
            index = faiss.IndexIVFScalarQuantizer(
                self._groups.coarse, n_axes, self.size, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2, False
            )
            index.is_trained = True
        else:
            index = faiss.IndexIVFFlat(self._groups.coarse, n_axes, self.size)
        ends = np.searchsorted(self._group[self.order], np.arange(self.size + 1))
        for number in range(self.size):
            members = self.order[ends[number] : ends[number + 1]]
            if len(members):
                stored = self._stored if self._halves else None
                codes = self._codes(members) if stored is None else np.ascontiguousarray(stored[members])
                index.invlists.add_entries(
                    number, len(members), faiss.swig_ptr(members), faiss.swig_ptr(codes.view(np.uint8))
                )
        index.ntotal = len(self._points)
        index.parallel_mode = _BY_QUERY
        return index

    def _shortlist(self, rows: IntArray, probed: int, width: int) -> IntArray:
        """`(B, width + 1 + _SPARE)` positions, the points themselves among them."""
        codes = self._codes(rows)
        if isinstance(self._index, self._faiss.IndexFlat):
            every: IntArray = self._index.search(codes, min(len(self._points), width + 1 + _SPARE_OF_GRAM))[1]
            return every
        width = min(len(self._points), width + 1 + _SPARE)
        self._index.nprobe = probed
        groups, squared = self._groups.nearest(codes, probed)
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
        by_group = np.argsort(self._group[rows], kind="stable")
        kept = _kept_lists(stages, n_rows, k)
        if probed >= _FLAT_FROM * self.size:
            self._compare_all()
        in_common = self._many or self._points.shape[1] > _WIDE
        places = np.empty(len(self._points), np.int32) if in_common else None
        done = (stages.facts("searched") or {"done": 0})["done"]
        parts = [part for part in slices(n_rows, _QUERIES) if part.stop > done]
        for number, part in enumerate(counted("searching neighbours", parts, n_rows), start=1):
            own = rows[by_group[part]]
            nearest, lengths = self._nearest(own, self._shortlist(own, probed, width), k, keys, places)
            short = np.flatnonzero(~np.isfinite(lengths[:, -1]))
            for some in slices(len(short), _SHORT_AT_ONCE):  # the groups looked at hold too few
                again = short[some]
                found = self._shortlist(own[again], self.size, width)
                nearest[again], lengths[again] = self._nearest(own[again], found, k, keys, places)
            to = part if stages.outlives else by_group[part]
            kept[0][to], kept[1][to] = nearest, lengths
            if number % _KEPT_EVERY == 0 or part.stop == n_rows:
                stages.finish("searched", done=part.stop)
        self._index = None
        return _in_their_order(kept, by_group) if stages.outlives else kept

    def _nearest(
        self, rows: IntArray, found: IntArray, k: int, keys: npt.NDArray[Any], places: npt.NDArray[np.int32] | None
    ) -> tuple[IntArray, npt.NDArray[np.float64]]:
        if places is None:
            return nearest_of(self._points, rows, found, k, keys=keys)
        return nearest_in_common(self._faiss, self._points, rows, found, k, keys=keys, places=places)


Lists = tuple[npt.NDArray[np.int32], FloatArray]


def _kept_lists(stages: Stages, n_rows: int, k: int) -> Lists:
    """Room for the lists; on disk in the order of the search, so that what is new lies together."""
    shape = (n_rows, k)
    return stages.array("neighbours", shape, np.int32), stages.array("distances", shape, np.float32)


def _in_their_order(kept: Lists, by_group: IntArray) -> Lists:
    """The lists in the order of their rows."""
    indices, distances = np.empty(kept[0].shape, np.int32), np.empty(kept[1].shape, np.float32)
    for part in slices(len(by_group), _GROUPED_AT_ONCE):
        indices[by_group[part]], distances[by_group[part]] = kept[0][part], kept[1][part]
    return indices, distances


def _number_of_lists(n_points: int) -> int:
    """A power of two near `2 sqrt(N)`, or `4 sqrt(N)` of many: groups of a few hundred points."""
    per_root = 2 if n_points < 500_000 else 4
    return int(2 ** np.round(np.log2(max(2.0, per_root * np.sqrt(n_points)))))
