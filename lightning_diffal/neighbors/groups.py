"""Points in groups, each by the nearest of some centroids; of many centroids only those near by are compared.

Of ten thousand centroids and more, finding the nearest takes longer than everything after it. A point is compared with
those that are nearest to the centroid of its own group, a thousand however many there are. To find a first group,
centroids lie in cells, each by the nearest of a few hundred further centroids, and those in the cells near the point's
own are compared: seven of ten find the nearest group so, and of the groups near that one, all but two in a hundred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.neighbors.refine import nearest_of
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.threads import each, number_of_threads, slices
from lightning_diffal.utils.storage.stages import counted

__all__ = ["Groups", "trained_centroids", "trained_in_cells"]

_ITERATIONS = 8
_COMPARED = 1024  # centroids
_PER_CELL = 64  # points that the centre of a cell is found from
_SUMMED = 2**16  # points at a time
_BATCH = 16  # groups whose near ones are found at once
_SPLIT = 1 / 1024


class Groups:
    """The nearest centroids of points.

    Args:
        faiss: the module.
        centroids: `(L, A)` of the groups.
        cells: `(C, A)` centroids of the cells that the groups lie in; none where all groups are compared.
    """

    def __init__(self, faiss: Any, centroids: FloatArray, cells: FloatArray) -> None:
        self._faiss = faiss
        self.centroids = centroids
        self.cells = cells
        self.coarse = faiss.IndexFlatL2(centroids.shape[1])
        self.coarse.add(np.ascontiguousarray(centroids))
        self._near: dict[tuple[int, int], IntArray] = {}
        if len(cells):
            self._cell_of_group = self.cells_of(centroids)
            self._order = np.argsort(self._cell_of_group, kind="stable")
            self._ends = np.searchsorted(self._cell_of_group[self._order], np.arange(len(cells) + 1))
            self._cells_by_distance: IntArray = faiss.knn(cells, cells, len(cells))[1]

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def limited(self) -> bool:
        """Whether the nearest group of a point is looked for among some only."""
        return len(self.cells) > 0 and len(self) >= 2 * _COMPARED

    def cells_of(self, codes: FloatArray) -> IntArray:
        """`(B,)` the cell of each point.

        Args:
            codes: `(B, A)`.
        """
        return _nearest(self._faiss, self.cells, codes, 1)[0][:, 0]

    def nearest(
        self, codes: FloatArray, count: int, *, own: npt.NDArray[Any] | None = None, compared: int | None = None
    ) -> tuple[IntArray, FloatArray]:
        """The nearest groups of some points, and how far their centroids are, squared.

        Args:
            codes: `(B, A)`.
            count: of groups.
            own: `(B,)` a group near each point, where one is known: those near that group are compared.
            compared: how many groups.

        Returns:
            groups: `(B, count)` nearest first.
            squared: `(B, count)`.
        """
        wanted = max(_COMPARED, 8 * count) if compared is None else compared
        if not len(self.cells) or 2 * wanted > len(self):
            return _nearest(self._faiss, self.centroids, codes, count, self.coarse)
        parts = self.cells_of(codes) if own is None else np.asarray(own, np.int64)
        groups, squared = np.empty((len(codes), count), np.int64), np.empty((len(codes), count), np.float32)
        order = np.argsort(parts, kind="stable")
        together = [some for some in np.split(order, np.flatnonzero(np.diff(parts[order])) + 1) if len(some)]

        def compare(batch: slice) -> None:
            firsts = parts[[some[0] for some in together[batch]]]
            if own is None:
                around = [self._groups_near(cell, wanted) for cell in firsts.tolist()]
            else:
                around = list(np.sort(self.coarse.search(self.centroids[firsts], wanted)[1], axis=1))
            for places, near in zip(together[batch], around, strict=True):
                found, squared[places] = _nearest(self._faiss, self.centroids[near], codes[places], count)
                groups[places] = near[found]

        _each_in_one_thread(self._faiss, compare, slices(len(together), _BATCH))
        return groups, squared

    def _groups_near(self, cell: int, wanted: int) -> IntArray:
        """At least as many groups as are wanted, those of whole cells, the nearest ones to a cell."""
        if (cell, wanted) not in self._near:
            found: list[IntArray] = []
            number = 0
            for other in self._cells_by_distance[cell].tolist():
                found.append(self._order[self._ends[other] : self._ends[other + 1]])
                number += len(found[-1])
                if number >= wanted:
                    break
            self._near[cell, wanted] = np.sort(np.concatenate(found))
        return self._near[cell, wanted]


def _each_in_one_thread(faiss: Any, action: Callable[[slice], None], parts: list[slice]) -> None:
    """Products too small to be shared among threads, several at a time; of few, each is shared."""
    threads = number_of_threads()
    if threads == 1 or len(parts) < threads:
        for part in parts:
            action(part)
        return

    def several(first: int) -> None:
        faiss.omp_set_num_threads(1)  # of this thread, which ends with its work
        for part in parts[first::threads]:
            action(part)

    each(several, range(threads))


def _nearest(
    faiss: Any, centroids: FloatArray, codes: FloatArray, count: int, index: Any = None
) -> tuple[IntArray, FloatArray]:
    """The nearest centroids. The Gram form decides unless two are about as near."""

    def search(some: FloatArray, width: int) -> tuple[FloatArray, IntArray]:
        squared, found = faiss.knn(some, centroids, width) if index is None else index.search(some, width)
        return squared, found

    width = min(len(centroids), count + 1)
    squared, found = search(codes, width)
    if width > count:
        size = np.einsum("ij,ij->i", codes, codes) + squared[:, -1]
        close = np.flatnonzero(squared[:, -1] - squared[:, -2] <= 1e-5 * size)
        if len(close):
            _, candidates = search(codes[close], min(len(centroids), count + 8))
            both = np.concatenate([codes[close], centroids])
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
        max_points_per_centroid=_PER_CELL,
    )  # fmt: skip
    means.train(training)
    centroids: FloatArray = means.centroids
    return centroids


def trained_in_cells(faiss: Any, training: FloatArray, count: int, n_cells: int) -> tuple[FloatArray, FloatArray]:
    """Centroids of many groups: k-means in which points are compared with the centroids of near cells only.

    Args:
        faiss: the module.
        training: `(T, A)` points, more than `count`.
        count: of groups.
        n_cells: of cells.

    Returns:
        centroids: `(count, A)`, those of a cell beside each other.
        cells: `(n_cells, A)`.
    """
    cells = trained_centroids(faiss, _spread(training, _PER_CELL * n_cells), n_cells)
    centroids = _spread(training, count).copy()
    groups = Groups(faiss, centroids, cells)
    own = np.concatenate([groups.nearest(training[part], 1)[0][:, 0] for part in slices(len(training), 4 * _SUMMED)])
    for _ in counted("training groups", slices(_ITERATIONS, 1), _ITERATIONS):
        by_group = np.argsort(own, kind="stable")
        for part in slices(len(training), 4 * _SUMMED):  # a point moves to a group near its last one
            some = by_group[part]
            own[some] = groups.nearest(training[some], 1, own=own[some], compared=_COMPARED // 4)[0][:, 0]
        centroids = _means(training, own, centroids)
        groups = Groups(faiss, centroids, cells)
    order = np.argsort(groups.cells_of(centroids), kind="stable")
    return centroids[order], cells


def _spread(rows: FloatArray, count: int) -> FloatArray:
    """Some rows, evenly spread."""
    places = np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(np.int64)
    return np.ascontiguousarray(rows[places])


def _means(points: FloatArray, own: IntArray, centroids: FloatArray) -> FloatArray:
    """The mean of each group; one that is empty takes half of a large one."""
    counts = np.bincount(own, minlength=len(centroids))
    order = np.argsort(own, kind="stable")
    ends = np.concatenate([[0], np.cumsum(counts)])
    means = centroids.copy()
    for part in _of_groups(ends):
        full = part.start + np.flatnonzero(counts[part])
        if len(full):
            rows = points[order[ends[part.start] : ends[part.stop]]]
            sums = np.add.reduceat(rows, ends[full] - ends[part.start], axis=0)
            means[full] = sums / counts[full, None].astype(np.float32)
    empty = np.flatnonzero(counts == 0)
    largest = np.argsort(-counts, kind="stable")[: len(empty)]
    apart = np.where(np.arange(points.shape[1]) % 2 == 0, 1 + _SPLIT, 1 - _SPLIT).astype(np.float32)
    means[empty[: len(largest)]] = means[largest] * apart
    means[largest] *= 2 - apart
    return means


def _of_groups(ends: npt.NDArray[Any]) -> Sequence[slice]:
    """Consecutive groups that hold some ten thousand points together."""
    cuts = np.searchsorted(ends, np.arange(0, ends[-1] + 1, _SUMMED))
    bounds = np.unique(np.concatenate([[0], cuts, [len(ends) - 1]])).tolist()
    return [slice(start, stop) for start, stop in pairwise(bounds)]
