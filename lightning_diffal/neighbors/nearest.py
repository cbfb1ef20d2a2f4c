"""Nearest neighbours of every point: exact (torch, CPU or GPU), pynndescent, or any library of yours.

Ties and sums never depend on the order of the data set: all work happens in a random order drawn from a generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lightning_diffal.exceptions import ConfigurationError, FeatureError
from lightning_diffal.neighbors.search import descent_search, exact_search, order_by_distance
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.matrices import float32_rows

__all__ = ["NeighborBackend", "auto_backend", "nearest_neighbors", "nearest_rows"]

NeighborBackend = Callable[[FloatArray, int], tuple[Any, Any]]

_METRICS = ("euclidean", "cosine")
_BACKENDS = ("auto", "exact", "pynndescent")
_BLOCK_VALUES = 2**22

# Seconds, measured on two cores of a Xeon (torch 2.13, pynndescent 0.7). See `auto_backend`.
_EXACT_PAIR = 1.6e-9
_EXACT_PAIR_DIMENSION = 1.4e-11
_DESCENT_START = 40.0
_DESCENT_POINT = 7.5e-5
_GPU_SPEEDUP = 50.0  # not measured: a cautious guess


def nearest_neighbors(
    features: Any,
    n_neighbors: int,
    *,
    metric: str = "euclidean",
    backend: str | NeighborBackend = "auto",
    generator: np.random.Generator | None = None,
    device: torch.device | str | None = None,
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
        backend: `"exact"`, `"pynndescent"`, `"auto"` (see `auto_backend`) or a callable
            `(features, n_neighbors) -> (indices, distances)`. A callable gets float32 features and returns at least
            `n_neighbors` columns beside the point itself, which may stand among them. It may return `None` for the
            distances: they are then computed here (faiss returns squares, for instance), and rows with gaps, marked
            -1, are searched exactly. If it returns distances, they are used as they are and `metric` is its affair.
        generator: breaks ties and seeds pynndescent, whose answer also depends on the number of its threads.
            `None`: `np.random.default_rng(0)`.
        device: where the exact search runs. `None`: on the device of `features`.
        rows: `(R,)` the points whose neighbours are wanted, among all; only for the exact search. `None`: all of them.

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
    if isinstance(n_neighbors, bool) or not isinstance(n_neighbors, (int, np.integer)) or n_neighbors < 1:
        raise ConfigurationError(
            f"Expected argument `n_neighbors` to be an integer of at least 1, but got {n_neighbors!r}."
        )
    if metric not in _METRICS:
        raise ConfigurationError(f"Expected argument `metric` to be one of {_METRICS}, but got {metric!r}.")
    if not callable(backend) and backend not in _BACKENDS:
        raise ConfigurationError(
            f"Expected argument `backend` to be one of {_BACKENDS} or a callable, but got {backend!r}."
        )
    if device is None:
        device = features.device if isinstance(features, torch.Tensor) else "cpu"
    device = torch.device(device)
    original = _as_float32(features)
    n_points = len(original)
    k = min(int(n_neighbors), n_points - 1)
    if k < 1:
        n_rows = n_points if rows is None else len(rows)
        return np.empty((n_rows, 0), np.int64), np.empty((n_rows, 0), np.float32)

    generator = np.random.default_rng(0) if generator is None else generator
    order = np.argsort(generator.random(n_points), kind="stable")
    points, exponent = scaled_points(original, metric)
    points = points[order]
    if backend == "auto":
        backend = auto_backend(n_points, points.shape[1], device=device)
    if rows is not None and backend != "exact":
        raise ConfigurationError(f"Expected `backend='exact'` with argument `rows`, but got {backend!r}.")
    if callable(backend):
        found, given = _ask_callable(backend, original, k)
        if given is not None:
            indices, distances = _sorted_lists(found, given, order, k)
            return indices, distances.astype(np.float32)
        position = np.empty_like(order)
        position[order] = np.arange(n_points)
        indices, distances = order_by_distance(points, np.where(found < 0, -1, position[found])[order], k)
    elif backend == "pynndescent":
        indices, distances = descent_search(points, k, generator)
    else:
        searched = np.arange(n_points) if rows is None else np.argsort(order, kind="stable")[rows]
        indices, distances = exact_search(torch.from_numpy(points).to(device), searched, k)

    distances = distances**2 / 2 if metric == "cosine" else np.ldexp(distances, exponent)
    places = order if rows is None else np.arange(len(rows))
    neighbours, lengths = np.empty(indices.shape, np.int64), np.empty(indices.shape, np.float32)
    neighbours[places], lengths[places] = order[indices], np.minimum(distances, np.finfo(np.float32).max)
    return neighbours, lengths


def auto_backend(n_points: int, n_dimensions: int, *, device: torch.device | str = "cpu") -> str:
    """The backend that `backend="auto"` takes: the one of the smaller estimated time.

    Exact search costs `N^2` pairs, pynndescent 25 to 40 seconds of compilation in each new process and then little
    per point; it finds 85 to 99 % of the neighbours (measured on normal clusters of 64 and 32 dimensions). The
    estimate depends on nothing but its arguments (not on the cores, nor on what was compiled before), so that a
    resumed run searches as the interrupted one did.

    Args:
        n_points: `N`.
        n_dimensions: `D`.
        device: where the exact search would run.

    Returns:
        `"exact"` or `"pynndescent"`.

    Example:
        >>> auto_backend(10_000, 64), auto_backend(1_000_000, 64)
        ('exact', 'pynndescent')
    """
    exact = float(n_points) ** 2 * (_EXACT_PAIR + _EXACT_PAIR_DIMENSION * n_dimensions)
    if torch.device(device).type != "cpu":
        exact /= _GPU_SPEEDUP
    return "exact" if exact <= _DESCENT_START + _DESCENT_POINT * n_points else "pynndescent"


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
    points = scaled_points(_as_float32(np.asarray(features)[used]), metric)[0].astype(np.float64)
    points -= np.median(points[:4096], axis=0)
    sources, sinks = points[: len(queries)], points[len(queries) :]
    sink_norms = np.einsum("ij,ij->i", sinks, sinks)
    block = max(1, _BLOCK_VALUES // len(sinks))
    for start in range(0, len(sources), block):
        gram = sink_norms - 2 * (sources[start : start + block] @ sinks.T)
        nearest[start : start + block] = targets[gram.argmin(axis=1)]
    return nearest


def _as_float32(features: Any) -> FloatArray:
    if isinstance(features, torch.Tensor):
        features = features.detach().to("cpu", torch.float32).numpy()
    matrix = np.asarray(features)
    if matrix.ndim != 2 or not len(matrix):
        raise ConfigurationError(f"Expected argument `features` of shape (N, D) with N >= 1, but got {matrix.shape}.")
    values, wrong = float32_rows(matrix)
    if len(wrong):
        rows = wrong[:5].tolist()
        raise FeatureError(f"Expected argument `features` to be finite, but rows {rows} hold NaN or infinity.")
    return values


def scaled_points(matrix: FloatArray, metric: str) -> tuple[FloatArray, int]:
    """Scale by a power of two (exact) to magnitudes of at most 1; for cosine, scale every row to length 1."""
    largest = np.abs(matrix).max(initial=0.0)
    exponent = int(np.frexp(largest)[1]) if largest > 0 else 0
    points = np.ldexp(matrix, -exponent)
    if metric == "euclidean":
        return points, exponent
    row_largest = np.abs(matrix).max(axis=1, keepdims=True, initial=0.0)
    points = np.ldexp(matrix, -np.frexp(row_largest)[1]).astype(np.float64)
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    zero = norms == 0
    points /= np.where(zero, 1, norms)
    if zero.any():
        points = np.hstack([points, zero])  # an axis of their own
    return points.astype(np.float32), 0


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
        raise ConfigurationError("Expected `backend` to return each neighbour of a point once, but some stand twice.")
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
