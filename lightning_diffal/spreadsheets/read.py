"""Tables that people fill in: read with line numbers, from CSV as any spreadsheet writes it, workbooks and JSON."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import reprlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning_diffal.exceptions import AnswerFileError
from lightning_diffal.spreadsheets.exports import UnreadableError, array_entries, as_row, once_each
from lightning_diffal.spreadsheets.packed import is_workbook, only_member
from lightning_diffal.spreadsheets.workbook import sheet_rows
from lightning_diffal.utils.extras import MissingExtraError
from lightning_diffal.utils.storage.files import unescape_cell

__all__ = ["Problems", "Row", "Table", "read_table"]

_SHOWN = 5
_DELIMITERS = ",;\t"
_LONGEST = 2**31 - 1
_ZIP, _GZIP, _OLE = b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0"  # how such files begin
_MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_TEXT_OF_ANY_LOCALE = ";"  # numbers of a workbook are numbers; one that is text may come from any locale


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

    def add(self, path: Path, line: int, reason: str, unit: str = "line") -> None:
        """One more.

        Args:
            path: of the file.
            line: counted from 1.
            reason: no sentence of its own; it follows file and line.
            unit: what is counted, see `Table`.
        """
        self.found.append(f"{path}, {unit} {line}: {reason}.")

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
        unit: what its rows are counted by: lines, rows of a sheet, entries of a list.
        encoding: of a file that begins with a mark of another one than is expected; else empty.
    """

    path: Path
    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    delimiter: str = ""
    unit: str = "line"
    encoding: str = ""


def read_table(path: Path, problems: Problems, encoding: str = "utf-8", *, needs_label: bool = True) -> Table:
    r"""Read a file; what cannot be read in it is added to `problems`.

    A CSV may begin with a byte order mark, separate cells by commas, semicolons or tabs, end lines in any way, hold
    further columns in any order, and empty lines.

    Args:
        path: `.jsonl` is JSON lines, `.json` a list of objects or COCO, a workbook what its content says; anything else
            CSV. A packed file is unpacked where it holds one of them.
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
    content, name = path.read_bytes(), path.name
    try:
        if content.startswith(_ZIP) and not is_workbook(content):
            content, name = only_member(content)
        elif content.startswith(_GZIP):
            content, name = gzip.decompress(content), path.stem
        if content.startswith(_ZIP):
            return _sheet_table(path, content, problems, needs_label)
        if content.startswith(_OLE):
            raise AnswerFileError("an old or protected workbook: save it as 'CSV UTF-8'")
    except (AnswerFileError, MissingExtraError, OSError, EOFError, zlib.error) as error:
        problems.add(path, 1, str(error))
        return Table(path)
    marked = next((known for mark, known in _MARKS.items() if content.startswith(mark)), "")
    encoding = marked or encoding.removesuffix("-sig")  # whose errors count from behind the mark
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
    if "\0" in text:
        problems.add(path, 1, 'zero bytes, as in UTF-16 without its mark: save the file as "CSV UTF-8"')
        return Table(path)
    suffix = Path(name).suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return Table(path, rows=list(_json_rows(path, text, problems)))
    if suffix == ".json":
        return Table(path, rows=list(_entries(path, text, problems)), unit="entry")
    with _cells_of_any_length():
        return replace(_csv_table(path, text, problems, needs_label), encoding=marked)


def _sheet_table(path: Path, content: bytes, problems: Problems, needs_label: bool) -> Table:
    names, lines = sheet_rows(content, needs_label)
    table = Table(path, names, delimiter=_TEXT_OF_ANY_LOCALE, unit="row")
    keys = [name.strip().lower() for name in names]
    for number, cells in lines:
        values = {key: cell for key, cell in zip(keys, cells, strict=False) if key}
        table.rows.extend(_row(path, number, values, table.delimiter, problems, "row"))
    return table


def _entries(path: Path, text: str, problems: Problems) -> Iterator[Row]:
    """The rows of a JSON file."""
    try:
        for number, cells in enumerate(array_entries(json.loads(text, object_pairs_hook=once_each)), start=1):
            yield from _row(path, number, cells, "", problems, "entry")
    except (ValueError, RecursionError) as error:  # UnreadableError among them
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        problems.add(path, line, str(error) if isinstance(error, UnreadableError) else "no JSON, or half of it")


def _row(
    path: Path, number: int, cells: dict[str, Any], delimiter: str, problems: Problems, unit: str = "line"
) -> Iterator[Row]:
    """A row by our names, unless something is wrong with it."""
    try:
        row = Row(number, as_row(cells), delimiter)
    except UnreadableError as error:
        problems.add(path, number, str(error), unit)
        return
    if row.text("id") or row.text("index"):
        yield row
    elif row.text("label"):
        problems.add(path, number, f"a label ({reprlib.repr(row.text('label'))}), but no id", unit)


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
            values = json.loads(line, object_pairs_hook=once_each)
        except UnreadableError as error:
            problems.add(path, number, str(error))
            continue
        except (ValueError, RecursionError):
            problems.add(path, number, f"no JSON, or half of it: {reprlib.repr(line.strip())}")
            continue
        if not isinstance(values, dict):
            problems.add(path, number, f"expected a JSON object such as {{...}}, but got {reprlib.repr(values)}")
            continue
        try:
            row = Row(
                number, as_row(once_each((str(name).strip().lower(), value) for name, value in values.items())), ""
            )
        except UnreadableError as error:
            problems.add(path, number, str(error))
            continue
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
    mapped = as_row(dict.fromkeys(keys, "x"))  # a tool calls them otherwise
    found = ", ".join(f"`{name}`" for name in best.columns if name) or "nothing"
    if needs_label and "label" not in mapped:
        problems.add(path, skipped + 1, f"no column `label` in the first line, which names {found}")
    elif "id" not in mapped and "index" not in mapped:
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
        yield from _row(path, number, dict(zip(keys, map(unescape_cell, cells), strict=False)), delimiter, problems)
