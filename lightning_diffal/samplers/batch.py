"""How a batch is picked: in passes, best points first, spread over the graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lightning_diffal import diffusion
from lightning_diffal.graph.point_graph import PointGraph
from lightning_diffal.processes.shards import ShardedRows
from lightning_diffal.samplers.base import QueryData
from lightning_diffal.utils.aliases import BoolArray, FloatArray, IntArray

__all__ = ["EXPLORED", "Batch", "coverage", "guidance", "mean_coverage", "ordered_candidates", "pick_batch", "weakness"]


EXPLORED = 3.0
"""Label equivalents from which on a point counts as explored."""

_OUTLIERS = 0.1  # share of the points, the least central ones
_ROWS = 1024  # rows of the graph read at a time
_SORTED_FIRST = 2**14


class Batch(NamedTuple):
    """The points picked, in order, with what they scored when they were.

    Attributes:
        indices: `(b,)` positions in the data set.
        scores: `(b,)`.
        label_equivalents: `(b,)` how well labels and asked points covered each.
        pool_label_equivalents: the mean over all candidates before the first pick.
    """

    indices: IntArray
    scores: FloatArray
    label_equivalents: FloatArray
    pool_label_equivalents: float


def pick_batch(
    space: PointGraph,
    summary: diffusion.LabelSummary,
    data: QueryData,
    size: int,
    keys: npt.NDArray[np.float64],
    *,
    n_steps: int,
    n_passes: int,
    centrality: float,
) -> Batch:
    """Pick `size` candidates in passes; after each, the picks absorb walks and so repel the next ones.

    Args:
        space: the graph.
        summary: the diffused labels; they stay as they are throughout.
        data: candidates, labelled and pending points.
        size: at most the number of candidates.
        keys: `(N,)` break ties.
        n_steps: of the diffusion of asked points.
        n_passes: never more than `size` are made.
        centrality: weight of the centrality in the score of an unexplored pool.
    """
    known, waiting = space.inverse[data.labelled], space.inverse[data.pending]
    fresh, copies, tier = ordered_candidates(space.inverse, data, keys)
    asked, picked = np.unique(waiting), np.empty(0, np.int64)
    scores, equivalents = np.empty(0, np.float32), np.empty(0, np.float32)
    pool_mean, bonus = 0.0, space.centrality
    passes = min(n_passes, size)
    for number in range(passes + 1):
        if len(picked) == size:
            break
        mass = diffusion.diffuse_asked(space.transition, known, asked, n_steps)
        equivalent = coverage(space, summary, mass, n_steps)
        if number == 0:
            pool_mean = mean_coverage(space, equivalent, data.candidates)
            bonus = np.float32(centrality) * guidance(space.centrality, pool_mean)
        score = weakness(summary, mass) + bonus
        if number < passes:
            want = size * (number + 1) // passes - size * number // passes
            nodes = space.inverse[fresh]
            positions = _spread(space.transition, nodes, score[nodes], want)
            chosen, fresh = fresh[positions], np.delete(fresh, positions)
        else:  # copies of points that are known or asked, when nothing else is left
            order = np.lexsort((-score[space.inverse[copies]], tier))
            chosen = copies[order[: size - len(picked)]]
        nodes = space.inverse[chosen]
        picked = np.concatenate([picked, chosen])
        scores = np.concatenate([scores, score[nodes]])
        equivalents = np.concatenate([equivalents, equivalent[nodes]])
        asked = np.union1d(asked, nodes)
    return Batch(picked, scores, equivalents, pool_mean)


def ordered_candidates(
    inverse: IntArray, data: QueryData, keys: npt.NDArray[np.float64]
) -> tuple[IntArray, IntArray, IntArray]:
    """Candidates in the order of their keys: one point per node, then further copies of what is held or asked.

    Args:
        inverse: `(N,)` the node of each point.
        data: candidates, labelled and pending points.
        keys: `(N,)` break ties.

    Returns:
        fresh: `(F,)` positions in the data set, of distinct nodes without a labelled or pending point.
        copies: `(M - F,)` the others.
        tier: `(M - F,)` how many copies of each come before it.

    Example:
        >>> data = QueryData(num_points=4, labelled=[0], labels=[1])
        >>> ordered_candidates(np.array([0, 0, 1, 1]), data, np.array([0.0, 0.1, 0.3, 0.2]))
        (array([3]), array([1, 2]), array([1, 1]))
    """
    held = inverse[np.concatenate([data.labelled, data.pending])]
    candidates = data.candidates[np.argsort(keys[data.candidates], kind="stable")]
    tier = _tiers(inverse[candidates], held, int(inverse.max(initial=-1)) + 1)
    return candidates[tier == 0], candidates[tier > 0], tier[tier > 0]


def coverage(space: PointGraph, summary: diffusion.LabelSummary, mass: FloatArray, n_steps: int) -> FloatArray:
    """How well labels and asked points cover each node, in label equivalents.

    Args:
        space: the graph.
        summary: the diffused labels.
        mass: `(U,)` of asked points.
        n_steps: of the diffusion.
    """
    return diffusion.label_equivalents(np.minimum(1, summary.reach + mass), space.n_nodes, n_steps)


def mean_coverage(space: PointGraph, equivalents: FloatArray, candidates: IntArray) -> float:
    """The mean over the pool; 0 of an empty one.

    Args:
        space: the graph.
        equivalents: `(U,)` of `coverage`.
        candidates: `(M,)` the pool.
    """
    of_pool = equivalents[space.inverse[candidates]]
    return float(of_pool.mean(dtype=np.float64)) if len(of_pool) else 0.0


def weakness(summary: diffusion.LabelSummary, mass: FloatArray) -> FloatArray:
    """How little is known of each node, labels and asked points counted.

    Args:
        summary: the diffused labels.
        mass: `(U,)` of asked points.

    Example:
        >>> summary = diffusion.LabelSummary(np.float32([0.5, 0]), np.float32([0.5, 0]), np.array([1, -1]))
        >>> weakness(summary, np.float32([0.25, 0.25]))
        array([0.25, 0.75], dtype=float32)
    """
    weak: FloatArray = 1 - np.minimum(1, summary.margin + mass)
    return weak


def guidance(centrality: FloatArray, mean_label_equivalents: float) -> FloatArray:
    """How much the centrality of each node counts in a pool that is explored this far.

    All of it where little is known: central points teach most about the rest. Where the pool is reached by several
    labels already, the weakest points lie at borders, and the more central ones teach no more than others; only
    outliers, the least central tenth, are still held back.

    Args:
        centrality: `(U,)` from 0 to 1.
        mean_label_equivalents: of the pool, asked points included.

    Returns:
        `(U,)` from 0 to 1.

    Example:
        >>> ranks = np.array([0.0, 0.05, 0.5, 1.0], np.float32)
        >>> guidance(ranks, 3.0).round(2), guidance(ranks, 30.0).round(2)
        (array([0.  , 0.05, 0.5 , 1.  ], dtype=float32), array([0.  , 0.46, 0.95, 1.  ], dtype=float32))
    """
    share = np.float32(EXPLORED / max(mean_label_equivalents, EXPLORED))
    guided: FloatArray = share * centrality + (1 - share) * np.minimum(1, centrality / np.float32(_OUTLIERS))
    return guided


def _tiers(nodes: IntArray, held: IntArray, n_nodes: int) -> IntArray:
    """How many copies of each candidate come before it: held ones, then candidates earlier in the list."""
    order = np.argsort(nodes, kind="stable")
    ordered = nodes[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    rank = np.arange(len(nodes)) - np.repeat(starts, np.diff(np.append(starts, len(nodes))))
    tiers = np.empty(len(nodes), np.int64)
    tiers[order] = rank
    return tiers + np.bincount(held, minlength=n_nodes)[nodes]


def _best_first(scores: FloatArray) -> Iterator[IntArray]:
    """Positions in the order of falling scores, equal ones as they come; a block at a time."""
    start = 0
    if len(scores) > 4 * _SORTED_FIRST:  # all are rarely wanted, and sorting them takes longer than the rest
        limit = -np.partition(-scores, _SORTED_FIRST)[_SORTED_FIRST]
        best = np.flatnonzero(scores >= limit)
        best = best[np.argsort(-scores[best], kind="stable")]
        for start in range(0, len(best), _ROWS):
            yield best[start : start + _ROWS]
        start = len(best)
    order = np.argsort(-scores, kind="stable")
    for first in range(start, len(order), _ROWS):
        yield order[first : first + _ROWS]


def _spread(transition: sp.csr_matrix | ShardedRows, nodes: IntArray, scores: FloatArray, size: int) -> IntArray:
    """Positions in `nodes` of the best, no two adjacent; filled up with the best left where such run out."""
    blocked: BoolArray = np.zeros(transition.shape[0], dtype=bool)
    chosen: list[int] = []
    passed_over: list[int] = []
    for block in _best_first(scores):
        if len(chosen) == size:
            break
        rows = transition[nodes[block]]  # not one by one: other processes may hold them
        for row, position in enumerate(block):
            if len(chosen) == size:
                break
            if blocked[nodes[position]]:
                passed_over.append(position)
                continue
            chosen.append(position)
            blocked[rows.indices[rows.indptr[row] : rows.indptr[row + 1]]] = True
    return np.array(chosen + passed_over[: size - len(chosen)], dtype=np.int64)
