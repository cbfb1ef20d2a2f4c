"""Which point of a data set a row of a table is about."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Sequence

from lightning_diffal.exceptions import InvalidIndexError
from lightning_diffal.spreadsheets.read import Row

__all__ = ["PointReader"]

_WHOLE = re.compile(r"\d{1,18}(\.0*)?")  # spreadsheets and pandas write 3.0 for 3

_NUMERIC = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


class PointReader:
    """Finds points by id, or by index where a row has no id. The ids of a data set without ids are its indices.

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
        self.ids = ids
        self.positions = None if ids is None else {name: i for i, name in enumerate(ids)}
        self.likely = likely

    def read(self, row: Row) -> int:
        """The index of the point that a row names.

        Args:
            row: with a cell `id` or `index`.

        Raises:
            InvalidIndexError: there is no such point, with the reason.
        """
        name = row.text("id")
        if not name:
            return self._position("index", row.text("index"))
        if self.positions is None:
            return self._position("id", name)
        for written in (str(row.cells["id"]), name):  # an id may begin or end with a space of its own
            if written in self.positions:
                self._check_number(written, row.text("index"))
                return self.positions[written]
        raise InvalidIndexError(f"there is no point with id {reprlib.repr(name)}{self._hint(name, row.text('index'))}")

    def _check_number(self, name: str, index: str) -> None:
        """Spreadsheets write 1.10 as 1.1, which may be another point's id; the index next to it tells."""
        assert self.ids is not None, "found by id"
        place = int(index.partition(".")[0]) if _WHOLE.fullmatch(index) else self.n_points
        meant = self.ids[place] if place < self.n_points else name
        if meant != name and _NUMERIC.fullmatch(meant) and _NUMERIC.fullmatch(name) and float(meant) == float(name):
            raise InvalidIndexError(
                f"the id is {name!r}, but that of index {index} is {meant!r}: a spreadsheet may have changed it. Write "
                "the id as it was, or leave it out"
            )

    def find(self, row: Row) -> int | None:
        """The index of the point that a row names, if there is one."""
        try:
            return self.read(row)
        except InvalidIndexError:
            return None

    def _position(self, column: str, text: str) -> int:
        index = int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else -1
        if not 0 <= index < self.n_points:
            raise InvalidIndexError(
                f"there is no point with {column} {reprlib.repr(text)}: they are numbered from 0 to {self.n_points - 1}"
            )
        return index

    def _hint(self, name: str, index: str) -> str:
        assert self.ids is not None, "only ids need hints"
        if _WHOLE.fullmatch(index) and int(index.partition(".")[0]) < self.n_points:
            meant = self.ids[int(index.partition(".")[0])]
            return f" (that of index {index} is {meant!r}: a spreadsheet may have changed it)"
        near = difflib.get_close_matches(name, [self.ids[i] for i in self.likely], n=1)
        return f" (did you mean {near[0]!r}?)" if near else ""
