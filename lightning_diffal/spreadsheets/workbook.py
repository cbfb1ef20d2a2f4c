"""Workbooks (`.xlsx`): the sheet that holds ids and labels, row by row, with the values that the program kept."""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from typing import Any

from lightning_diffal.exceptions import AnswerFileError
from lightning_diffal.utils.extras import require

__all__ = ["sheet_rows"]

_EXACT = 2**53  # whole numbers below it are exact in the binary numbers of a workbook


def sheet_rows(content: bytes, needs_label: bool) -> tuple[list[str], list[tuple[int, list[Any]]]]:
    """The header and the rows of the one sheet that people filled in.

    Args:
        content: of the file.
        needs_label: whether only a sheet with a column `label` counts.

    Returns:
        Names of the columns, and rows with their numbers as the program shows them. A cell is text, a whole number, a
        fraction, true or false, or `None`; a date is refused later, by whoever reads it, as text that says so.

    Raises:
        AnswerFileError: no workbook, or no sheet or several sheets that could be meant.
        MissingExtraError: `openpyxl` is not installed.
    """
    openpyxl = require("openpyxl", extra="xlsx")
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        sheets = {sheet.title: _rows(sheet) for sheet in book.worksheets}
    except Exception as error:  # whatever a damaged archive raises in there
        raise AnswerFileError(f"no workbook, or half of one ({error}): close the program that saves it") from None
    wanted = {"label"} if needs_label else set[str]()
    fitting = []
    for title, rows in sheets.items():
        names = {str(name).strip().lower() for name in (rows[0][1] if rows else ())}
        if wanted <= names and names & {"id", "index", "diffal_id"}:
            fitting.append(title)
    if len(fitting) != 1:
        what = f"{len(fitting)} sheets with" if fitting else "no sheet with"
        raise AnswerFileError(
            f"{what} columns `id` or `index`{' and `label`' if needs_label else ''} in the first line "
            f"(its sheets: {', '.join(map(repr, sheets))}): keep one"
        )
    first, *rest = sheets[fitting[0]]
    return ["" if name is None else str(name) for name in first[1]], rest


def _rows(sheet: Any) -> list[tuple[int, list[Any]]]:
    """Rows that are not empty, with their numbers."""
    rows = ((number, [_value(cell) for cell in cells]) for number, cells in enumerate(sheet.values, start=1))
    return [(number, cells) for number, cells in rows if not _is_empty(cells)]


def _is_empty(cells: Sequence[Any]) -> bool:
    return all(cell is None or not str(cell).strip() for cell in cells)


def _value(cell: Any) -> Any:
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < _EXACT:
        return int(cell)
    if isinstance(cell, datetime.date | datetime.time | datetime.timedelta):
        return f"{cell} (made a date or time by the program)"
    return cell
