"""The map of a report: all points in the plane, what became of each in each round, and what to say of it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from lightning_diffal.report.layout import map_layout
from lightning_diffal.report.run import RunView
from lightning_diffal.report.words import why_asked
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.figures import COLOURS

__all__ = ["PointMap", "point_map", "safe_json"]

_GRID = 1000
_NEAR = 5
_TOLD = 4000  # unlabelled points whose picture or id travels along
_STATES = (
    ("in the pool", "#c3c8ce"),
    ("labelled at the start", "#1f2328"),
    ("labelled since", "#0072B2"),
    ("waiting for an answer", "#CC79A7"),
    ("skipped", "#7A4A1E"),
)


class PointMap(NamedTuple):
    """What the template and its script draw.

    Args:
        svg: the last round, drawn without a script.
        legend: words and colours of the states.
        data: everything else, as JSON that is safe inside a `<script>` element.
        alt: what is to be seen, in a sentence.
        words: how to read it.
        first: the first round.
        last: the last round.
    """

    svg: Markup
    legend: list[dict[str, str]]
    data: Markup
    alt: str
    words: str
    first: int
    last: int


def point_map(view: RunView, points: IntArray, projection: FloatArray, images: dict[int, str]) -> PointMap:
    """Lay the points out and put together what is known of them.

    Args:
        view: the run.
        points: `(n,)` positions of the points.
        projection: `(n, d)` of them.
        images: pictures of points that stand nowhere else in the report, by position.
    """
    places, neighbours = map_layout(projection)
    grid = np.clip(np.round(places * _GRID * 0.96 + _GRID * 0.02), 0, _GRID).astype(int)
    grid[:, 1] = _GRID - grid[:, 1]
    state = _states(view, points)
    size = 4.0 if len(points) < 3000 else 3.0 if len(points) < 8000 else 2.2
    drawn, legend = [], []
    for number, (words, colour) in enumerate(_STATES):
        rows = np.flatnonzero(state == number)
        if not len(rows):
            continue
        path = "".join(f"M{x / 2.5:g} {y / 2.5:g}h0" for x, y in grid[rows].tolist())
        width = size if number == 0 else 6
        drawn.append(
            f'<path d="{path}" stroke="{colour}" stroke-width="{width:g}" stroke-linecap="round" fill="none"/>'
        )
        legend.append({"words": f"{words} ({len(rows):,})", "colour": colour})
    rounds = [record.round for record in view.history] or [0]
    shown = (
        f"{len(points):,} points"
        if len(points) == (view.n_points or len(points))
        else f"{len(points):,} of {view.n_points:,} points"
    )
    is_kept = points is view.kept_points
    source = f" The features are those of the model after round {view.kept_round}." if is_kept else ""
    counts = ", ".join(entry["words"] for entry in legend)
    return PointMap(
        svg=Markup("".join(drawn)),  # noqa: S704  # numbers and our own words
        legend=legend,
        data=safe_json(_data(view, points, grid, neighbours, images, size)),
        alt=f"Map of {shown}: {counts}.",
        words=(
            f"{shown}, laid out so that neighbours in feature space lie together; directions mean nothing, and "
            f"neither do distances between groups.{source}"
        ),
        first=rounds[0],
        last=rounds[-1],
    )


def _states(view: RunView, points: IntArray) -> IntArray:
    state = np.zeros(len(points), dtype=np.int64)
    for row, index in enumerate(points.tolist()):
        if index in view.arrived:
            state[row] = 1 if view.arrived[index] <= 0 else 2
        elif index in view.pending:
            state[row] = 3
        elif index in view.skipped:
            state[row] = 4
    return state


def _data(
    view: RunView, points: IntArray, grid: IntArray, neighbours: IntArray, images: dict[int, str], size: float
) -> dict[str, Any]:
    asked: dict[int, int] = {}
    phase: dict[int, str] = {}
    why: dict[int, str] = {}
    for record in view.history:
        if record.query is None:
            continue
        phases = record.query.details.get("phase")
        for rank, index in enumerate(record.query.indices.tolist()):
            asked[index] = record.round
            phase[index] = "" if phases is None else str(phases[rank])
            why[index] = f"asked after round {record.round}: {why_asked(view, record.query, rank)}"
    indices = points.tolist()
    told = set(asked) | set(view.arrived)
    told |= set(indices[:: max(1, len(indices) // _TOLD)])
    near = {
        index: [indices[n] for n in neighbours[row, :_NEAR].tolist()]
        for row, index in enumerate(indices)
        if index in asked or index in view.arrived
    }
    mentioned = told | {j for group in near.values() for j in group}
    labels = {i: view.label_name(view.labels[i]) for i in indices if i in view.labels}
    return {
        "points": indices,
        "x": grid[:, 0].tolist(),
        "y": grid[:, 1].tolist(),
        "arrived": [view.arrived.get(i, -1) for i in indices],
        "asked": [asked.get(i, -1) for i in indices],
        "skipped": [int(i in view.skipped) for i in indices],
        "label": [labels.get(i, "") for i in indices],
        "phase": [phase.get(i, "") for i in indices],
        "classes": sorted(set(labels.values())),
        "colours": list(COLOURS),
        "small": size,
        "near": near,
        "why": why,
        "ids": {i: view.ids[i] for i in mentioned if i in view.ids},
        "texts": {i: view.items[i].text for i in told if i in view.items and view.items[i].text},
        "images": images,
    }


def safe_json(value: Any) -> Markup:
    r"""JSON that cannot end the `<script>` element it stands in, whatever it holds.

    Args:
        value: of types that JSON knows.

    Example:
        >>> str(safe_json({"id": "</script><script>"}))
        '{"id":"\\u003c/script\\u003e\\u003cscript\\u003e"}'
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  # nothing in it ends an element
