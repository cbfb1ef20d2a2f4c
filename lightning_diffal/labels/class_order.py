"""Labels whose classes come in another order than when they were kept: they move by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ResumeError
from lightning_diffal.labels.class_names import same_names, tidy

__all__ = ["Moves", "class_moves", "kept_in_order", "moved_event", "moved_label", "moved_predictions"]

Moves = Sequence[int]
"""The present number of each class by its earlier one."""


def class_moves(then: Sequence[Any] | None, now: Sequence[Any] | None) -> list[int] | None:
    """Where each class is now; `None` where every one is where it was, or names are not known on both sides.

    A class that had no name yet (see `completed`) may have one now.

    Args:
        then: names of the classes when labels were kept, in their order.
        now: names of the classes at present.

    Raises:
        ResumeError: other names, so that the labels cannot be told.

    Example:
        >>> class_moves(["cat", "dog"], ["dog", "cat"]), class_moves(["cat", "dog"], ["cat", "dog"])
        ([1, 0], None)
    """
    if then is None or now is None:
        return None
    before, after = [tidy(str(name)) for name in then], [tidy(str(name)) for name in now]
    if before == after:
        return None
    if same_names(before, after):
        return None
    if sorted(before) != sorted(after):
        raise ResumeError(
            f"The run was begun with the `class_names` {list(map(str, then))}, but now they are "
            f"{list(map(str, now))}: labels would mean other classes. Give the names of then; their order may change."
        )
    return [after.index(name) for name in before]


def moved_label(label: Any, moves: Moves) -> Any:
    """A class, zeros and ones for all of them (as list or tuple), or `None`.

    Example:
        >>> moved_label(0, [2, 0, 1]), moved_label((1, 0, 0), [2, 0, 1])
        (2, (0, 0, 1))
    """
    if isinstance(label, list | tuple):
        values = [0] * len(label)
        for before, value in enumerate(label):
            values[moves[before]] = value
        return type(label)(values)
    return label if label is None else int(moves[label])


def moved_predictions(predicted: npt.NDArray[Any], moves: Moves) -> npt.NDArray[Any]:
    """Predicted classes `(n,)`, negative where there is none, or `(n, C)` values for each class.

    Example:
        >>> moved_predictions(np.array([1, -1]), [1, 0])
        array([ 0, -1])
    """
    if predicted.ndim == 2:
        moved = np.empty_like(predicted)
        moved[:, np.asarray(moves)] = predicted
        return moved
    return np.array([moves[k] if k >= 0 else k for k in predicted.tolist()], dtype=predicted.dtype)


def moved_event(event: Mapping[str, Any], moves: Moves) -> dict[str, Any]:
    """A line of a journal, its labels and predicted classes moved.

    Example:
        >>> moved_event({"kind": "answer", "indices": [4], "labels": [0]}, [1, 0])
        {'kind': 'answer', 'indices': [4], 'labels': [1]}
    """
    moved = dict(event)
    if event.get("labels") is not None:
        moved["labels"] = [moved_label(label, moves) for label in event["labels"]]
    predicted = (event.get("details") or {}).get("predicted")
    if predicted is not None:
        values = moved_predictions(np.array(predicted["values"]), moves).tolist()
        moved["details"] = {**event["details"], "predicted": {**predicted, "values": values}}
    return moved


def kept_in_order(kept: Mapping[str, Any], names: Sequence[Any] | None) -> dict[str, Any]:
    """What a data module kept of its labels, with every class under the number that it has in `names`.

    Args:
        kept: holds the labels in `kept["pool"]`, and the names of then in `kept["class_names"]`.
        names: of the classes, in the order wanted.

    Raises:
        ResumeError: other names.

    Example:
        >>> kept = {"pool": {"labels": [0, None]}, "class_names": ["cat", "dog"]}
        >>> kept_in_order(kept, ["dog", "cat"])
        {'pool': {'labels': [1, None]}, 'class_names': ['dog', 'cat']}
    """
    moves = class_moves(kept.get("class_names"), names)
    if moves is None or names is None:
        return dict(kept)
    labels = [moved_label(label, moves) for label in kept["pool"]["labels"]]
    return {**kept, "pool": {**kept["pool"], "labels": labels}, "class_names": [str(name) for name in names]}
