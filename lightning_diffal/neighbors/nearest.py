"""Nearest neighbours of every point: by faiss, exact (CPU or GPU), by pynndescent, or by any library of yours.

Ties and sums never depend on the order of the data set: exact searches work in a random order drawn from a generator.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.neighbors.backends import (
    BACKENDS,
    LISTS_FROM,
    auto_backend,
    faiss_module,
    has_faiss,
    log_search,
)
from lightning_diffal.neighbors.descent import descent_shortlist
from lightning_diffal.neighbors.exact import exact_search
from lightning_diffal.neighbors.lists import Sharing, list_search
from lightning_diffal.neighbors.refine import nearest_of
from lightning_diffal.neighbors.rows import SearchedRows, finite_rows, scaled_points
from lightning_diffal.neighbors.sample import RecallSample
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.memory import give_back_memory
from lightning_diffal.utils.numeric.matrices import relative_distances
from lightning_diffal.utils.numeric.rows import read_when_needed
from lightning_diffal.utils.storage.stages import Stages

__all__ = ["NeighborBackend", "Neighbors", "auto_backend", "find_neighbors", "nearest_neighbors", "nearest_rows"]

NeighborBackend = Callable[[FloatArray, int], tuple[Any, Any]]

_METRICS = ("euclidean", "cosine")
_BLOCK_VALUES = 2**22


class Neighbors(NamedTuple):
    """Neighbour lists, with how they were found.

    Attributes:
        indices: `(R, k)`.
        distances: `(R, k)` float32.
        backend: `"faiss"`, `"exact"`, `"pynndescent"` or `"callable"`.
        recall: share of the true neighbours found, measured on a sample of the points; `None` of a callable's.
    """

    indices: npt.NDArray[Any]
    distances: FloatArray
    backend: str = "exact"
    recall: float | None = None


def nearest_neighbors(
    features: Any,
    n_neighbors: int,
    *,
    metric: str = "euclidean",
    backend: str | NeighborBackend = "auto",
    generator: np.random.Generator | None = None,
    device: Any = None,
    rows: IntArray | None = None,
) -> tuple[IntArray, FloatArray]:
    r"""Find the `k` nearest neighbours of every point, itself excluded.

    .. math:: d_{ij} = \lVert z_i - z_j \rVert_2 \quad\text{or}\quad d_{ij} = 1 - \cos(z_i, z_j)

    Distances are computed by direct subtraction, in whatever way the neighbours were found: the Gram form
    :math:`\lVert x \rVert^2 - 2 x^\top y + \lVert y \rVert^2` gives most exact duplicates a distance above zero.
    Magnitudes from 1e-38 to 1e38 neither overflow nor underflow.

    Args:
        features: `(N, D)` array or torch tensor of any floating type. A tensor is searched on its own device.
        n_neighbors: `k`; cut to `N - 1`.
        metric: `"euclidean"` or `"cosine"`. Rows of zeros have no direction: for `"cosine"` they coincide with one
            another and are orthogonal to all other points.
        backend: `"faiss"`, `"exact"`, `"pynndescent"`, `"auto"` (see `auto_backend`) or a callable.
            `"faiss"` looks through as much of its inverted lists as finds 98.5 % of the neighbours of a sample, and
            searches fewer than 5,000 points exactly; the same machine finds the same neighbours, while another number
            of threads may move a centroid by a rounding error. `"exact"` takes faiss where it is installed, else
            torch: the neighbours are the same.
            A callable `(features, n_neighbors) -> (indices, distances)` gets float32 features and returns at least
            `n_neighbors` columns beside the point itself, which may stand among them. It may return `None` for the
            distances: they are then computed here (faiss returns squares, for instance), and rows with gaps, marked
            -1, are searched exactly. If it returns distances, they are used as they are and `metric` is its affair.
        generator: breaks ties and seeds pynndescent, whose answer also depends on the number of its threads.
            `None`: `np.random.default_rng(0)`.
        device: where the exact search runs. `None`: on the device of `features`.
        rows: `(R,)` the points whose neighbours are wanted, among all; for `"exact"` and `"faiss"`. `None`: all.

    Returns:
        indices: `(N, k)` int64, or `(R, k)`; nearest first, ties in random order.
        distances: of the same shape, float32.

    Raises:
        ConfigurationError: an argument out of range, or a callable whose answer is malformed.
        FeatureError: features with NaN or infinite values.

    Example:
        >>> indices, distances = nearest_neighbors(np.array([[0.0], [1.0], [3.0]]), 1)
        >>> indices.ravel().tolist(), distances.ravel().tolist()
        ([1, 0, 1], [1.0, 1.0, 2.0])
    """
    found = find_neighbors(
        features, n_neighbors, metric=metric, backend=backend, generator=generator, device=device, rows=rows
    )
    return found.indices.astype(np.int64, copy=False), found.distances


def find_neighbors(
    features: Any,
    n_neighbors: int,
    *,
    metric: str = "euclidean",
    backend: str | NeighborBackend = "auto",
    generator: np.random.Generator | None = None,
    device: Any = None,
    rows: IntArray | None = None,
    shards: Sharing | None = None,
    stages: Stages | None = None,
) -> Neighbors:
    """`nearest_neighbors`, with the recall; on several processes, or of features larger than memory.

    Args:
        features: as there. `"faiss"` reads whatever has `shape` and gives rows for slices and arrays of positions.
        n_neighbors: as there.
        metric: as there.
        backend: as there.
        generator: as there.
        device: as there.
        rows: as there.
        shards: processes that search their rows at the same time, where the search is `"faiss"`.
        stages: of a search by `"faiss"`, kept in a folder.

    Returns:
        The lists; indices are int32 where the search is `"faiss"`.

    Raises:
        ConfigurationError: as there.
        FeatureError: as there.

    Example:
        >>> find_neighbors(np.array([[0.0], [1.0], [3.0]]), 1).recall
        1.0
    """
    check_search(n_neighbors, metric, backend)
    if device is None:
        device = getattr(features, "device", "cpu") if hasattr(features, "detach") else "cpu"
    started = time.monotonic()
    shape = getattr(features, "shape", None) or np.shape(features)
    if len(shape) != 2 or not shape[0]:
        raise ConfigurationError(f"Expected argument `features` of shape (N, D) with N >= 1, but got {tuple(shape)}.")
    n_points, n_dimensions = shape
    k = min(int(n_neighbors), n_points - 1)
    if k < 1:
        n_rows = len(finite_rows(features)) if rows is None else len(rows)
        return Neighbors(np.empty((n_rows, 0), np.int64), np.empty((n_rows, 0), np.float32), "exact", 1.0)
    generator = np.random.default_rng(0) if generator is None else generator
    if callable(backend):
        if rows is not None:
            raise ConfigurationError("Expected `backend` 'exact' or 'faiss' with argument `rows`, but got a callable.")
        return _by_callable(backend, finite_rows(features), k, metric, generator)
    name = auto_backend(n_points, n_dimensions, device=device) if backend == "auto" else backend
    if name == "pynndescent" and read_when_needed(features) and n_points * n_dimensions > 2**30:
        raise ConfigurationError(
            f"Features of {n_points:,} points that are read from files need faiss: "
            'pip install "lightning-diffal[faiss]".'
        )
    if rows is not None and name == "pynndescent":
        raise ConfigurationError(f"Expected `backend` 'exact' or 'faiss' with argument `rows`, but got {name!r}.")
    if name == "faiss" and n_points >= LISTS_FROM:
        found = _by_lists(features, k, metric, generator, rows, shards, stages)
    else:
        found = _by_points(finite_rows(features), k, metric, name, generator, device, rows)
    log_search((n_points, n_dimensions), found.backend, backend, found.recall, time.monotonic() - started)
    return found


def check_search(n_neighbors: Any, metric: Any, backend: Any) -> None:
    """Refuse arguments that no search understands, before anything is read.

    Args:
        n_neighbors: as of `nearest_neighbors`.
        metric: as of `nearest_neighbors`.
        backend: as of `nearest_neighbors`.

    Raises:
        ConfigurationError: one is out of range.
        MissingExtraError: `"faiss"` is wanted and not installed.
    """
    if isinstance(n_neighbors, bool) or not isinstance(n_neighbors, (int, np.integer)) or n_neighbors < 1:
        raise ConfigurationError(
            f"Expected argument `n_neighbors` to be an integer of at least 1, but got {n_neighbors!r}."
        )
    if metric not in _METRICS:
        raise ConfigurationError(f"Expected argument `metric` to be one of {_METRICS}, but got {metric!r}.")
    if not callable(backend) and backend not in BACKENDS:
        raise ConfigurationError(
            f"Expected argument `backend` to be one of {BACKENDS} or a callable, but got {backend!r}."
        )
    if backend == "faiss":
        faiss_module()


def _by_lists(
    features: Any,
    k: int,
    metric: str,
    generator: np.random.Generator,
    rows: IntArray | None,
    shards: Sharing | None,
    stages: Stages | None,
) -> Neighbors:
    if hasattr(features, "detach"):
        features = finite_rows(features)
    points = SearchedRows(features, metric)
    found = list_search(faiss_module(), points, k, generator=generator, rows=rows, shards=shards, stages=stages)
    give_back_memory()
    distances = _true_lengths(found.distances, metric, points.exponent)
    return Neighbors(found.indices, distances, "faiss", found.recall)


def _by_points(
    original: FloatArray,
    k: int,
    metric: str,
    backend: str,
    generator: np.random.Generator,
    device: Any,
    rows: IntArray | None,
) -> Neighbors:
    """In a random order, so that ties are broken by it."""
    n_points = len(original)
    order = np.argsort(generator.random(n_points), kind="stable")
    points, exponent = scaled_points(original, metric)
    points = points[order]
    faiss = faiss_module() if backend == "faiss" or has_faiss() else None
    recall = 1.0
    if backend == "pynndescent":
        shortlist = descent_shortlist(points, k, generator)
        centre = np.median(points[:4096], axis=0)
        sample = RecallSample(faiss, SearchedRows(points, "euclidean"), centre, k, np.random.default_rng(0))
        recall = sample.recall(shortlist[sample.rows])
        indices, distances = _filled(points, shortlist, k, faiss)
    else:
        backend = "exact"
        searched = np.arange(n_points) if rows is None else np.argsort(order, kind="stable")[rows]
        indices, distances = exact_search(points, searched, k, device=device, faiss=faiss)
    return Neighbors(*_in_place(indices, distances, order, rows, metric, exponent), backend, recall)


def _by_callable(
    backend: NeighborBackend, original: FloatArray, k: int, metric: str, generator: np.random.Generator
) -> Neighbors:
    order = np.argsort(generator.random(len(original)), kind="stable")
    found, given = _ask_callable(backend, original, k)
    if given is not None:
        indices, distances = _sorted_lists(found, given, order, k)
        return Neighbors(indices, distances.astype(np.float32), "callable")
    points, exponent = scaled_points(original, metric)
    points = points[order]
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    shortlist = np.where(found < 0, -1, position[found])[order]
    faiss = faiss_module() if has_faiss() else None
    indices, distances = _filled(points, shortlist, k, faiss)
    return Neighbors(*_in_place(indices, distances, order, None, metric, exponent), "callable")


def _filled(points: FloatArray, shortlist: IntArray, k: int, faiss: Any) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """The nearest of each shortlist; rows that hold too few are searched exactly."""
    wide = np.pad(shortlist, ((0, 0), (0, max(0, k - shortlist.shape[1]))), constant_values=-1)
    indices, distances = nearest_of(points, np.arange(len(points)), wide, k)
    short = np.flatnonzero(~np.isfinite(distances).all(axis=1))
    if len(short):
        indices[short], distances[short] = exact_search(points, short, k, faiss=faiss)
    return indices, distances


def _in_place(
    indices: IntArray,
    distances: npt.NDArray[np.float64],
    order: IntArray,
    rows: IntArray | None,
    metric: str,
    exponent: int,
) -> tuple[IntArray, FloatArray]:
    """Lists of points in random order as lists of the points in theirs."""
    places = order if rows is None else np.arange(len(rows))
    neighbours, lengths = np.empty(indices.shape, np.int64), np.empty(indices.shape, np.float32)
    neighbours[places], lengths[places] = order[indices], _true_lengths(distances, metric, exponent)
    return neighbours, lengths


def _true_lengths(distances: npt.NDArray[Any], metric: str, exponent: int) -> FloatArray:
    if metric == "euclidean" and not exponent and distances.dtype == np.float32:
        return distances
    wide = distances.astype(np.float64)
    true = wide**2 / 2 if metric == "cosine" else np.ldexp(wide, exponent)
    return np.minimum(true, np.finfo(np.float32).max).astype(np.float32)


def nearest_rows(features: Any, queries: Any, targets: Any, *, metric: str = "euclidean") -> IntArray:
    """The nearest of the `targets` for each of the `queries`, in blocks.

    Args:
        features: `(N, D)` array.
        queries: `(Q,)` indices of the points to find a neighbour for.
        targets: `(T,)` indices of the points to find it among; of equally near ones the first is taken.
        metric: `"euclidean"` or `"cosine"`.

    Returns:
        `(Q,)` indices out of `targets`; -1 everywhere if there is none.

    Example:
        >>> nearest_rows(np.array([[0.0], [1.0], [3.0]]), [1], [0, 2])
        array([0])
    """
    queries, targets = np.asarray(queries, np.int64), np.asarray(targets, np.int64)
    nearest = np.full(len(queries), -1, np.int64)
    if not len(targets) or not len(queries):
        return nearest
    used = np.concatenate([queries, targets])
    taken = features[used] if read_when_needed(features) else np.asarray(features)[used]
    points = scaled_points(finite_rows(taken), metric)[0].astype(np.float64)
    points -= np.median(points[:4096], axis=0)
    sources, sinks = points[: len(queries)], points[len(queries) :]
    for part, squared in relative_distances(sources, sinks, _BLOCK_VALUES // len(sinks), np.float64):
        nearest[part] = targets[squared.argmin(axis=1)]
    return nearest


def _ask_callable(
    backend: NeighborBackend, features: FloatArray, k: int
) -> tuple[IntArray, npt.NDArray[np.float64] | None]:
    """Call a user's backend and refuse a malformed answer. A point's distance to itself becomes infinite."""
    n_points = len(features)
    answer = backend(features, k)
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise ConfigurationError(f"Expected `backend` to return (indices, distances), but got {type(answer).__name__}.")
    indices = np.asarray(answer[0])
    if indices.ndim != 2 or len(indices) != n_points or not np.issubdtype(indices.dtype, np.integer):
        raise ConfigurationError(
            f"Expected `backend` to return integer indices of shape ({n_points}, {k}), "
            f"but got {indices.dtype} of shape {indices.shape}."
        )
    indices = indices.astype(np.int64)
    lowest = 0 if answer[1] is not None else -1
    if indices.size and (indices.min() < lowest or indices.max() >= n_points):
        raise ConfigurationError(
            f"Expected `backend` to return indices between 0 and {n_points - 1}, "
            f"but got {indices.min()} to {indices.max()}. Gaps (-1) are filled if it returns None for the distances."
        )
    ordered = np.sort(indices, axis=1)
    if ((np.diff(ordered, axis=1) == 0) & (ordered[:, 1:] >= 0)).any():
        raise ConfigurationError("Expected `backend` to return each neighbour of a point once, but got duplicates.")
    others = indices != np.arange(n_points)[:, None]
    if others.sum(axis=1).min() < k:
        raise ConfigurationError(
            f"Expected `backend` to return {k} neighbours beside the point itself, but got "
            f"{others.sum(axis=1).min()}. Ask your library for one more: most count the point as its own neighbour."
        )
    if answer[1] is None:
        return indices, None
    distances = np.asarray(answer[1], dtype=np.float64)
    if distances.shape != others.shape:
        raise ConfigurationError(
            f"Expected `backend` to return distances of shape {others.shape}, but got {distances.shape}."
        )
    if not (np.isfinite(distances).all() and (distances >= 0).all()):
        raise ConfigurationError("Expected `backend` to return finite distances of at least 0.")
    return indices, np.where(others, distances, np.inf)  # itself comes last


def _sorted_lists(
    indices: IntArray, distances: npt.NDArray[np.float64], order: IntArray, k: int
) -> tuple[IntArray, npt.NDArray[np.float64]]:
    keys = np.empty_like(order)
    keys[order] = np.arange(len(order))
    closest = np.lexsort((keys[indices], distances), axis=1)[:, :k]
    return np.take_along_axis(indices, closest, axis=1), np.take_along_axis(distances, closest, axis=1)
