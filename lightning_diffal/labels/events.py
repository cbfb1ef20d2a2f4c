"""What happens to points, as a journal writes it down and reads it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_diffal.exceptions import ResumeError
from lightning_diffal.labels.ids import find_ids
from lightning_diffal.labels.plain import label_to_plain
from lightning_diffal.labels.targets import Label
from lightning_diffal.utils.aliases import IntArray

__all__ = ["make_event", "positions_of"]

Event = dict[str, Any]


def make_event(
    kind: str,
    chosen: IntArray,
    ids: Sequence[str] | None,
    labels: Mapping[int, Label] | None = None,
    round_: int | None = None,
) -> Event:
    """An answer, a correction or a skip, of plain types.

    Args:
        kind: `"answer"`, `"correction"` or `"skip"`.
        chosen: `(n,)` positions.
        ids: stable ids of all points, where there are such.
        labels: a label for each of `chosen`.
        round_: the round in which the labels arrive.

    Example:
        >>> import numpy as np
        >>> make_event("answer", np.array([4]), None, {4: (0, 1)}, 2)
        {'kind': 'answer', 'indices': [4], 'labels': [[0, 1]], 'round': 2}
    """
    event: Event = {"kind": kind, "indices": chosen.tolist()}
    if ids is not None:
        event["ids"] = [ids[i] for i in event["indices"]]
    if labels is not None:
        values = [labels[i] for i in event["indices"]]
        event["labels"] = list(map(label_to_plain, values))
    if round_ is not None:
        event["round"] = round_
    return event


def positions_of(event: Mapping[str, Any], ids: Sequence[str] | None) -> list[int]:
    """Where the points of an event are now: found by id where the event has ids.

    Raises:
        ResumeError: a point with this id is not in the data set, or the data set has no ids any more.

    Example:
        >>> positions_of({"indices": [0], "ids": ["b"]}, ["a", "b"])
        [1]
    """
    if event.get("ids") is None:
        return list(event["indices"])
    if ids is None:
        raise ResumeError("The run was begun with `ids`, but the data module has none now: give the same ones.")
    now, gone = find_ids(event["ids"], ids)
    if gone:
        raise ResumeError(f"The point with id {gone[0]!r} is not in this data set any more.")
    return [now[name] for name in event["ids"]]
