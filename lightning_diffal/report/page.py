"""A run as one page of HTML: nothing from the network, everything inside, readable without its script."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.history.history import History
from lightning_diffal.history.main_metric import is_better_when_lower, ranked_metrics
from lightning_diffal.history.tables import names_of
from lightning_diffal.report import charts
from lightning_diffal.report.advice import next_steps
from lightning_diffal.report.cards import Cards
from lightning_diffal.report.kept import project
from lightning_diffal.report.point_map import PointMap, point_map
from lightning_diffal.report.projection import checked_features
from lightning_diffal.report.run import RunView, view_of
from lightning_diffal.report.second_look import Doubt, doubtful_labels
from lightning_diffal.report.tables import cleaned, rounds_table
from lightning_diffal.report.words import GLOSSARY
from lightning_diffal.utils.storage.files import escape_cell, replacing

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["html_report"]

_DOUBTS = 60  # shown; the file has all
_SAMPLED = 600  # points of the pool whose picture is shown on the map


def html_report(
    source: History | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    data: ActiveDataModule | None = None,
    features: npt.ArrayLike | None = None,
    metrics: Sequence[str] | None = None,
    title: str | None = None,
    others: Mapping[str, Sequence[History]] | None = None,
) -> list[Path]:
    """Write what a run did as one HTML file that can be sent to anybody.

    It tells how good the model became with how many labels, and what to do next; shows a map of all points with a
    slider over the rounds; what was asked, why, and what was answered; labels that those around them contradict, to
    download as a query file; the balance of classes, where the time went, and all settings and versions. It loads
    nothing, opens from disk, prints, and says the essentials without its script. Ids, texts and names of classes appear
    as text whatever they contain. A run may be going on meanwhile: its folder is only read.

    Args:
        source: the folder of a run (`ActiveLearning(run_dir=...)`), a history, or a file that `History.to_json` wrote.
        path: the page to write.
        data: shows the points: their items are read, small pictures and beginnings of texts stand in the page. For a
            history, it also knows labels, ids and names of classes. A run with `report=True` keeps how points look.
        features: `(N, D)` of all points of the training data set, for the map. Default: the small projection that a run
            keeps in its folder.
        metrics: names of those to draw. Default: the most telling ones.
        title: of the page. Default: the run's name.
        others: histories to compare with, by name, one per seed, the run's own sampler first. Default: what lies
            beside a history's file as `<name>-seed<k>.json`.

    Returns:
        The files written: the page.

    Raises:
        ConfigurationError: nothing at `source`, no run, or arguments that do not fit it.
        ResumeError: a file of the run that cannot be read.
        FeatureError: features that are not finite.

    Example:
        >>> import tempfile
        >>> from lightning_diffal.history import RoundRecord
        >>> history = History([RoundRecord(r, r, range(4 + r), {"val_acc": 0.5 + 0.1 * r}) for r in range(3)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = html_report(history, Path(folder) / "report.html")[0].read_text(encoding="utf-8")
        >>> "70.0%" in page and "What to do next" in page
        True
    """
    view = view_of(source, data)
    names = _metrics(view, metrics)
    compared = charts.comparison(view, source, others, names)
    points, projection = _projection(view, features)
    doubts = [] if points is None or projection is None else _doubts(view, points, projection)
    cards = Cards(view, data)
    queries = cards.queries()
    steps = next_steps(view, len(doubts))
    drawn = _map(view, points, projection, cards, data)
    context: dict[str, Any] = {
        "title": title or f"Active learning: {view.name}",
        "subtitle": _subtitle(view),
        "tiles": _tiles(view, names),
        "ending": _ending(view),
        "saved": compared.saved,
        "next": steps,
        "curves": compared.figures,
        "curve_note": compared.note,
        "map": drawn,
        "map_missing": None if drawn is not None else _no_map(view),
        "queries": queries,
        "doubts": _doubt_part(view, doubts, cards),
        "balance": charts.balance(view),
        "time": charts.time_spent(view) + charts.exploration(view),
        "rounds": Markup(rounds_table(view)),  # noqa: S704  # escapes what it holds
        "settings": [(name, value) for name, value in view.facts.items() if value is not None],
        "glossary": GLOSSARY,
        "version": view.facts.get("version/lightning_diffal", ""),
    }
    context["parts"] = _parts(context)
    target = Path(path)
    with replacing(target) as temporary:
        temporary.write_text(_rendered(context), encoding="utf-8")
    return [target]


def _rendered(context: Mapping[str, Any]) -> str:
    folder = resources.files("lightning_diffal.report") / "templates"
    style, script = (Markup((folder / name).read_text(encoding="utf-8")) for name in ("style.css", "script.js"))  # noqa: S704
    # nothing but this very script may run in the page, whatever an id or a text contains
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_shown, trim_blocks=True)
    template = environment.from_string((folder / "report.html.j2").read_text(encoding="utf-8"))
    return template.render(**context, style=style, script=script, script_hash=f"sha256-{digest}")


def _shown(value: Any) -> Any:
    return cleaned(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _metrics(view: RunView, wanted: Sequence[str] | None) -> list[str]:
    known = names_of(view.history, "metrics")
    unknown = [name for name in wanted or () if name not in known]
    if unknown:
        raise ConfigurationError(
            f"Expected argument `metrics` to name some of {', '.join(known) or 'none'}, but got {unknown[0]!r}."
        )
    ranked = ranked_metrics(known)
    telling = [name for name in ranked if "train" not in name.lower() and not name.startswith("active/")]
    return list(wanted) if wanted else telling or ranked


def _subtitle(view: RunView) -> str:
    facts = view.facts
    parts = [
        str(facts["started"]) if facts.get("started") else "",
        f"model {facts['model']}" if facts.get("model") else "",
        f"data {facts['data']}" if facts.get("data") else "",
        f"{view.n_points:,} points" if view.n_points is not None else "",
        f"{len(view.class_names)} classes" if view.class_names else "",
        f"points chosen by {view.sampler.partition('(')[0]}" if view.sampler else "",
    ]
    return " · ".join(part for part in parts if part)


def _tiles(view: RunView, names: Sequence[str]) -> list[dict[str, Any]]:
    history = view.history
    tiles: list[dict[str, Any]] = []
    for number, name in enumerate(names[:2]):
        counts, values = history.curve(name)
        if not len(values) or (number and name.startswith("train")):
            continue
        share = values.min() >= 0 and values.max() <= 1 and not is_better_when_lower(name)
        value = f"{values[-1]:.1%}" if share else f"{values[-1]:.4g}"
        tiles.append({"value": value, "words": f"{name} with {counts[-1]:,} labels", "main": number == 0})
    bought = sum(1 for round_ in view.arrived.values() if round_ > 0)
    tiles.append({"value": f"{len(view.arrived):,}", "words": f"labels, {bought:,} of them asked for", "main": False})
    trained = sum(1 for record in history if record.n_labelled)
    tiles.append({"value": str(trained), "words": "rounds trained", "main": False})
    for part, words in ((view.pending, "waiting for an answer"), (view.skipped, "skipped")):
        if part:
            tiles.append({"value": f"{len(part):,}", "words": words, "main": False})
    seconds = sum(sum(record.seconds.values()) for record in history)
    if seconds:
        tiles.append({"value": charts.duration(seconds), "words": "in all", "main": False})
    return tiles


def _ending(view: RunView) -> str:
    reason = view.history[-1].stop_reason if view.history else None
    if not view.history:
        return "No round has begun."
    return f"Ended: {reason}." if reason else "The run is going on, or it was killed: no end is written down."


def _projection(view: RunView, features: npt.ArrayLike | None) -> tuple[Any, Any]:
    """Positions and small features of the points on the map."""
    if features is None:
        return view.kept_points, view.kept_projection
    rows = checked_features(features, view)
    return np.arange(len(rows)), project(rows)


def _doubts(view: RunView, points: Any, projection: Any) -> list[Doubt]:
    places = {index: row for row, index in enumerate(points.tolist())}
    known = [(places[i], label) for i, label in sorted(view.labels.items()) if i in places and isinstance(label, int)]
    if not known:
        return []
    rows, labels = (np.array(part, dtype=np.int64) for part in zip(*known, strict=True))
    found = doubtful_labels(projection, rows, labels, int(labels.max()) + 1)
    return [Doubt(int(points[doubt.row]), doubt.given, doubt.expected, doubt.confidence) for doubt in found]


def _map(view: RunView, points: Any, projection: Any, cards: Cards, data: ActiveDataModule | None) -> PointMap | None:
    if points is None or len(points) < 3:
        return None
    sample = points[np.unique(np.linspace(0, len(points) - 1, min(_SAMPLED, len(points))).astype(int))].tolist()
    sample += [i for i in points.tolist() if i in view.arrived]
    return point_map(view, points, projection, cards.images([i for i in sample if not cards.holds(i)]))


def _no_map(view: RunView) -> str:
    return (
        "There is no map: this sampler reads no features, so none were kept. html_report(..., features=...) or "
        "diffal report --features draws one."
        if view.history
        else ""
    )


def _doubt_part(view: RunView, doubts: Sequence[Doubt], cards: Cards) -> dict[str, Any] | None:
    if not doubts:
        return None
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["id", "index", "text", "label", "suggested_label", "confidence", "why"])
    for doubt in doubts:
        thumb = cards.thumb(doubt.row)
        cells = [view.point(doubt.row), str(doubt.row), (thumb.text if thumb else None) or ""]
        cells += [
            view.class_name(doubt.given),
            view.class_name(doubt.expected),
            f"{doubt.confidence:.3g}",
            "second look",
        ]
        writer.writerow([escape_cell(cell) for cell in cells])
    shown = "" if len(doubts) <= _DOUBTS else f" The first {_DOUBTS} of {len(doubts)} are shown; the file has all."
    return {
        "words": (
            "Each of these labels was hidden, and the labels around it said otherwise. Some are mistakes, some are "
            "rare cases: only a person can tell. In the file, write the right class into the column label, and give it "
            "back "
            f"with data.label(...) or to the oracle.{shown}"
        ),
        "file": "data:text/csv;charset=utf-8," + quote(table.getvalue()),
        "cards": [
            {
                **cards.look(doubt.row),
                "given": view.class_name(doubt.given),
                "expected": view.class_name(doubt.expected),
                "confidence": f"{doubt.confidence:.0%}",
            }
            for doubt in doubts[:_DOUBTS]
        ],
    }


def _parts(context: Mapping[str, Any]) -> list[dict[str, str]]:
    wanted = [
        ("next", "Next", context["next"]),
        ("curve", "Learning curve", context["curves"]),
        ("map", "Map", context["map"]),
        ("asked", "Asked", True),
        ("doubts", "Second look", context["doubts"]),
        ("classes", "Classes", context["balance"]),
        ("time", "Time", context["time"]),
        ("rounds", "Rounds", True),
        ("settings", "Settings", True),
        ("words", "Words", True),
    ]
    return [{"slug": slug, "heading": heading} for slug, heading, is_there in wanted if is_there]
