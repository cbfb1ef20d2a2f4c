"""Why a point was asked, in words, and what the words mean."""

from __future__ import annotations

import math
from typing import Any

from lightning_diffal.report.run import RunView
from lightning_diffal.samplers.base import Query

__all__ = ["GLOSSARY", "suggestions", "why_asked"]

GLOSSARY = (
    ("exploration", "asked where hardly any label reaches: nothing is known of this part of the data yet."),
    ("refinement", "asked where labels of several classes meet: the border between them becomes sharper."),
    ("margin", "how far the likeliest class leads over the next, from 0 (undecided) to 1. Small margins are asked."),
    ("reach", "probability that a random walk over similar points meets a labelled one. Small: far from all labels."),
    ("labels that reach it", "the same, counted in labels: below 3 a point is explored."),
    ("score", "how much the sampler wanted the point; higher is more."),
    ("suggested", "the class that the sampler or the model took the point for, before it was answered."),
    ("nearest label", "the labelled point whose features are nearest."),
)


def suggestions(view: RunView, query: Query) -> list[str] | None:
    """The label that was suggested for each point, in words; `None` where nothing was.

    Args:
        view: the run.
        query: what was asked.
    """
    values: Any = query.details.get("predicted")
    if values is None or values.dtype.kind not in "iub":
        return None
    if values.ndim == 2:
        return [view.label_name(tuple(row)) if min(row, default=0) >= 0 else "none" for row in values.tolist()]
    return [view.class_name(int(value)) if value >= 0 else "none" for value in values.tolist()]


def why_asked(view: RunView, query: Query, rank: int) -> str:
    """One point's reasons, in a line.

    Args:
        view: the run.
        query: what was asked.
        rank: place of the point in the query.
    """
    details, parts = query.details, []
    if "phase" in details:
        parts.append(str(details["phase"][rank]))
    numbers = [name for name in ("margin", "reach", "probability") if name in details and details[name].ndim == 1]
    parts += [f"{name} {float(details[name][rank]):.2g}" for name in numbers]
    score = float(query.scores[rank])
    if not parts and math.isfinite(score):
        parts.append(f"score {score:.3g}")
    return ", ".join(parts) or "drawn by the sampler"
