"""How a history looks in a table and in JSON."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from lightning_diffal.history.queries import IN_JSON
from lightning_diffal.history.record import RoundRecord
from lightning_diffal.utils.counts import several
from lightning_diffal.utils.jsonable import to_jsonable

__all__ = ["frame_rows", "history_html", "json_record", "names_of", "point_rows", "record_json", "table_rows"]


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


def frame_rows(records: Sequence[RoundRecord]) -> list[dict[str, Any]]:
    """The rows of `table_rows`, with how many of the points asked were answered, and labels by class.

    Args:
        records: of a run.
    """
    classes = list(dict.fromkeys(name for record in records for name in record.classes))
    rows = table_rows(records)
    for row, record, later in zip(rows, records, [*records[1:], None], strict=True):
        asked = None if record.query is None else record.query.indices
        row["answered"] = None if asked is None or later is None else int(np.isin(asked, later.labelled).sum())
        row.update({f"labels/{name}": record.classes.get(name) for name in classes})
    return rows


def point_rows(records: Sequence[RoundRecord]) -> list[dict[str, Any]]:
    """One dict per point asked, all with the same keys, in the order of choice.

    Args:
        records: of a run.
    """
    asked = [(record, record.query) for record in records if record.query is not None]
    names = list(dict.fromkeys(name for _, query in asked for name in query.details))
    rows = []
    for position, (record, query) in enumerate(asked):
        later = next((r for r in records[position:] if r.round > record.round), None)
        for rank, index in enumerate(query.indices.tolist()):
            details = {name: query.details[name][rank] for name in names if name in query.details}
            rows.append(
                {
                    "round": record.round,
                    "rank": rank,
                    "index": index,
                    "score": float(query.scores[rank]),
                    "answered": None if later is None else bool(np.isin(index, later.labelled)),
                    **dict.fromkeys(names),
                    **{name: value.tolist() if hasattr(value, "tolist") else value for name, value in details.items()},
                }
            )
    return rows


def history_html(records: Sequence[RoundRecord]) -> str:
    """A table for notebooks. Names of metrics are shown whatever they contain.

    Args:
        records: of a run.
    """
    names = names_of(records, "metrics")
    header = ["round", "labelled", "asked", *names]
    rows = [
        [str(r.round), f"{r.n_labelled:,}", str(r.n_queried)]
        + [f"{r.metrics[name]:.4g}" if name in r.metrics else "" for name in names]
        for r in records
    ]
    cells = [header, *rows]
    lines = [
        "<tr>" + "".join(f"<{tag} style='text-align:right'>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
        for tag, row in zip(["th", *["td"] * len(rows)], cells, strict=True)
    ]
    reason = next((r.stop_reason for r in reversed(records) if r.stop_reason), None)
    ending = "" if reason is None else f"<p>Ended: {html.escape(reason)}.</p>"
    title = f"<p><b>{several(len(records), 'round')}</b></p>"
    return f"{title}<table>{''.join(lines)}</table>{ending}" if rows else title


def record_json(record: RoundRecord) -> dict[str, Any]:
    """Everything that a record holds, as JSON knows it."""
    query = record.query
    return {
        "round": record.round,
        "seed": record.seed,
        "n_labelled": record.n_labelled,
        "labelled": record.labelled.tolist(),
        "metrics": to_jsonable(record.metrics),
        "query": None if query is None else IN_JSON.encode(query),
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
        "query": None if query is None else IN_JSON.decode(query),
        "seconds": _numbers(entry["seconds"]),
        "stop_reason": entry["stop_reason"],
    }


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in values.items()}
