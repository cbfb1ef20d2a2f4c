"""From what a run asks to cards: suggestion, reason and the nearest labelled example beside each item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_diffal.labels.targets import Label
from lightning_diffal.oracle.base import Question
from lightning_diffal.oracle.page.cards import CardWriter, key_of
from lightning_diffal.spreadsheets.write import confidence
from lightning_diffal.utils.jsonable import to_jsonable
from lightning_diffal.view import show_point

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["class_labels", "make_card", "reason_words"]

_REASONS = {
    "exploration": "It lies far from everything that is labelled so far.",
    "refinement": "It lies where examples of different classes meet.",
}


def make_card(index: int, question: Question, data: ActiveDataModule, writer: CardWriter) -> dict[str, Any]:
    """What the page shows of a point that is asked.

    Args:
        index: position in the training data set.
        question: why it was asked.
        data: gives items, ids and labels.
        writer: puts pictures and recordings beside the cards.
    """
    pool, query = data.pool, question.query
    id_ = pool.id_of(index)
    places = np.flatnonzero(query.indices == index)
    place = int(places[0]) if len(places) else None
    details = {} if place is None else {n: to_jsonable(v[place]) for n, v in query.details.items()}
    predicted = details.get("predicted")
    sure = confidence(details)
    return {
        "key": key_of(id_),
        **writer.content(id_, show_point(data, index)),
        "index": index,
        "round": question.round,
        "score": None if place is None else to_jsonable(query.scores[place]),
        "suggestion": class_labels(predicted),
        "confidence": None if sure is None else float(f"{sure:.3g}"),
        "why": reason_words(details.get("phase")),
        "examples": _examples(details.get("nearest_labelled"), data, writer),
    }


def reason_words(phase: Any) -> str:
    """Why a point was asked, in one plain line.

    Example:
        >>> reason_words("exploration")
        'It lies far from everything that is labelled so far.'
    """
    return "The sampler chose it." if phase is None else _REASONS.get(str(phase), str(phase))


def class_labels(label: Label | list[int] | None) -> list[int] | None:
    """A label, or a prediction, as the classes that apply; `None` where there is none.

    Example:
        >>> class_labels(2), class_labels((1, 0, 1)), class_labels(-1), class_labels(None)
        ([2], [0, 2], None, None)
    """
    if label is None or (isinstance(label, int) and label < 0):
        return None
    return [label] if isinstance(label, int) else np.flatnonzero(label).tolist()


def _examples(nearest: Any, data: ActiveDataModule, writer: CardWriter) -> list[dict[str, Any]]:
    if not isinstance(nearest, int) or nearest < 0:
        return []
    label = data.pool.labels_of(np.array([nearest])).get(nearest)
    if label is None:
        return []
    id_ = data.pool.id_of(nearest)
    return [{**writer.content(id_, show_point(data, nearest), is_example=True), "classes": class_labels(label)}]
