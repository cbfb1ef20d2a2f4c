"""One query: how many points and which ones; on one process or many."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import InvalidIndexError
from lightning_diffal.graph.kept import keeping_graphs
from lightning_diffal.run.asking.model_pass import ModelPass, shown_to_sampler
from lightning_diffal.run.context import RunContext
from lightning_diffal.run.telling.reporting import keep_for_report
from lightning_diffal.samplers.base import Query, QueryData
from lightning_diffal.utils.phases import announce
from lightning_diffal.utils.seeding import generator_of

__all__ = ["ask", "checked_query", "next_query_size", "with_suggestions"]

_SELECTION = 2  # place in the run that draws random numbers from a generator of its own


def next_query_size(context: RunContext) -> int | str:
    """How many points to ask next, or why none.

    Args:
        context: the run, after a round has trained.
    """
    # `stop` may have been called on some process only, for a metric that differs between them
    stops = context.ranks.everyone(context.stop_reason)
    wanted = next((reason for reason in stops if reason is not None), None)
    return context.ranks.decide(lambda: _size_or_reason(context) if wanted is None else wanted)


def _size_or_reason(context: RunContext) -> int | str:
    settings, state, pool = context.settings, context.state, context.data.pool
    if settings.max_rounds is not None and state.round >= settings.max_rounds:
        return f"max_rounds={settings.max_rounds} reached"
    left = len(pool.pool_indices)
    if not left:
        return "the pool is empty"
    if settings.budget is not None:
        left = min(left, settings.budget - (pool.n_bought - state.bought_before) - len(pool.pending_indices))
        if left <= 0:
            return f"budget={settings.budget} spent"
    if time.monotonic() > context.deadline:
        return f"max_time of {settings.max_time:.0f} seconds is over"
    return min(settings.query_size, left)


def ask(context: RunContext, query_size: int, model_pass: ModelPass) -> Query:
    """Choose the points to ask next. Every process gets the same answer.

    Args:
        context: the run.
        query_size: how many.
        model_pass: of the model that has just trained.

    Returns:
        The sampler's query, checked.
    """
    data, state, ranks = context.data, context.state, context.ranks
    shown = shown_to_sampler(context)
    n_points = len(data.pool)
    with model_pass.timed("features"):
        shared = _shares_selection(context, n_points, model_pass.own() if shown else {})
    rows = model_pass.rows(shown, everywhere=shared)
    labels = data.labels

    def choose() -> Query:
        known = QueryData(
            features=rows.get("features"),
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
        announce(f"choosing {query_size}")
        with keeping_graphs(None if context.folder is None else context.folder.path / "graph"):
            chosen = context.settings.sampler.select(known, query_size, generator)
        query = with_suggestions(checked_query(chosen, known, query_size), known)
        keep_for_report(context, known, query)
        return query

    with model_pass.timed("select"):
        return ranks.decide_together(choose) if shared else ranks.decide(choose)


def _shares_selection(context: RunContext, n_points: int, own: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Whether every process takes part in the selection: where the sampler can, and is the same everywhere."""
    ranks, sampler = context.ranks, context.settings.sampler
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


def with_suggestions(query: Query, data: QueryData) -> Query:
    """Add what the network takes the points for, where the sampler says nothing: correcting is faster than typing.

    Args:
        query: of a sampler.
        data: what the sampler was told. Without probabilities, or without a label to have learned from, the query
            stays as it is.

    Returns:
        The query with `predicted`, `(b,)` classes or `(b, C)` zeros and ones, in its details, and for classes their
        `probability`, `(b,)`.

    Example:
        >>> data = QueryData(probabilities=np.array([[0.9, 0.1], [0.25, 0.75]]), labelled=[0], labels=[0])
        >>> with_suggestions(Query([1], [0.5]), data).details
        {'predicted': array([1]), 'probability': array([0.75], dtype=float32)}
    """
    probabilities = data.probabilities
    if probabilities is None and data.mc_probabilities is not None:
        probabilities = data.mc_probabilities[:, :-1]
    if "predicted" in query.details or probabilities is None or not len(data.labelled):
        return query
    rows = probabilities[query.indices, : data.num_classes]  # a model may have outputs to spare
    details: dict[str, npt.NDArray[Any]]
    if data.is_multilabel:
        details = {"predicted": (rows > 0.5).astype(np.int64)}
    else:
        details = {"predicted": rows.argmax(axis=1), "probability": rows.max(axis=1)}
    return Query(query.indices, query.scores, {**query.details, **details}, query.summary)
