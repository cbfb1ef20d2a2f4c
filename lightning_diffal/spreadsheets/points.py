"""Which point of a data set a row of a table is about."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Sequence
from functools import cached_property

from lightning_diffal.exceptions import InvalidIndexError
from lightning_diffal.labels.ids import composed, writable
from lightning_diffal.labels.missing import missing_mark
from lightning_diffal.spreadsheets.numbers import AmbiguousNumberError, plain_digits, whole_number
from lightning_diffal.spreadsheets.read import Row

__all__ = ["PointReader"]

_NUMERIC = re.compile(r"[+-]?\d+([.,]\d*)?([eE][+-]?\d+)?")
_KEPT = 15  # digits that a spreadsheet keeps of a number


class PointReader:
    """Finds points by id and index. The ids of a data set without ids are its indices.

    All that a row says must name one point. An id that is found only by what spreadsheets, people and file systems
    change in it (digits beyond the fifteenth, leading zeros, upper and lower case) needs the index beside it.

    Args:
        n_points: size of the data set.
        ids: of all points; `None`: positions are the names.
        likely: indices of points that are meant most often, for hints.

    Example:
        >>> reader = PointReader(3, ["a.png", "b.png", "c.png"])
        >>> reader.read(Row(2, {"id": "b.png"})), reader.read(Row(3, {"index": "2"}))
        (1, 2)
    """

    def __init__(self, n_points: int, ids: Sequence[str] | None = None, likely: Iterable[int] = ()) -> None:
        self.n_points = n_points
        self.ids = None if ids is None else [writable(name) for name in ids]
        self.positions = None if self.ids is None else {name: i for i, name in enumerate(self.ids)}
        self.likely = likely

    def read(self, row: Row) -> int:
        """The index of the point that a row names.

        Args:
            row: with a cell `id` or `index`.

        Raises:
            InvalidIndexError: there is no such point, or the row names two, with the reason.
        """
        name, index = self._text(row, "id"), self._text(row, "index")
        place = self._position("index", index, row) if index else None
        if not name:
            if place is None:
                raise InvalidIndexError("neither `id` nor `index` names a point")
            return place
        found = self._position("id", name, row) if self.positions is None else self._named(row, name, place)
        if place is not None and place != found:
            raise InvalidIndexError(
                f"the id is {name!r}, but that of index {index} is {self._id_of(place)!r}: a spreadsheet may have "
                "changed one of them. Write both as they were, or leave out the one that is wrong"
            )
        return found

    def find(self, row: Row) -> int | None:
        """The index of the point that a row names, if there is one."""
        try:
            return self.read(row)
        except InvalidIndexError:
            return None

    def _text(self, row: Row, column: str) -> str:
        text = writable(row.text(column))
        is_id = column == "id" and self.positions is not None and text in self.positions
        return "" if not is_id and missing_mark(text, classes_known=False) == "empty" else text

    def _id_of(self, index: int) -> str:
        return str(index) if self.ids is None else self.ids[index]

    def _position(self, column: str, text: str, row: Row) -> int:
        try:
            index = whole_number(text, row.delimiter, self.n_points)
        except AmbiguousNumberError as error:
            raise InvalidIndexError(f"the {column} {error}") from None
        if index is None or not 0 <= index < self.n_points:
            raise InvalidIndexError(
                f"there is no point with {column} {reprlib.repr(text)}: they are numbered from 0 to {self.n_points - 1}"
            )
        return index

    def _named(self, row: Row, name: str, place: int | None) -> int:
        """The point with this id, or the one whose id this may have been where the index says the same."""
        assert self.positions is not None, "found by id"
        for written in (writable(str(row.cells["id"])), name):  # an id may begin or end with a space of its own
            if written in self.positions:
                found = self.positions[written]
                others = [] if place is not None else self._mistakable(written, found)
                if others:
                    raise InvalidIndexError(
                        f"the id {written!r} is also what a spreadsheet makes of {self._id_of(others[0])!r}: write the "
                        "index beside it"
                    )
                return found
        like = self._alike.get(_loose(name), [])
        if place in like:
            return place
        same = [i for i in like if composed(self._id_of(i)).strip() == composed(name)]
        if place is None and len(same) == len(like) == 1:  # another Unicode composition of the only such name
            return same[0]
        raise InvalidIndexError(f"there is no point with id {reprlib.repr(name)}{self._hint(name, place, like)}")

    def _mistakable(self, name: str, found: int) -> list[int]:
        """Other points whose ids a spreadsheet or a file system may have turned into this one."""
        others = [i for i in self._alike[_loose(name)] if i != found]
        is_number = _NUMERIC.fullmatch(plain_digits(name)) is not None
        return [i for i in others if is_number or composed(self._id_of(i)) == composed(name)]

    @cached_property
    def _alike(self) -> dict[str, list[int]]:
        alike: dict[str, list[int]] = {}
        for index, name in enumerate(self.ids or ()):
            alike.setdefault(_loose(name), []).append(index)
        return alike

    def _hint(self, name: str, place: int | None, like: list[int]) -> str:
        assert self.ids is not None, "only ids need hints"
        if place is not None:
            return f" (that of index {place} is {self.ids[place]!r}: a spreadsheet may have changed it)"
        if like:
            return f" (did you mean {self.ids[like[0]]!r}? write it so, or the index beside it)"
        near = difflib.get_close_matches(name, [self.ids[i] for i in self.likely], n=1)
        return f" (did you mean {near[0]!r}?)" if near else ""


def _loose(name: str) -> str:
    """What is left of an id after people, spreadsheets and file systems: of a number the digits that are kept."""
    plain = plain_digits(name)
    if _NUMERIC.fullmatch(plain):
        number = f"{float(plain.replace(',', '.')):.{_KEPT}g}"
        return f"{float(number):.{_KEPT}g}"
    return " ".join(composed(name).casefold().split())
