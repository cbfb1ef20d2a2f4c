"""What a script says of labels before it goes on with a run that is further than the script knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lightning_diffal.history.folder import RunFolder
from lightning_diffal.labels.class_order import class_moves, moved_label
from lightning_diffal.labels.events import positions_of
from lightning_diffal.labels.plain import label_from_plain
from lightning_diffal.labels.pool import LabelledPool
from lightning_diffal.labels.targets import Label

__all__ = ["Changes", "said_before"]


class Changes(NamedTuple):
    """What becomes of it."""

    corrections: dict[int, Label]
    """Labels that replace those of the run."""
    skips: list[int]
    """Points that are taken out."""
    contradictions: list[str]
    """One for each point where the run has learned something else since."""


def said_before(pool: LabelledPool, folder: RunFolder | None, names: Sequence[str] | None = None) -> Changes:
    """Compare what a script said before the fit with what the run knows.

    A label that the run has had for the point before is not news: answers have replaced it since, and the script was
    not changed. A new one for a label that cost nothing is a mended one; against an answer of people it is named.

    Args:
        pool: of the run, where it stands now.
        folder: its journal says which labels a point has had; `None` where nothing is written.
        names: of the classes, in their present order.
    """
    said = {**pool.given_before, **pool.corrected_before}
    labelled = set(pool.labelled_indices.tolist())
    now = pool.labels_of(pool.labelled_indices)
    differ = {i: label for i, label in said.items() if i in now and now[i] != label}
    had = _earlier_labels(pool, folder, names) if differ else {}
    corrections: dict[int, Label] = {}
    contradictions = []
    for index, label in differ.items():
        is_old = label in had.get(index, ())
        costs_nothing = int(pool.rounds_of(np.array([index]))[0]) == 0
        if index in pool.corrected_before:
            counts, is_named = not is_old, is_old
        else:
            counts = costs_nothing and not is_old and folder is not None
            is_named = not counts and not is_old
        if counts:
            corrections[index] = label
        elif is_named:
            contradictions.append(f"point {pool.id_of(index)!r} is said to be {label}, and is {now[index]}")
    open_points = set(pool.pool_indices.tolist()) | set(pool.pending_indices.tolist())
    skips = sorted(pool.skipped_before & open_points)
    contradictions += [
        f"point {pool.id_of(index)!r} is said to be skipped, and is labelled {now.get(index)}"
        for index in sorted(pool.skipped_before & labelled)
    ]
    return Changes(corrections, skips, contradictions)


def _earlier_labels(
    pool: LabelledPool, folder: RunFolder | None, names: Sequence[str] | None
) -> dict[int, list[Label]]:
    """All labels that points have had in the run."""
    had: dict[int, list[Label]] = {}
    if folder is None:
        return had
    moves = class_moves(folder.class_names, names)

    def note(index: int, label: Any) -> None:
        if label is not None:
            now = label if moves is None else moved_label(label, moves)
            had.setdefault(index, []).append(label_from_plain(now))

    began = folder.journal.header["data"]["pool"]
    named = None if began["ids"] is None else [began["ids"][str(index)] for index in began["labelled"]]
    first = positions_of({"indices": began["labelled"], "ids": named}, pool.ids)
    for index, label in zip(first, began["labels"], strict=True):
        note(index, label)
    for event in folder.journal.events:
        if event["kind"] in ("answer", "correction"):
            for index, label in zip(positions_of(event, pool.ids), event["labels"], strict=True):
                note(index, label)
    return had
