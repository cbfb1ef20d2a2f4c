"""A kept run in the order of the classes that is wanted: that of the script, or that of the run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lightning_diffal.history.history import History
from lightning_diffal.labels.class_order import Moves, class_moves, kept_in_order, moved_predictions
from lightning_diffal.samplers.base import Query

__all__ = ["in_class_order"]


def in_class_order(saved: Mapping[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
    """What `run_contents` gave, with every class under the number that it has in `names`.

    Args:
        saved: says in `saved["data"]["class_names"]` in which order it is.
        names: of the classes, in the order wanted.

    Raises:
        ResumeError: other names.
    """
    moves = class_moves(saved["data"].get("class_names"), names)
    if moves is None:
        return dict(saved)
    pseudo = saved.get("pseudo_labels")
    return {
        **saved,
        "data": kept_in_order(saved["data"], names),
        "history": _moved_history(saved["history"], moves),
        "pseudo_labels": pseudo and {**pseudo, "labels": torch.tensor(moves)[pseudo["labels"]]},
        "predictions": None,  # of one round, beside which the next one would look changed
    }


def _moved_history(state: Any, moves: Moves) -> list[dict[str, Any]]:
    history = History.from_state(state)
    for record in history:
        query = record.query
        if query is not None and "predicted" in query.details:
            details = {**query.details, "predicted": moved_predictions(query.details["predicted"], moves)}
            record.query = Query(query.indices, query.scores, details, query.summary)
    return history.state_dict()
