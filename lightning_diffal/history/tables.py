"""How a history looks in a table and in JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from lightning_diffal.history.record import RoundRecord
from lightning_diffal.samplers.base import Query
from lightning_diffal.utils.jsonable import to_jsonable

__all__ = ["json_record", "names_of", "record_json", "table_rows"]


def names_of(records: Sequence[RoundRecord], part: Literal["metrics", "seconds"]) -> list[str]:
    """Keys of `metrics` or `seconds` over all records, in the order of their first appearance."""
    return list(dict.fromkeys(name for record in records for name in getattr(record, part)))


def table_rows(records: Sequence[RoundRecord]) -> list[dict[str, Any]]:
    """One dict a record, all with the same keys; a metric that bears another column's name becomes `metric/<name>`."""
    metrics, seconds = names_of(records, "metrics"), names_of(records, "seconds")
    summaries = [{} if record.query is None else record.query.summary for record in records]
    figures = list(dict.fromkeys(name for summary in summaries for name in summary))
    columns = {"round", "seed", "n_labelled", "n_queried", "stop_reason"}
    columns |= {f"query/{name}" for name in figures} | {f"seconds/{name}" for name in seconds}
    return [
        {"round": record.round, "seed": record.seed, "n_labelled": record.n_labelled}
        | {f"metric/{name}" if name in columns else name: record.metrics.get(name) for name in metrics}
        | {"n_queried": record.n_queried}
        | {f"query/{name}": summary.get(name) for name in figures}
        | {f"seconds/{name}": record.seconds.get(name) for name in seconds}
        | {"stop_reason": record.stop_reason}
        for record, summary in zip(records, summaries, strict=True)
    ]


def record_json(record: RoundRecord) -> dict[str, Any]:
    """Everything that a record holds, as JSON knows it."""
    query = record.query
    return {
        "round": record.round,
        "seed": record.seed,
        "n_labelled": record.n_labelled,
        "labelled": record.labelled.tolist(),
        "metrics": to_jsonable(record.metrics),
        "query": None
        if query is None
        else {
            "indices": query.indices.tolist(),
            "scores": to_jsonable(query.scores),
            "details": {name: to_jsonable(values) for name, values in query.details.items()},
            "summary": to_jsonable(query.summary),
        },
        "seconds": to_jsonable(record.seconds),
        "stop_reason": record.stop_reason,
    }


def json_record(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a record, from what `record_json` gave; null is NaN again."""
    query = entry["query"]
    return {
        "round": int(entry["round"]),
        "seed": entry["seed"],
        "labelled": entry["labelled"],
        "metrics": _numbers(entry["metrics"]),
        "query": None
        if query is None
        else Query(
            query["indices"],
            [math.nan if score is None else score for score in query["scores"]],  # type: ignore[arg-type]
            {name: np.array(_not_null(values)) for name, values in query["details"].items()},
            _numbers(query["summary"]),
        ),
        "seconds": _numbers(entry["seconds"]),
        "stop_reason": entry["stop_reason"],
    }


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in values.items()}


def _not_null(values: Any) -> Any:
    return (
        [_not_null(value) for value in values] if isinstance(values, list) else math.nan if values is None else values
    )
