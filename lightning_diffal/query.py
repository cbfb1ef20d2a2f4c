"""One query: how many points and which ones; on one process or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lightning_diffal._lightning import pl
from lightning_diffal._random import generator_of
from lightning_diffal.exceptions import InvalidIndexError
from lightning_diffal.samplers.base import Query, QueryData

if TYPE_CHECKING:
    from lightning_diffal.callback import ActiveLearning

__all__ = ["PSEUDO_LABELS", "ask", "checked_query", "joined", "next_query_size", "read_pool"]

# Places in the run that draw random numbers, each from a generator of its own.
_FEATURES, _SELECTION, PSEUDO_LABELS = 1, 2, 3


def next_query_size(active: ActiveLearning) -> int | str:
    """How many points to ask next, or why none.

    Args:
        active: the run, after a round has trained.
    """
    # `stop` may have been called on some process only, for a metric that differs between them
    stops = active.ranks.everyone(active.stop_reason)
    wanted = next((reason for reason in stops if reason is not None), None)
    return active.ranks.decide(lambda: _size_or_reason(active) if wanted is None else wanted)


def _size_or_reason(active: ActiveLearning) -> int | str:
    pool = active.data.pool
    if active.max_rounds is not None and active.state.round >= active.max_rounds:
        return f"max_rounds={active.max_rounds} reached"
    left = len(pool.pool_indices)
    if not left:
        return "the pool is empty"
    if active.budget is not None:
        left = min(left, active.budget - pool.n_bought - len(pool.pending_indices))
        if left <= 0:
            return f"budget={active.budget} spent"
    if time.monotonic() > active.deadline:
        return f"max_time of {active.max_seconds:.0f} seconds is over"
    for rule in active.stopping:
        reason = rule(active.history)
        if reason:
            return str(reason)
    return min(active.query_size, left)


def ask(
    trainer: pl.Trainer,
    active: ActiveLearning,
    query_size: int,
    timed: Callable[[str], AbstractContextManager[None]],
) -> Query:
    """Choose the points to ask next. Every process gets the same answer.

    Args:
        trainer: in a fit.
        active: the run.
        query_size: how many.
        timed: measures a part by name.

    Returns:
        The sampler's query, checked.
    """
    data, state, ranks = active.data, active.state, active.ranks
    required = active.sampler.requires
    n_points = len(data.pool)
    with timed("features"):
        own = read_pool(trainer, active, active.reads)
        shared = _shares_selection(active, n_points, own)
        # sorted: every process has to gather in the same order
        rows = {name: ranks.gather(own[name], n_points, everywhere=shared) for name in sorted(active.reads)}
    if active.pseudo_labels is not None and ranks.is_first:
        active.kept_features = rows["features"]
    labels = data.labels

    def choose() -> Query:
        known = QueryData(
            features=rows["features"] if "features" in required else None,
            probabilities=rows.get("probabilities"),
            mc_probabilities=rows.get("mc_probabilities"),
            labelled=data.labelled_indices,
            labels=labels,
            candidates=data.pool_indices,
            pending=data.pending_indices,
            num_classes=data.num_classes or 0,
            num_points=n_points,
        )
        generator = generator_of(state.seed, _SELECTION, state.round)
        return checked_query(active.sampler.select(known, query_size, generator), known, query_size)

    with timed("select"):
        return ranks.decide_together(choose) if shared else ranks.decide(choose)


def read_pool(trainer: pl.Trainer, active: ActiveLearning, wanted: frozenset[str]) -> dict[str, npt.NDArray[Any]]:
    """This process's share of the rows of all points, read with the weights of the last round.

    Args:
        trainer: in a fit.
        active: the run.
        wanted: features, probabilities; the same rows whatever else is wanted, and whenever they are read.
    """
    data, state, ranks = active.data, active.state, active.ranks
    if wanted and ranks.size > 1:
        ranks.share_buffers(trainer.lightning_module)
    seed = int(generator_of(state.seed, _FEATURES, state.round).integers(2**31))
    shard = ranks.shard(len(data.pool))
    return ranks.together(
        lambda: active.extractor(trainer, data, shard, wanted, seed, mc_passes=active.sampler.mc_passes)
    )


def _shares_selection(active: ActiveLearning, n_points: int, own: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Whether every process takes part in the selection: where the sampler can, and is the same everywhere."""
    ranks, sampler = active.ranks, active.sampler
    if ranks.size == 1:
        return False
    n_dimensions = own["features"].shape[1] if "features" in own else 0
    answers = ranks.everyone(
        ranks.together(lambda: repr(sampler) if sampler._shares_selection(n_points, n_dimensions) else None)
    )
    return answers[0] is not None and len(set(answers)) == 1


def checked_query(query: Query, data: QueryData, query_size: int) -> Query:
    """Refuse what a sampler must not ask, before anything is asked.

    Raises:
        InvalidIndexError: points twice, outside the candidates, or another number than wanted.

    Example:
        >>> data = QueryData(num_points=4, candidates=np.array([1, 2]))
        >>> len(checked_query(Query([2], [0.5]), data, 1))
        1
    """
    wanted = min(query_size, len(data.candidates))
    if len(query) != wanted or len(np.unique(query.indices)) != wanted:
        raise InvalidIndexError(
            f"The sampler was asked for {wanted} different points, but chose {len(query)}, "
            f"{len(np.unique(query.indices))} of them different."
        )
    outside = np.setdiff1d(query.indices, data.candidates)
    if len(outside):
        raise InvalidIndexError(
            f"The sampler chose points that may not be asked: {outside[:5].tolist()}. It has to return positions in "
            "the full training data set, out of `data.candidates`."
        )
    return query


def joined(first: Query, second: Query) -> Query:
    """Two queries after the same round as one, where all points of the first were skipped.

    Args:
        first: asked first.
        second: asked then; its figures on the query as a whole stay.

    Example:
        >>> joined(Query([4], [0.5]), Query([2], [0.25], summary={"n": 1})).indices
        array([4, 2])
    """
    return Query(
        np.concatenate([first.indices, second.indices]),
        np.concatenate([first.scores, second.scores]),
        {n: np.concatenate([v, second.details[n]]) for n, v in first.details.items() if n in second.details},
        second.summary,
    )
