"""The tables of a report, as HTML. Whatever comes from people or files goes through `text`."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from lightning_diffal.history.history import RoundRecord
from lightning_diffal.history.tables import names_of
from lightning_diffal.report.run import RunView
from lightning_diffal.samplers.base import Query

__all__ = ["cleaned", "element", "given_label", "query_table", "query_words", "rounds_table", "text"]

_ROWS = 500  # of one query; more would make a page that browsers choke on
_HEADINGS = {
    "label_equivalents": "labels that reach it",
    "nearest_labelled": "nearest labelled",
    "predicted": "suggested",
}


def cleaned(value: str) -> str:
    """Characters that a browser cannot show, or that turn the direction of what follows, become a mark.

    Args:
        value: any text.

    Example:
        >>> cleaned("a" + chr(0) + "b")
        'a\ufffdb'
    """
    return "".join(c if c.isprintable() or c in " \n" else "\N{REPLACEMENT CHARACTER}" for c in value)


def text(value: Any) -> str:
    """Anything as text that a browser shows and never runs."""
    return html.escape(cleaned(str(value)), quote=True)


def element(tag: str, inner: str, css: str = "") -> str:
    """An element around HTML."""
    return f'<{tag} class="{css}">{inner}</{tag}>' if css else f"<{tag}>{inner}</{tag}>"


def rounds_table(view: RunView) -> str:
    """One row per round: labels, metrics, seconds, exploration, and why the run ended."""
    records = view.history
    if not records:
        return element("p", "No round has begun.", "note")
    metrics, seconds = names_of(records, "metrics"), names_of(records, "seconds")
    explores = any(r.query is not None and "exploration_share" in r.query.summary for r in records)
    header = ["round", "labels", "asked", *metrics, *(["explored"] if explores else [])]
    header += [f"{name} (s)" for name in seconds] + ["ended because"]
    rows = []
    for record in records:
        share = None if record.query is None else record.query.summary.get("exploration_share")
        rows.append(
            [record.round, record.n_labelled, record.n_queried or None]
            + [record.metrics.get(name) for name in metrics]
            + ([None if share is None or math.isnan(share) else f"{share:.0%}"] if explores else [])
            + [None if name not in record.seconds else f"{record.seconds[name]:.2f}" for name in seconds]
            + [record.stop_reason]
        )
    return _table(header, [[_cell(value) for value in row] for row in rows])


def query_table(view: RunView, query: Query, suggested: list[str] | None) -> str:
    """One row per point, with every detail of the query.

    Args:
        view: the run.
        query: what was asked.
        suggested: a label for each point, in words.
    """
    given = [view.labels.get(index) for index in query.indices.tolist()]
    columns: list[tuple[str, Sequence[str]]] = [
        ("", [_cell(place) for place in range(1, len(query) + 1)]),
        ("point", [f"<td><bdi>{text(view.point(i))}</bdi></td>" for i in query.indices.tolist()]),
        ("label given", [_name_cell(given_label(view, i)) for i in query.indices.tolist()]),
    ]
    if suggested is not None:
        wrong = [
            label is not None and word != view.label_name(label) for label, word in zip(given, suggested, strict=True)
        ]
        marks = [w and word != "none" for w, word in zip(wrong, suggested, strict=True)]
        columns.append(("suggested", [_name_cell(word, mark) for word, mark in zip(suggested, marks, strict=True)]))
    for name, values in query.details.items():
        if name != "predicted" and values.ndim == 1:
            show = _point_cell(view) if name == "nearest_labelled" else _cell
            columns.append((_HEADINGS.get(name, name.replace("_", " ")), [show(v) for v in values.tolist()]))
    columns.append(("score", [_cell(score) for score in query.scores.tolist()]))
    rows = [list(row) for row in zip(*(cells for _, cells in columns), strict=True)][:_ROWS]
    table = _table([name for name, _ in columns], rows)
    if len(query) > _ROWS:
        table += element("p", f"{len(query) - _ROWS} more are in the journal and in the history.", "note")
    return table


def query_words(view: RunView, record: RoundRecord, query: Query, suggested: list[str] | None) -> str:
    """What came of a query, in a line.

    Args:
        view: the run.
        record: of the round after which it was asked.
        query: what was asked.
        suggested: a label for each point, in words.
    """
    indices = query.indices.tolist()
    answered = [i for i in indices if i in view.arrived]
    words = [
        f"After round {record.round}, with {record.n_labelled} labels: {len(query)} asked, {len(answered)} answered"
    ]
    skipped = sum(1 for i in indices if i in view.skipped)
    words += [f"{skipped} skipped"] if skipped else []
    share = query.summary.get("exploration_share", math.nan)
    words += [f"{share:.0%} explored"] if not math.isnan(share) else []
    if suggested is not None:
        known = [
            (word, view.label_name(view.labels[i]))
            for i, word in zip(indices, suggested, strict=True)
            if i in view.labels and word != "none"
        ]
        right = sum(1 for word, label in known if word == label)
        words += [f"{right} of {len(known)} suggestions right"] if known else []
    return ", ".join(words)


def given_label(view: RunView, index: int) -> str:
    """The label of a point in words, or what became of it instead.

    Args:
        view: the run.
        index: which point.
    """
    if index in view.labels:
        return view.label_name(view.labels[index])
    if index in view.skipped:
        return "skipped"
    return "waiting" if index in view.pending else ""


def _point_cell(view: RunView) -> Callable[[Any], str]:
    def show(value: Any) -> str:
        return _cell(None) if int(value) < 0 else f"<td><bdi>{text(view.point(int(value)))}</bdi></td>"

    return show


def _name_cell(name: str, differs: bool = False) -> str:
    return element("td", f"<bdi>{text(name)}</bdi>", "differs" if differs else "")


def _cell(value: Any) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, bool | str):
        number = isinstance(value, str) and value.replace("%", "").replace(".", "").isdecimal()
        return element("td", text(value), "number" if number else "")
    if isinstance(value, int | float | np.number):
        return element("td", text(f"{value:.4g}" if isinstance(value, float) else value), "number")
    return element("td", text(value))


def _table(header: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    lines = list(rows)
    numbers = [any(cell.startswith('<td class="number"') for cell in column) for column in zip(*lines, strict=True)]
    head = "".join(
        element("th", text(name), "number" if number else "") for name, number in zip(header, numbers, strict=True)
    )
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
