"""Tables that people fill in: read with line numbers, from CSV as any spreadsheet writes it or from JSON lines."""

from __future__ import annotations

import csv
import io
import json
import re
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_diffal.exceptions import AnswerFileError
from lightning_diffal.utils.storage.files import unescape_cell

__all__ = ["Problems", "Row", "Table", "read_table"]

_SHOWN = 5
_DELIMITERS = ",;\t"
_LONGEST = 2**31 - 1


class Problems:
    """What is wrong in files that people wrote, gathered so that all of it can be mended at once.

    Example:
        >>> problems = Problems()
        >>> problems.add(Path("query-000.csv"), 4, "there is no class 'dgo'")
        >>> problems.check()
        Traceback (most recent call last):
        lightning_diffal.exceptions.AnswerFileError: query-000.csv, line 4: there is no class 'dgo'.
        Nothing was applied: fix these lines and rerun.
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, path: Path, line: int, reason: str) -> None:
        """One more.

        Args:
            path: of the file.
            line: counted from 1.
            reason: no sentence of its own; it follows file and line.
        """
        self.found.append(f"{path}, line {line}: {reason}.")

    def check(self) -> None:
        """Do nothing where nothing is wrong.

        Raises:
            AnswerFileError: the first five problems, and how many more there are.
        """
        if not self.found:
            return
        more = len(self.found) - _SHOWN
        rest = [f"And {more} more."] if more > 0 else []
        raise AnswerFileError(
            "\n".join([*self.found[:_SHOWN], *rest, "Nothing was applied: fix these lines and rerun."])
        )


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        line: where it begins, counted from 1.
        cells: by column in lower case: text, without what escapes a formula, or values of JSON.
        delimiter: between the cells of its table, which tells of the locale; empty in JSON lines.
    """

    line: int
    cells: dict[str, Any]
    delimiter: str = field(default=",", repr=False)

    def text(self, column: str) -> str:
        """A cell as text, without spaces around it; empty where there is none."""
        value = self.cells.get(column)
        return "" if value is None else str(value).strip()


@dataclass(frozen=True)
class Table:
    """A file of answers.

    Args:
        path: of the file.
        columns: their names as they stand in the header; none in JSON lines.
        rows: all that are not empty.
        delimiter: between cells; empty in JSON lines.
    """

    path: Path
    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    delimiter: str = ""


def read_table(path: Path, problems: Problems, encoding: str = "utf-8", *, needs_label: bool = True) -> Table:
    r"""Read a file; what cannot be read in it is added to `problems`.

    A CSV may begin with a byte order mark, separate cells by commas, semicolons or tabs, end lines in any way, hold
    further columns in any order, and empty lines.

    Args:
        path: `.jsonl` is JSON lines, anything else CSV.
        problems: where to say what is wrong.
        encoding: of the file.
        needs_label: whether a table without a column `label` is of no use.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.csv").write_text("ID;Label\r\n7;cat\r\n;\r\n")
        ...     table = read_table(Path(folder, "a.csv"), Problems())
        >>> table.delimiter, table.rows
        (';', [Row(line=2, cells={'id': '7', 'label': 'cat'})])
    """
    content = path.read_bytes()
    encoding = encoding.removesuffix("-sig")  # whose errors count from behind the mark
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        problems.add(
            path,
            line,
            f"not {encoding.upper()} (byte {content[error.start]:#04x}): save the file as "
            '"CSV UTF-8", or give its `encoding`',
        )
        return Table(path)
    if path.suffix.lower() == ".jsonl":
        return Table(path, rows=list(_json_rows(path, text, problems)))
    with _cells_of_any_length():
        return _csv_table(path, text, problems, needs_label)


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """A long text in a cell is not damage; Python's own limit is 131,072 characters, for the whole process."""
    usual = csv.field_size_limit(_LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(usual)


def _json_rows(path: Path, text: str, problems: Problems) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            problems.add(path, number, f"no JSON, or half of it: {reprlib.repr(line.strip())}")
            continue
        if not isinstance(values, dict):
            problems.add(path, number, f"expected a JSON object such as {{...}}, but got {reprlib.repr(values)}")
            continue
        row = Row(number, {str(name).strip().lower(): value for name, value in values.items()}, "")
        if not (row.text("id") or row.text("index")):
            problems.add(path, number, "neither `id` nor `index`")
            continue
        if "labels" in row.cells and "label" not in row.cells:
            problems.add(path, number, "`labels`, but no `label`, which is what is read: call it so")
            continue
        yield row


def _csv_table(path: Path, text: str, problems: Problems, needs_label: bool) -> Table:
    lines = list(io.StringIO(text, newline=""))
    skipped, delimiters = 0, _DELIMITERS
    if lines and (said := re.fullmatch(r"\"?sep=(.)\"?", lines[0].strip("\r\n"))):  # Excel's own way to say it
        skipped, delimiters = 1, said[1]
    best = Table(path)
    for delimiter in delimiters:
        header = next(iter(_cells(path, lines, delimiter, skipped, Problems())), None)
        names = [] if header is None else [unescape_cell(cell.strip()) for cell in header[1]]
        if len(names) > len(best.columns) or "label" in [name.lower() for name in names]:
            best = Table(path, names, [], delimiter)
    keys = [name.lower() for name in best.columns]
    found = ", ".join(f"`{name}`" for name in best.columns if name) or "nothing"
    if needs_label and "label" not in keys:
        problems.add(path, skipped + 1, f"no column `label` in the first line, which names {found}")
    elif "id" not in keys and "index" not in keys:
        problems.add(path, skipped + 1, f"no column `id` or `index` in the first line, which names {found}")
    elif twice := [key for key in ("id", "index", "label") if keys.count(key) > 1]:
        problems.add(path, skipped + 1, f"several columns `{twice[0]}` in the first line")
    else:
        rows = list(_cells(path, lines, best.delimiter, skipped, problems))[1:]
        if rows and len(rows[-1][1]) < len(keys) and not text.endswith(("\n", "\r")):
            number, cells = rows.pop()
            problems.add(
                path,
                number,
                f"half a line: {len(cells)} of {len(keys)} cells and no end of line, as while a file is being written",
            )
        best.rows.extend(_csv_rows(path, keys, rows, problems, best.delimiter))
    return best


def _cells(
    path: Path, lines: list[str], delimiter: str, skipped: int, problems: Problems
) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not empty, with the number of the first physical line of each."""
    reader = csv.reader(lines[skipped:], delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + skipped + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problems.add(path, line, f"no CSV ({error}), as where a quotation mark is left open")
            return
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


def _csv_rows(
    path: Path, keys: list[str], lines: list[tuple[int, list[str]]], problems: Problems, delimiter: str
) -> Iterator[Row]:
    for number, cells in lines:
        if any(cell.strip() for cell in cells[len(keys) :]):
            reason = f"{len(cells)} cells, but {len(keys)} columns: text that holds the separator needs quotation marks"
            problems.add(path, number, reason)
            continue
        row = Row(number, dict(zip(keys, map(unescape_cell, cells), strict=False)), delimiter)
        if row.text("label") and not (row.text("id") or row.text("index")):
            problems.add(path, number, f"a label ({reprlib.repr(row.text('label'))}), but no id")
            continue
        yield row
