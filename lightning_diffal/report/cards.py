"""What was asked, as cards with a picture or text of each point; and as a table, which has all details."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from lightning_diffal.history.record import RoundRecord
from lightning_diffal.report.items import ItemThumb, thumb_of
from lightning_diffal.report.run import RunView
from lightning_diffal.report.tables import given_label, query_table, query_words
from lightning_diffal.report.words import suggestions, why_asked
from lightning_diffal.samplers.base import Query

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["Cards"]

_MOST = 100  # cards of one query; its table has all
_BYTES = 11_000_000  # of pictures, in all: the page stays one that can be sent


class Cards:
    """Shows points, the latest query first, until the page holds as many pictures as can be sent by mail.

    Args:
        view: the run.
        data: shows points that the run kept no picture of; `None` where there is none.
    """

    def __init__(self, view: RunView, data: ActiveDataModule | None) -> None:
        self._view = view
        self._data = data
        self._thumbs: dict[int, ItemThumb] = dict(view.items)
        self._left = _BYTES
        self._shown: set[int] = set()

    def thumb(self, index: int) -> ItemThumb | None:
        """How a point looks; `None` where nobody knows.

        Args:
            index: which point.
        """
        if index not in self._thumbs and self._data is not None and index < len(self._data.pool):
            self._thumbs[index] = thumb_of(self._data, index)
        return self._thumbs.get(index)

    def holds(self, index: int) -> bool:
        """Whether the picture of a point stands in the page already.

        Args:
            index: which point.
        """
        return index in self._shown

    def look(self, index: int) -> dict[str, Any]:
        """What every card has.

        Args:
            index: which point.
        """
        thumb = self.thumb(index)
        image = None if thumb is None else self._spend(thumb.image)
        if image is not None:
            self._shown.add(index)
        return {
            "index": index,
            "id": self._view.point(index),
            "image": image,
            "alt": "" if thumb is None else thumb.alt,
            "text": None if thumb is None or thumb.image is not None else thumb.text,
        }

    def images(self, indices: Iterable[int]) -> dict[int, str]:
        """Pictures for the map, as far as there is room.

        Args:
            indices: which points.
        """
        found: dict[int, str] = {}
        for index in indices:
            thumb = self.thumb(index)
            image = None if thumb is None else self._spend(thumb.image)
            if image is not None:
                found[index] = image
        return found

    def _spend(self, image: str | None) -> str | None:
        if image is None or not image.startswith("data:image/") or len(image) > self._left:
            return None
        self._left -= len(image)
        return image

    def queries(self) -> list[dict[str, Any]]:
        """One part per query, the latest first and open."""
        asked = [(record, record.query) for record in self._view.history if record.query is not None]
        return [self._query(record, query, is_last=not n) for n, (record, query) in enumerate(reversed(asked))]

    def _query(self, record: RoundRecord, query: Query, *, is_last: bool) -> dict[str, Any]:
        view, suggested = self._view, suggestions(self._view, query)
        nearest = query.details.get("nearest_labelled")
        cards = []
        for rank, index in enumerate(query.indices.tolist()[:_MOST]):
            given = given_label(view, index)
            guess = None if suggested is None or suggested[rank] == "none" else suggested[rank]
            known = index in view.labels
            near = -1 if nearest is None else int(nearest[rank])
            label = f" ({view.label_name(view.labels[near])})" if near in view.labels else ""
            cards.append(
                {
                    **self.look(index),
                    "given": given,
                    "given_words": "label " if known else "",
                    "suggested": guess,
                    "differs": known and guess is not None and guess != given,
                    "why": why_asked(view, query, rank),
                    "nearest": f"{view.point(near)}{label}" if near >= 0 else None,
                }
            )
        return {
            "open": is_last,
            "words": query_words(view, record, query, suggested),
            "cards": cards,
            "more": f"The first {_MOST} of {len(query)} are shown; the table has more." if len(query) > _MOST else None,
            "table": Markup(query_table(view, query, suggested)),  # noqa: S704  # escapes what it holds
        }
