"""Reading the files of a selection without a model: labels, ids, points that wait for a label."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_diffal.exceptions import ConfigurationError, InvalidIndexError, InvalidLabelError
from lightning_diffal.labels.ids import unique_ids
from lightning_diffal.labels.marks import PENDING, SKIP
from lightning_diffal.spreadsheets.labels import CANNOT_TELL, LabelReader, holds_several, parts_of
from lightning_diffal.spreadsheets.points import PointReader
from lightning_diffal.spreadsheets.read import Problems, Row, Table, read_table

__all__ = ["Known", "check_out", "read_ids", "read_labels", "read_pending"]

PathLike = str | os.PathLike[str]

_ASKED_BY_US = "suggested_label"  # a column that only our own query files have


def check_out(path: Path, inputs: Iterable[PathLike] = ()) -> None:
    """Refuse to replace what somebody may have written.

    Args:
        path: of the query file.
        inputs: files that are read.

    Raises:
        ConfigurationError: the file holds labels, is no query file, or is read.
    """
    if not path.exists():
        return
    if any(Path(other).exists() and path.samefile(other) for other in inputs):
        raise ConfigurationError(f"{path} is read, and would be written too: give the next query another name.")
    problems = Problems()
    rows = read_table(path, problems).rows
    if problems.found or any(row.text("label") or _ASKED_BY_US not in row.cells for row in rows):
        raise ConfigurationError(f"{path} holds labels, or is no query file, and is not replaced: give another name.")


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
        for row in table.rows:
            try:
                value = reader.read(row.cells.get("label"))
                if value is PENDING and _ASKED_BY_US not in row.cells:
                    continue
                index = points.read(row)
                if value is PENDING:
                    open_points.add(index)
                elif labels.setdefault(index, value) != value:
                    raise InvalidLabelError(f"this point has another label in {places[index]}")
                places.setdefault(index, f"line {row.line} of {table.path}")
            except (InvalidLabelError, InvalidIndexError) as error:
                problems.add(table.path, row.line, f"{error}{_id_hint(error, points)}")
    problems.check()
    skipped = {index for index, value in labels.items() if value is SKIP}
    names = list(reader.names) or None
    return Known({i: v for i, v in labels.items() if v is not SKIP}, skipped, open_points, names, reader.num_classes)


def _reader(tables: list[Table], class_names: Sequence[str] | None) -> LabelReader:
    """One that knows the classes: those given, or those that stand in the files."""
    cells = [row.cells.get("label") for table in tables for row in table.rows]
    several = any(holds_several(cell) and cell not in (class_names or ()) for cell in cells)
    if class_names is not None:
        if len(set(class_names)) < len(class_names):
            raise ConfigurationError(f"Expected class names that differ, but got {', '.join(class_names)}.")
        return LabelReader(class_names=class_names, multilabel=several)
    words = {str(part).strip() for cell in cells for part in parts_of(cell)}
    words -= {word for word in words if not word or word.casefold() in CANNOT_TELL}
    if all(word.partition(".")[0].isdecimal() and not word.partition(".")[2].strip("0") for word in words):
        top = max((int(word.partition(".")[0]) for word in words), default=-1)
        return LabelReader(top + 1 if words else None, multilabel=several)
    return LabelReader(class_names=sorted(words), multilabel=several)


def _id_hint(error: Exception, points: PointReader) -> str:
    wanting = isinstance(error, InvalidIndexError) and points.ids is None
    return "; other names need a file of `ids`" if wanting else ""


def read_pending(paths: Sequence[Path], points: PointReader) -> set[int]:
    """Points that files name.

    Args:
        paths: tables with a column `id` or `index`, or texts with one id a line.
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


def read_ids(path: Path, n_points: int) -> list[str]:
    """Names of all points.

    Args:
        path: a table with a column `id`, or a text with one a line. A column `index` says whose ids they are; without,
            the rows stand in the order of the points.
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
        return unique_ids([row.text("id") for row in rows], n_points)
    except InvalidIndexError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def _names(path: Path, problems: Problems) -> list[Row]:
    """Rows that name points: of a table, or one a line of a text."""
    if path.suffix.lower() in (".csv", ".tsv", ".jsonl"):
        return read_table(path, problems, needs_label=False).rows
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8: save it so.") from None
    return [Row(n, {"id": line.strip()}) for n, line in enumerate(lines, start=1) if line.strip()]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigurationError(f"There is no file {path}.")
    return path
