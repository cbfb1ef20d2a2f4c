"""The charts of a report: learning curves, the balance of classes, where the time went, exploration."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.history.history import History
from lightning_diffal.history.main_metric import is_better_when_lower
from lightning_diffal.history.tables import names_of
from lightning_diffal.metrics.savings import labels_saved
from lightning_diffal.report.run import RunView
from lightning_diffal.report.svg import Line, bars, line_chart
from lightning_diffal.statistics import mean_intervals

__all__ = ["Comparison", "balance", "comparison", "duration", "exploration", "time_spent"]

_PANELS = 4
_CLASSES = 40
_SEED = re.compile(r"(.+)-seed(\d+)\.json")


class Comparison(NamedTuple):
    """Learning curves, and what they say.

    Args:
        figures: one per metric; the first has the curves of other samplers in it.
        note: how to read the first.
        saved: labels saved, in a sentence.
    """

    figures: list[Markup]
    note: str
    saved: str | None


def comparison(
    view: RunView, source: Any, others: Mapping[str, Sequence[History]] | None, names: Sequence[str]
) -> Comparison:
    """The run's curves, beside those of other samplers and seeds where there are any.

    Args:
        view: the run.
        source: what the report is written of; files beside a history's file are looked for.
        others: histories by name, one per seed.
        names: of the metrics, the most telling one first.
    """
    rivals = dict(others) if others is not None else _beside(source)
    figures, note, saved = [], "", None
    for number, name in enumerate(names[:_PANELS]):
        counts, values = view.history.curve(name)
        lines = [Line("this run", counts.tolist(), values.tolist())]
        if number == 0:
            found = {rival: _mean(histories, name) for rival, histories in rivals.items()}
            compared = {rival: line for rival, line in found.items() if line is not None}
            if compared:
                lines = [line._replace(name=rival) for rival, line in compared.items()]
                sizes = sorted({len(rivals[rival]) for rival in compared})
                seeds = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
                note = f" Lines: mean of {seeds} seeds." if sizes[-1] > 1 else " One seed each."
                note += " Bands: 95 % interval of the mean." if sizes[-1] > 1 else ""
                saved = _saved(compared, name)
        figures.append(line_chart(name, lines))
    return Comparison([figure for figure in figures if figure], note, saved)


def _beside(source: Any) -> dict[str, list[History]]:
    """Histories that lie beside a history's file, or in a folder, as `<name>-seed<k>.json`."""
    if not isinstance(source, str | os.PathLike):
        return {}
    path = Path(source)
    found: dict[str, list[History]] = {}
    for file in sorted((path if path.is_dir() else path.parent).glob("*-seed*.json")):
        named = _SEED.fullmatch(file.name)
        if named is None:
            continue
        try:
            found.setdefault(named[1], []).append(History.from_json(file))
        except ConfigurationError:
            continue  # of a comparison, which has a format of its own
    if path.is_file():
        own = _SEED.fullmatch(path.name)
        if own is None or own[1] not in found:
            return {}
        found = {own[1]: found.pop(own[1]), **found}  # the run's own sampler first
    return found if len(found) > 1 or any(len(runs) > 1 for runs in found.values()) else {}


def _mean(histories: Sequence[History], metric: str) -> Line | None:
    """The mean over seeds at the label counts that all share, with its 95 % interval."""
    tables = []
    for history in histories:
        if metric not in names_of(history, "metrics"):
            return None
        counts, values = history.curve(metric)
        tables.append(dict(zip(counts.tolist(), values.tolist(), strict=True)))
    shared = sorted(set.intersection(*map(set, tables))) if tables else []
    if not shared:
        return None
    scores = np.array([[table[count] for count in shared] for table in tables])
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    if len(tables) > 1:
        _, below, above = mean_intervals(scores)
        low, high = below.tolist(), above.tolist()
    return Line("", shared, scores.mean(axis=0).tolist(), low, high)


def _saved(compared: Mapping[str, Line], metric: str) -> str | None:
    if len(compared) < 2 or is_better_when_lower(metric):
        return None
    (ours, first), (theirs, second) = list(compared.items())[:2]
    if not all(0 <= value <= 1 for line in (first, second) for value in line.y):
        return None
    saved = labels_saved((first.x, first.y), (second.x, second.y))
    sentence = saved.sentence(ours, theirs, metric.replace("_", " "))
    return f"{sentence[0].upper()}{sentence[1:]}."


def balance(view: RunView) -> list[Markup]:
    """How many labels each class has.

    Args:
        view: the run.
    """
    counts = view.class_counts()
    if not counts:
        return []
    start = view.class_counts(at_start=True)
    names = sorted(counts, key=lambda name: -counts[name])[:_CLASSES]
    parts = {
        "labelled at the start": [float(start.get(name, 0)) for name in names],
        "asked for": [float(counts[name] - start.get(name, 0)) for name in names],
    }
    title = "Labels of each class" + ("" if len(counts) <= _CLASSES else f" (the {_CLASSES} largest of {len(counts)})")
    return [chart for chart in [bars(title, names, {k: v for k, v in parts.items() if any(v)})] if chart]


def time_spent(view: RunView) -> list[Markup]:
    """Seconds of each part, in all.

    Args:
        view: the run.
    """
    names = names_of(view.history, "seconds")
    totals = [sum(record.seconds.get(name, 0.0) for record in view.history) for name in names]
    said = {"fit": "training", "evaluate": "evaluation", "select": "choosing", "oracle": "answers"}
    chart = (
        bars("Seconds of each part", [said.get(name, name) for name in names], {"seconds": totals}, " s")
        if names
        else ""
    )
    return [chart] if isinstance(chart, Markup) and chart else []


def exploration(view: RunView) -> list[Markup]:
    """Share of each query that explored, and how many labels reach a point of the pool.

    Args:
        view: the run.
    """
    found = [(r.n_labelled, r.query.summary) for r in view.history if r.query is not None]
    charts = []
    shares = [(n, s["exploration_share"]) for n, s in found if "exploration_share" in s]
    if shares:
        line = Line("explored", [n for n, _ in shares], [share for _, share in shares])
        charts.append(line_chart("Share of each query that explored", [line], share=True))
    reached = [(n, s["mean_label_equivalents"]) for n, s in found if "mean_label_equivalents" in s]
    if reached:
        line = Line("labels", [n for n, _ in reached], [amount for _, amount in reached])
        charts.append(line_chart("Labels that reach a point", [line], rule=3.0, share=False))
    return [chart for chart in charts if chart]


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Args:
        seconds: a length of time.

    Example:
        >>> duration(7.2), duration(130), duration(8000)
        ('7 s', '2 min', '2.2 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
