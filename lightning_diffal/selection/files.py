"""Reading the files of a selection without a model: labels, ids, points that wait for a label."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_diffal.exceptions import ConfigurationError, InvalidIndexError, InvalidLabelError
from lightning_diffal.labels.class_names import check_names, tidy
from lightning_diffal.labels.ids import unique_ids
from lightning_diffal.labels.marks import PENDING, SKIP
from lightning_diffal.labels.missing import missing_mark
from lightning_diffal.spreadsheets.labels import (
    CANNOT_TELL,
    LabelReader,
    holds_several,
    in_other_order,
    is_vector,
    label_cell,
    parts_of,
    read_label,
)
from lightning_diffal.spreadsheets.numbers import AmbiguousNumberError, whole_number
from lightning_diffal.spreadsheets.points import PointReader
from lightning_diffal.spreadsheets.read import Problems, Row, Table, read_table

__all__ = ["Known", "check_out", "read_ids", "read_labels", "read_pending"]

PathLike = str | os.PathLike[str]

_CODE = 9_999  # numbers beyond it are codes of classes, and not their positions
_ASKED_BY_US = "suggested_label"  # a column that only our own query files have


_QUERY_SUFFIXES = (".csv", ".jsonl", ".txt")


def check_out(path: Path, inputs: Iterable[PathLike] = ()) -> None:
    """Refuse to replace what somebody may have written.

    Args:
        path: of the query file.
        inputs: files that are read.

    Raises:
        ConfigurationError: the file holds labels, is not a query file, or is read.
    """
    if path.is_dir():
        raise ConfigurationError(
            f"Expected argument `out` to be a file to write, but {path} is a folder: give {path / 'query.csv'}."
        )
    if path.suffix.lower() not in _QUERY_SUFFIXES:
        raise ConfigurationError(
            f"Expected a query file to end in {', '.join(_QUERY_SUFFIXES)}, but got {path}: spreadsheets open .csv."
        )
    if not path.exists():
        return
    if any(Path(other).exists() and path.samefile(other) for other in inputs):
        raise ConfigurationError(f"{path} is read, and would be written too: give the next query another name.")
    problems = Problems()
    rows = read_table(path, problems).rows
    if problems.found or any(row.text("label") or _ASKED_BY_US not in row.cells for row in rows):
        raise ConfigurationError(f"{path} holds labels or is not a query file; not overwritten: give another name.")


class Known(NamedTuple):
    """What files of labels say: labels, points that nobody can tell, and points of our own queries that are open."""

    labels: dict[int, Any]
    skipped: set[int]
    open_points: set[int]
    class_names: list[str] | None
    num_classes: int | None


def read_labels(paths: Sequence[Path], points: PointReader, class_names: Sequence[str] | None) -> Known:
    """Labels by index, each once or the same each time.

    Args:
        paths: files with columns `id` or `index` and `label`.
        points: finds points.
        class_names: of all classes. `None`: those that stand in the files.

    Raises:
        AnswerFileError: something in a file that cannot be; file, line and reason.
        ConfigurationError: no such file.
    """
    problems = Problems()
    tables = [read_table(_existing(path), problems) for path in paths]
    reader = _reader(tables, class_names)
    labels: dict[int, Any] = {}
    places: dict[int, str] = {}
    open_points: set[int] = set()
    for table in tables:
        by_name = in_other_order(table.rows, reader)
        for row in table.rows:
            try:
                value = read_label(row, reader, by_name=by_name)
                if value is PENDING and _ASKED_BY_US not in row.cells:
                    continue
                index = points.read(row)
                if value is PENDING:
                    open_points.add(index)
                elif labels.setdefault(index, value) != value:
                    raise InvalidLabelError(f"this point has another label in {places[index]}")
                places.setdefault(index, f"{table.unit} {row.line} of {table.path}")
            except (InvalidLabelError, InvalidIndexError) as error:
                problems.add(table.path, row.line, f"{error}{_id_hint(error, points)}", table.unit)
    problems.check()
    skipped = {index for index, value in labels.items() if value is SKIP}
    names = list(reader.names) or None
    return Known({i: v for i, v in labels.items() if v is not SKIP}, skipped, open_points, names, reader.num_classes)


def _reader(tables: list[Table], class_names: Sequence[str] | None) -> LabelReader:
    """One that knows the classes: those given, or those that stand in the files."""
    cells = [(label_cell(row), row.delimiter) for table in tables for row in table.rows]
    names = [] if class_names is None else [tidy(name) for name in class_names]
    several = any(holds_several(cell) and not (isinstance(cell, str) and tidy(cell) in names) for cell, _ in cells)
    several = several and any(len(parts_of(cell)) != 1 for cell, _ in cells if holds_several(cell))
    # beside the class name `export_labels` writes zeros and ones for several classes, also where only one applies
    several |= any(row.text("class_name") and is_vector(row.text("label")) for table in tables for row in table.rows)
    if class_names is not None:
        if len(set(class_names)) < len(class_names):
            raise ConfigurationError(f"Expected class names that differ, but got {', '.join(class_names)}.")
        check_names(class_names)
        several |= any(isinstance(cell, str) and is_vector(cell) and tidy(cell) not in names for cell, _ in cells)
        return LabelReader(class_names=class_names, multilabel=several)
    vectors = {len(cell.split()) for cell, _ in cells if isinstance(cell, str) and is_vector(cell)}
    if len(vectors) == 1:
        return LabelReader(vectors.pop(), multilabel=True)
    signs = _has_signs(cells)
    words: set[str] = set()
    numbers: set[int] = set()
    for cell, delimiter in cells:
        for part in parts_of(cell):
            word = tidy("" if isinstance(part, float) and math.isnan(part) else str(part))
            number = _whole(word, delimiter)
            is_nothing = not word or word.casefold() in CANNOT_TELL or missing_mark(word, classes_known=False)
            if signs and number is not None:
                words.add(str(number))
            elif is_nothing or (number is not None and number < 0):
                continue
            elif number is None:
                words.add(word)
            else:
                numbers.add(number)
    if words or max(numbers, default=0) > _CODE:  # numbers are names too: codes, not positions
        listed = [str(number) for number in sorted(numbers)] + sorted(words)
        return LabelReader(class_names=listed, multilabel=several, classes_known=False)
    top = max(numbers, default=-1)
    return LabelReader(top + 1 if numbers else None, multilabel=several, classes_known=False)


def _has_signs(cells: Sequence[tuple[Any, str]]) -> bool:
    """Whether the classes are -1 and 1, and what is not labelled is left empty; -1 is also how that is marked."""
    words = {tidy(str(part)) for cell, _ in cells for part in parts_of(cell)}
    known = {_whole(word, "") for word in words if word and missing_mark(word, classes_known=False) != "empty"}
    return known == {-1, 1} and "" in {tidy(str(cell or "")) for cell, _ in cells}


def _whole(word: str, delimiter: str) -> int | None:
    try:
        return whole_number(word, delimiter)
    except AmbiguousNumberError:  # told when the cell is read
        return None


def _id_hint(error: Exception, points: PointReader) -> str:
    wanting = isinstance(error, InvalidIndexError) and points.ids is None
    return "; other names need a file of `ids`" if wanting else ""


def read_pending(paths: Sequence[Path], points: PointReader) -> set[int]:
    """Points that files name.

    Args:
        paths: tables with a column `id` or `index`, or texts with one id per line.
        points: finds points.

    Raises:
        AnswerFileError: a point that is not there; file, line and reason.
        ConfigurationError: no such file.
    """
    problems = Problems()
    found = set()
    for path in paths:
        for row in _names(_existing(path), problems):
            try:
                found.add(points.read(row))
            except InvalidIndexError as error:  # noqa: PERF203  # all of them are told
                problems.add(path, row.line, f"{error}{_id_hint(error, points)}")
    problems.check()
    return found


def read_ids(path: Path, n_points: int) -> tuple[list[str], list[dict[str, str]]]:
    """Names of all points, and what shows them to people.

    Args:
        path: a table with a column `id`, or a text with one per line. A column `index` says whose ids they are;
            without, the rows are in the order of the points. Columns `text` and `path` go into the query file.
        n_points: how many there have to be.

    Raises:
        ConfigurationError: another number, one twice or empty, or an `index` that is not each number from 0 once.
    """
    problems = Problems()
    rows = _names(_existing(path), problems)
    for row in rows:
        if not row.text("id"):
            problems.add(path, row.line, "no id")
    problems.check()
    if any(row.text("index") for row in rows):
        points = PointReader(len(rows))
        of_index = {points.find(Row(row.line, {"index": row.text("index")})): row for row in rows}
        if set(of_index) != set(range(len(rows))):
            raise ConfigurationError(f"{path}: expected each index from 0 to {len(rows) - 1} once in column `index`.")
        rows = [of_index[index] for index in range(len(rows))]
    try:
        names = unique_ids([row.text("id") for row in rows], n_points)
    except InvalidIndexError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    shown = {name for row in rows for name in ("path", "text") if row.text(name)}
    return names, [{name: row.text(name) for name in shown} for row in rows]


def _names(path: Path, problems: Problems) -> list[Row]:
    """Rows that name points: of a table, or one per line of a text."""
    if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".xlsx"):
        return read_table(path, problems, needs_label=False).rows
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8: save it so.") from None
    return [Row(n, {"id": line.strip()}) for n, line in enumerate(lines, start=1) if line.strip()]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigurationError(f"{path} is a folder, not a file." if path.is_dir() else f"There is no file {path}.")
    return path
