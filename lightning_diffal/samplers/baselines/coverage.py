"""Greedy coverage of the whole data set by a Gaussian kernel, in blocks: no matrix of N x N is ever held."""

from __future__ import annotations

import heapq

import numpy as np

from lightning_diffal.samplers.base import Query
from lightning_diffal.samplers.kernels import gaussian_gains, gaussian_rows
from lightning_diffal.samplers.points import KeyedPoints, nearest_squared
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["cover", "covered_by", "greedy_coverage"]

_LARGEST_BLOCK = 32  # gains that are computed again at a time


def covered_by(targets: FloatArray, points: FloatArray, width: float) -> FloatArray:
    r"""How well each point is covered, :math:`\max_s K(s, n)`; 0 where there is no target.

    Args:
        targets: `(S, D)` labelled, pending or picked points.
        points: `(N, D)`.
        width: of the kernel.

    Example:
        >>> covered_by(np.float32([[0]]), np.float32([[0], [1]]), 1.0).round(4)
        array([1.    , 0.3679], dtype=float32)
    """
    nearest = nearest_squared(points, targets).astype(np.float64)
    covered: FloatArray = np.exp(-nearest / width**2).astype(np.float32)
    return covered


def greedy_coverage(
    candidates: FloatArray, points: FloatArray, weights: FloatArray, covered: FloatArray, width: float, size: int
) -> tuple[IntArray, FloatArray]:
    r"""Pick again and again the candidate that adds most to the weighted coverage of all points.

    .. math:: x = \arg\max_x \sum_n u_n \max\big(0, K(x, n) - \mathrm{cov}_n\big), \qquad
        K(x, n) = e^{-\lVert x - n \rVert^2 / \sigma^2}

    The objective is monotone and submodular, so the greedy choice is within :math:`1 - 1/e` of the best one (Nemhauser,
    Wolsey and Fisher, 1978), and a gain can only fall: it is computed again only where its last value would win
    (Minoux, "Accelerated greedy algorithms", 1978), in small blocks. The first gains take `M * N` evaluations of the
    kernel, and no more than a block of them is held.

    Args:
        candidates: `(M, D)` to pick from, centred; of equal gains the earlier one wins.
        points: `(N, D)` to cover.
        weights: `(N,)` at least 0.
        covered: `(N,)` what is covered from the start; left as it is.
        width: :math:`\sigma`.
        size: how many to pick, at most `M`.

    Returns:
        positions: `(size,)` in the order of choice.
        gains: `(size,)` of each when it was picked.

    Example:
        >>> points = np.float32([[0], [0.1], [0.2], [9]])
        >>> ones = np.ones(4, np.float32)
        >>> positions, gains = greedy_coverage(points, points, ones, 0 * ones, 1.0, 2)
        >>> positions.tolist(), gains.round(2).tolist()
        ([1, 3], [2.9800000190734863, 1.0])
    """
    state = covered.copy()
    first = gaussian_gains(candidates, points, weights, state, width)
    heap = [(-float(gain), position, 0) for position, gain in enumerate(first)]
    heapq.heapify(heap)
    positions, gains = np.empty(size, np.int64), np.empty(size, np.float32)
    for place in range(size):
        block = 1
        while heap[0][2] < place:
            stale: list[tuple[float, int, int]] = []
            while heap and len(stale) < block and heap[0][2] < place:
                stale.append(heapq.heappop(heap))
            block = min(2 * block, _LARGEST_BLOCK)
            rows = np.array([position for _, position, _ in stale])
            again = gaussian_gains(candidates[rows], points, weights, state, width)
            for (bound, position, _), gain in zip(stale, again, strict=True):
                # rounding must not let a gain rise above its bound, or equal points would change places
                heapq.heappush(heap, (max(bound, -float(gain)), position, place))
        bound, position, _ = heapq.heappop(heap)
        positions[place], gains[place] = position, -bound
        np.maximum(state, gaussian_rows(points, candidates[position], width), out=state)
    return positions, gains


def cover(space: KeyedPoints, weights: FloatArray | None, width: float, size: int, max_covered: int) -> Query:
    """Choose the batch that adds most to the weighted coverage; labelled and pending points cover from the start.

    Args:
        space: the data set in the order of its keys.
        weights: `(N,)` of its rows. `None`: all count alike.
        width: of the kernel, in the units of the rows.
        size: how many points to choose, at most as many as there are candidates.
        max_covered: on how many points, random ones, coverage is counted at most.

    Returns:
        The chosen points; scores are the shares of the whole weight that each newly covers. `summary` holds `width`,
        and `covered`, the share that is covered with the query.
    """
    points = space.points[:max_covered]
    counts = np.ones(len(points), np.float32) if weights is None else weights[:max_covered].astype(np.float32)
    covered = covered_by(space.points[space.held], points, width)
    positions, gains = greedy_coverage(space.points[space.candidates], points, counts, covered, width, size)
    total = max(float(counts.sum(dtype=np.float64)), float(np.finfo(np.float32).tiny))
    before = float(np.dot(counts.astype(np.float64), covered))
    return Query(
        space.order[space.candidates[positions]],
        (gains / total).astype(np.float32),
        summary={
            "width": float(np.ldexp(width, space.exponent)),
            "covered": min(1.0, (before + float(gains.sum(dtype=np.float64))) / total),
        },
    )
