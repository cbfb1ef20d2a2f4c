"""`FileOracle`: people fill in a table."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lightning_diffal.exceptions import (
    ConfigurationError,
    InvalidIndexError,
    InvalidLabelError,
    InvalidTypeError,
)
from lightning_diffal.labels.marks import PENDING, SKIP
from lightning_diffal.oracle.base import Oracle, Question
from lightning_diffal.spreadsheets.labels import CANNOT_TELL, LabelReader, in_other_order, read_label
from lightning_diffal.spreadsheets.patience import patiently
from lightning_diffal.spreadsheets.points import PointReader
from lightning_diffal.spreadsheets.read import Problems, Table, read_table
from lightning_diffal.spreadsheets.unread import has_xlsx, is_of_programs, unread_answers
from lightning_diffal.spreadsheets.write import add_rows, class_words, content_of, query_rows
from lightning_diffal.utils.aliases import IntArray
from lightning_diffal.utils.arguments import check_choice, check_waiting
from lightning_diffal.utils.storage.files import check_writable, replacing

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["FileOracle"]


_NAME = re.compile(r"query-\d+\.(csv|jsonl|xlsx)")
_EXPORTS = "exports"  # the folder beside them for what tools write
_MARK = "run.txt"


class FileOracle(Oracle):
    """Writes each query as a table, and reads the labels that people fill in.

    After round 3 `query-003.csv` appears in the folder: id, index, path or text of each point where the data set gives
    one, an empty column `label`, the sampler's guess with its confidence (0 to 1), why it was asked, its score, and the
    nearest labelled example. Fill in the column `label`, in part or whole, in any spreadsheet or editor; order,
    further columns, the separator (comma, semicolon, tab), line ends and a byte order mark do not matter.

    A cell is a class name or number; several of them, separated by `|` or as a JSON list, for a multi-label target
    (`[]`: none applies). Empty means not answered yet; `?` or `skip`, that nobody can tell, unless a class has that
    name. A label changed later, for a point labelled already, is a correction: the files are the last word on what
    they asked. All is checked before any of it is applied; an error names file, line and reason.

    A workbook `query-003.xlsx` is read too where `openpyxl` is installed (the extra `xlsx`).

    What stands in a file is never overwritten, text that a spreadsheet would run as a formula is escaped, and no path
    in a file is opened.

    Args:
        folder: for the files of one run. Default: `queries` in the run's folder. Exports of other tools are read from
            its folder `exports`, as `docs/reference/answer-files.md` says.
        format: `"csv"` for people, `"jsonl"` (one JSON object per line) for programs, or `"both"`. Answers are read
            from all files of either kind in the folder.
        timeout: seconds to wait in place for answers. 0: the fit ends and waits for the next one. `None`: for ever.
        poll_seconds: how long to wait between two looks at the files.
        multilabel: whether a point may have several classes. Default: as the known labels are.
        cannot_tell: what people write where nobody can tell.
        encoding: of CSV files. The default is UTF-8 with the mark by which Excel knows it.

    Raises:
        ConfigurationError: an argument out of range.
        InvalidTypeError: a folder that is not a path.

    Example:
        >>> import tempfile
        >>> from lightning_diffal import ActiveDataModule, Query
        >>> data = ActiveDataModule(["good", "bad", "fine"], initial_labels={0: 1}, class_names=["neg", "pos"])
        >>> data.pool.ask([2, 1])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     oracle = FileOracle(folder)
        ...     oracle.ask(Question(Query([2, 1], [0.9, 0.4]), np.array([2, 1]), round=0, run_id=None), data)
        ...     file = Path(folder, "query-000.csv")
        ...     table = file.read_text("utf-8-sig")
        ...     _ = file.write_text(table.replace("fine,", "fine,pos"))
        ...     answers = oracle.answer(np.array([2, 1]), data)
        >>> print(table)
        id,index,text,label,suggested_label,confidence,why,score,nearest_id,nearest_label
        2,2,fine,,,,,0.9,,
        1,1,bad,,,,,0.4,,
        <BLANKLINE>
        >>> answers
        {2: 1}
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        format: Literal["csv", "jsonl", "both"] = "csv",  # noqa: A002  # what people call it
        timeout: float | None = 0.0,
        poll_seconds: float = 5.0,
        multilabel: bool | None = None,
        cannot_tell: Sequence[str] = CANNOT_TELL,
        encoding: str = "utf-8-sig",
    ) -> None:
        if folder is not None and not isinstance(folder, str | os.PathLike):
            raise InvalidTypeError(f"Expected argument `folder` to be a path or None, but got {folder!r}.")
        check_choice("format", format, ("csv", "jsonl", "both"))
        check_waiting(timeout, poll_seconds)
        if isinstance(cannot_tell, str) or not all(isinstance(word, str) and word.strip() for word in cannot_tell):
            raise ConfigurationError(f"Expected argument `cannot_tell` to be a list of words, but got {cannot_tell!r}.")
        try:
            "".encode(encoding)
        except (LookupError, TypeError):
            raise ConfigurationError(
                f"Expected argument `encoding` to be one that Python knows, such as 'utf-8' or 'cp1252', "
                f"but got {encoding!r}."
            ) from None
        self.folder = None if folder is None else Path(folder)
        self.format = format
        self.timeout = None if timeout is None else float(timeout)
        self.poll_seconds = float(poll_seconds)
        self.multilabel = multilabel
        self.cannot_tell = tuple(cannot_tell)
        self.encoding = encoding
        self._place = self.folder
        self._open: list[Path] = []

    # ---------------------------------------------------------------------------------------------------- asking

    def prepare(self, data: ActiveDataModule, folder: Path | None, run_id: str | None) -> None:
        """Find the folder of the queries, and refuse one that belongs to another run.

        Args:
            data: whose points will be asked.
            folder: of the run; `None` where it writes nothing.
            run_id: of the run's journal; `None` where there is none.

        Raises:
            ConfigurationError: no folder, another run's, or a multi-label target without a number of classes.
            StorageError: a folder that cannot be written to.
        """
        if self.folder is None and folder is None:
            raise ConfigurationError(
                "FileOracle has no folder for its files: give `FileOracle(folder=...)`, since `run_dir=False` keeps "
                "none."
            )
        self._place = self.folder if folder is None or self.folder is not None else folder / "queries"
        self._labels(data)
        check_writable(self._where, "FileOracle(folder=...)")
        if run_id is None:
            return
        mark, owner = self._where / _MARK, None
        if mark.exists():
            owner = mark.read_text(encoding="utf-8").strip()
        elif not self._files():
            owner = run_id
            with replacing(mark) as temporary:
                temporary.write_text(run_id + "\n", encoding="utf-8")
        if owner != run_id:
            whose = f"a run that {mark} does not name" if owner is None else f"run {owner}"
            raise ConfigurationError(
                f"{self._where} holds the queries of {whose}, and this is run {run_id}: give another `folder`, or the "
                "`run_dir` of that run to go on with it."
            )

    def ask(self, question: Question, data: ActiveDataModule) -> None:
        """Write the points that stand in no file yet; what stands in one stays as it is.

        Args:
            question: what is open, and why it was asked.
            data: gives items, ids and class names.

        Raises:
            AnswerFileError: a file that is there cannot be read.
        """
        problems, pool = Problems(), data.pool
        tables = self._tables(problems)
        problems.check()
        points = PointReader(len(pool), pool.ids)
        for suffix in ("csv", "jsonl") if self.format == "both" else (self.format,):
            there = [t for t in tables if self.format != "both" or t.path.suffix == f".{suffix}"]
            known = {points.find(row) for table in there for row in table.rows}
            missing = [index for index in question.indices.tolist() if index not in known]
            path = self._where / f"query-{question.round:03d}.{suffix}"
            table = next((t for t in tables if t.path == path), Table(path))
            if missing:
                rows = query_rows(
                    missing,
                    question.query,
                    pool.id_of,
                    lambda index: pool.labels_of(np.array([index])).get(index),
                    data.class_names,
                    lambda index: content_of(data, index),
                )
                add_rows(path, rows, table.encoding or self._encoding(path), table.columns, table.delimiter)

    # --------------------------------------------------------------------------------------------------- reading

    def corrections(self, data: ActiveDataModule) -> Mapping[int, Any]:
        """Labels in the files of points that have another one, or that were skipped.

        Args:
            data: knows ids, classes and present labels.

        Raises:
            AnswerFileError: something in the files that cannot be; it names file, line and reason.
        """
        pending = set(data.pending_indices.tolist())
        return {i: value for i, value in self._read(data).items() if i not in pending and value is not SKIP}

    def answer(self, indices: IntArray, data: ActiveDataModule) -> Mapping[int, Any]:
        """What stands in the files of the points that are open.

        Args:
            indices: `(b,)` positions in the training data set.
            data: knows ids and classes.

        Raises:
            AnswerFileError: something in the files that cannot be; it names file, line and reason.
        """
        found = self._read(data)
        return {index: found[index] for index in indices.tolist() if index in found}

    def whereabouts(self) -> str | None:
        """The files in which answers are missing, and those beside them that are not read, with the reason."""
        where = f"the column `label` of {' and '.join(map(str, self._open or [self._where]))}"
        try:
            unread = unread_answers(self._where, {path.name for path in self._files()})
        except OSError:  # said by whoever reads the answers
            unread = []
        return f"{where} (not read there: {'; '.join(unread)})" if unread else where

    def _read(self, data: ActiveDataModule) -> dict[int, Any]:
        """What stands in all files, by index; all of it fits what was asked."""
        problems, pool, labels = Problems(), data.pool, self._labels(data)
        pending = set(pool.pending_indices.tolist())
        points = PointReader(len(pool), pool.ids, pending)
        states = _States(data)
        found: dict[int, tuple[Any, str]] = {}
        tables = self._tables(problems, of_tools=True)
        for table in tables:
            by_name = in_other_order(table.rows, labels)
            for row in table.rows:
                try:
                    value = read_label(row, labels, by_name=by_name)
                    if value is PENDING:
                        continue
                    index = points.read(row)
                    states.check(index, value)
                    earlier, where = found.setdefault(index, (value, f"{table.unit} {row.line} of {table.path}"))
                    if earlier != value:
                        raise InvalidLabelError(
                            f"point {pool.id_of(index)!r} has {states.words(value)} here, but "
                            f"{states.words(earlier)} in {where}"
                        )
                except (InvalidLabelError, InvalidIndexError) as error:
                    problems.add(table.path, row.line, str(error), table.unit)
        problems.check()
        left = pending - found.keys()
        asked = [table for table in tables if table.path.parent == self._where]
        self._open = [table.path for table in asked if any(points.find(row) in left for row in table.rows)]
        return {index: value for index, (value, _) in found.items()}

    def _labels(self, data: ActiveDataModule) -> LabelReader:
        known = data.pool.placeholder
        several = data.pool.is_multilabel if self.multilabel is None else self.multilabel
        num_classes = len(known) if isinstance(known, tuple) else data.num_classes
        if several and num_classes is None:
            raise ConfigurationError(
                "FileOracle(multilabel=True) has to know how many classes there are: give the data "
                "module `num_classes` or `class_names`."
            )
        return LabelReader(num_classes, data.class_names, multilabel=several, cannot_tell=self.cannot_tell)

    @property
    def _where(self) -> Path:
        if self._place is None:
            raise ConfigurationError("FileOracle has no folder yet: give `FileOracle(folder=...)`.")
        return self._place

    def _files(self) -> list[Path]:
        there = self._where.iterdir() if self._where.is_dir() else ()
        return sorted(path for path in there if _NAME.fullmatch(path.name) and (path.suffix != ".xlsx" or has_xlsx()))

    def _exports(self) -> list[Path]:
        """What tools wrote; anything that is not read there is an error, since nobody asked for it."""
        folder = self._where / _EXPORTS
        there = folder.iterdir() if folder.is_dir() else ()
        return sorted(path for path in there if path.is_file() and not is_of_programs(path.name))

    def _tables(self, problems: Problems, *, of_tools: bool = False) -> list[Table]:
        def read() -> tuple[list[Table], Problems]:
            found = Problems()
            paths = self._files() + (self._exports() if of_tools else [])
            return [read_table(path, found, self._encoding(path)) for path in paths], found

        tables, found = patiently(read, self._where)
        problems.found += found.found
        return tables

    def _encoding(self, path: Path) -> str:
        return self.encoding if path.suffix == ".csv" else "utf-8"


class _States:
    """What may be said of a point: an answer to what was asked, or another label for what is labelled."""

    def __init__(self, data: ActiveDataModule) -> None:
        self.data = data
        self.in_pool = set(data.pool_indices.tolist())
        self.labelled = set(data.labelled_indices.tolist())

    def check(self, index: int, value: Any) -> None:
        """Refuse a label for what nobody asked, and one that is taken back."""
        if index in self.in_pool:
            raise InvalidIndexError(f"point {self.data.pool.id_of(index)!r} was not asked")
        if value is SKIP and index in self.labelled:
            raise InvalidLabelError(
                f"point {self.data.pool.id_of(index)!r} is labelled already: its label can be replaced by another one, "
                "and not be taken back"
            )

    def words(self, value: Any) -> str:
        """An answer as a person would write it."""
        return (
            "no label that anybody can tell"
            if value is SKIP
            else f"label {class_words(value, self.data.class_names)!r}"
        )
