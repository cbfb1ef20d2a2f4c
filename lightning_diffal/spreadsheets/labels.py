"""Labels as people write them into a cell: names, numbers, several of them, nothing yet, or "cannot tell"."""

from __future__ import annotations

import difflib
import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lightning_diffal.exceptions import InvalidLabelError
from lightning_diffal.labels.class_names import tidy
from lightning_diffal.labels.marks import PENDING, SKIP
from lightning_diffal.labels.missing import missing_mark
from lightning_diffal.labels.targets import Label
from lightning_diffal.spreadsheets.numbers import AmbiguousNumberError, is_numeric, whole_number
from lightning_diffal.spreadsheets.read import Row

__all__ = [
    "CANNOT_TELL",
    "LabelReader",
    "holds_several",
    "in_other_order",
    "is_vector",
    "label_cell",
    "parts_of",
    "read_label",
]

CANNOT_TELL = ("?", "skip")
"""What people write where nobody can tell the label."""

_ZEROS_AND_ONES = re.compile(r"[01]( [01])+")
"""A multi-label target as `export_labels` writes it."""


class LabelReader:
    """Reads one cell at a time.

    A class name is always that class, whatever else it may look like; where names are numbers, every number is a name.
    Else a whole number is the class of that number, an empty cell means "not answered yet", and `?` or `skip` that
    nobody can tell. A multi-label target has several classes, separated by `|` or as a JSON list; `[]` means that none
    applies.

    Args:
        num_classes: numbers have to be below it; `None`: any number goes.
        class_names: names of the classes, where they have any.
        multilabel: whether a point may have several classes.
        cannot_tell: what means that nobody can tell, in upper or lower case.
        classes_known: whether the classes are given, and not read off the cells. Where they are not, a word that may
            stand for nothing, and a class that is written in two ways, are refused.

    Example:
        >>> reader = LabelReader(3, ["cat", "dog", "?"])
        >>> [reader.read(cell) for cell in ("dog", " 0 ", "", "skip", "?", None)]
        [1, 0, PENDING, SKIP, 2, PENDING]
        >>> LabelReader(3, multilabel=True).read("0|2"), LabelReader(2, multilabel=True).read([])
        ((1, 0, 1), (0, 0))
    """

    def __init__(
        self,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        *,
        multilabel: bool = False,
        cannot_tell: Sequence[str] = CANNOT_TELL,
        classes_known: bool = True,
    ) -> None:
        self.num_classes = num_classes if class_names is None else len(class_names)
        self.names = {tidy(str(name)): i for i, name in enumerate(class_names or ())}
        self.multilabel = multilabel
        self.cannot_tell = frozenset(word.strip().casefold() for word in cannot_tell)
        self.classes_known = classes_known
        self._numbers: dict[int, list[str]] = {}
        self._folded: dict[str, list[str]] = {}
        for name in self.names:
            self._folded.setdefault(name.casefold(), []).append(name)
            number = _number_or_none(name)
            if number is not None:
                self._numbers.setdefault(number, []).append(name)

    def read(self, cell: Any, delimiter: str = "") -> Any:
        """What a cell says.

        Args:
            cell: text of a table, or a value of JSON.
            delimiter: of the table, which tells how its locale writes numbers.

        Returns:
            A class, or zeros and ones for a multi-label target; `PENDING`; or `SKIP`.

        Raises:
            InvalidLabelError: anything else, with the reason.
        """
        if isinstance(cell, float) and math.isnan(cell):
            return PENDING
        if isinstance(cell, str):
            cell = tidy(cell)
        if cell is None or cell == "":
            return PENDING
        if isinstance(cell, str) and cell not in self.names:
            if cell.casefold() in self.cannot_tell:
                return SKIP
            if self._is_empty(cell):
                return PENDING
            if self.multilabel and _ZEROS_AND_ONES.fullmatch(cell):
                return self._zeros_and_ones(cell)
            if holds_several(cell):
                cell = _several(cell)
        if isinstance(cell, list):
            if not self.multilabel and len(cell) <= 1:  # as tools write the choice of one
                return self._class(cell[0], delimiter) if cell else PENDING
            return self._vector(cell, delimiter)
        return self._vector([cell], delimiter) if self.multilabel else self._class(cell, delimiter)

    def _is_empty(self, cell: str) -> bool:
        """Whether this means that there is nothing; refused where it may."""
        if cell.casefold() in self._folded:
            return False
        number = _number_or_none(cell)
        if number in self._numbers:
            return False
        mark = missing_mark(cell, classes_known=self.classes_known)
        if mark == "uncertain" and not (self.classes_known and number is not None):
            remedy = "" if self.classes_known else ", or give `class_names` if it is a class"
            raise InvalidLabelError(
                f"{cell!r} is not one of the classes, and may stand for nothing: leave the cell empty{remedy}"
            )
        return mark == "empty"

    def _class(self, value: Any, delimiter: str) -> int:
        if isinstance(value, str):
            return self._named(tidy(value), delimiter)
        if isinstance(value, bool) and str(value).casefold() in self._folded:
            return self._named(str(value), delimiter)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidLabelError(f"expected a class{' name or' if self.names else ''} number, but got {value!r}")
        return self._numbered(value)

    def _named(self, text: str, delimiter: str) -> int:
        alike = self._folded.get(text.casefold(), [])
        if not self.classes_known and is_numeric(text) and _number_or_none(text) is None:
            raise InvalidLabelError(
                f"{text!r} may be a number that a locale or a program wrote its own way: write a whole number without "
                "separators, or give `class_names` if it is a class"
            )
        if text in self.names and (self.classes_known or len(alike) == 1):
            return self.names[text]
        if len(alike) > 1:
            raise InvalidLabelError(
                f"{text!r} is written in several ways ({', '.join(map(repr, alike))}): write it in one way, or give "
                "`class_names` if these are different classes"
            )
        if alike and text.casefold() in ("true", "false"):  # a spreadsheet makes TRUE of true
            return self.names[alike[0]]
        try:
            number = whole_number(text, delimiter, None if self._numbers else self.num_classes)
        except AmbiguousNumberError as error:
            raise InvalidLabelError(f"the label {error}") from None
        if number is None or (number < 0 and number not in self._numbers):
            if text in self.names:
                return self.names[text]
            raise InvalidLabelError(f"there is no class {reprlib.repr(text)}{self._hint(text)}")
        return self._numbered(number)

    def _numbered(self, value: int) -> int:
        if self._numbers:  # then a number is a name, also where something wrote 3.0 for it
            names = self._numbers.get(value, [])
            if len(names) != 1:
                hint = f": write {' or '.join(map(repr, names))}" if names else self._hint(str(value))
                raise InvalidLabelError(f"there is no class {value}{hint}")
            return self.names[names[0]]
        top = self.num_classes
        if value < 0 or (top is not None and value >= top):
            bound = "at least 0" if top is None else f"from 0 to {top - 1}"
            raise InvalidLabelError(f"there is no class {value}: classes are numbered {bound}")
        return value

    def _zeros_and_ones(self, cell: str) -> Label:
        values = tuple(int(value) for value in cell.split())
        if len(values) != self.num_classes:
            raise InvalidLabelError(f"expected zeros and ones for {self.num_classes} classes, but got {cell!r}")
        return values

    def _vector(self, values: list[Any], delimiter: str) -> Label:
        if not self.multilabel:
            raise InvalidLabelError(f"expected one class, but got several: {reprlib.repr(values)}")
        assert self.num_classes is not None, "a multi-label target has a known number of classes"
        classes = [self._class(value, delimiter) for value in values]
        twice = {label for label in classes if classes.count(label) > 1}
        if twice:
            raise InvalidLabelError(f"class {min(twice)} stands twice: give the classes that apply, each once")
        return tuple(int(label in classes) for label in range(self.num_classes))

    def _hint(self, value: str) -> str:
        if not self.names:
            return ": classes have no names here, so give its number"
        folded = {name.casefold(): name for name in self.names}
        near = difflib.get_close_matches(value.casefold(), folded, n=3)
        if near:
            return f" (did you mean {' or '.join(repr(folded[name]) for name in near)}?)"
        known = list(self.names)
        return f": classes are {', '.join(known[:10])}{', ...' if len(known) > 10 else ''}"


def _number_or_none(text: str) -> int | None:
    try:
        return whole_number(text)
    except AmbiguousNumberError:
        return None


def is_vector(cell: str) -> bool:
    """Whether a cell holds zeros and ones for all classes, as `export_labels` writes multi-label targets.

    Example:
        >>> is_vector("1 0 1"), is_vector("1 000")
        (True, False)
    """
    return _ZEROS_AND_ONES.fullmatch(cell.strip()) is not None


def label_cell(row: Row) -> Any:
    """What a row says of the label: the class name where `export_labels` wrote it beside the number."""
    name = row.text("class_name")
    return name if name and "label" in row.cells else row.cells.get("label")


def in_other_order(rows: Sequence[Row], reader: LabelReader) -> bool:
    """Whether a table was written with the classes in another order: its numbers disagree with its names as a whole.

    Then the names count. It has to be certain: each number stands for one name and each name for one number, and every
    one that disagrees does so in two rows at least; a single label changed by hand contradicts itself.

    Args:
        rows: of an exported table, with `label` and `class_name`.
        reader: knows the classes.
    """
    if reader.multilabel or not reader.classes_known or not reader.names:
        return False
    pairs: Counter[tuple[int, int]] = Counter()
    for row in rows:
        number, name = _number_or_none(row.text("label")), tidy(row.text("class_name"))
        if number is not None and name in reader.names:
            pairs[number, reader.names[name]] += 1
    numbers, names = {number for number, _ in pairs}, {name for _, name in pairs}
    moved = [count for (number, name), count in pairs.items() if number != name]
    return bool(moved) and len(numbers) == len(names) == len(pairs) and min(moved) > 1


def read_label(row: Row, reader: LabelReader, *, by_name: bool = False) -> Any:
    """The label of a row, from its column `label`, and from `class_name` where there is one: they have to agree.

    Args:
        row: of a table of answers.
        reader: knows the classes.
        by_name: the numbers are of another order of the classes, see `in_other_order`.

    Raises:
        InvalidLabelError: a label that cannot be, or a number and a name that are not the same class.
    """
    value = reader.read(label_cell(row), row.delimiter)
    written, name = row.cells.get("label"), row.text("class_name")
    if not name or written is None or tidy(str(written)) == tidy(name):
        return value
    try:
        number = whole_number(str(written), row.delimiter)
    except AmbiguousNumberError:
        number = None
    is_number_of_name = number == value or by_name or (not reader.classes_known and number is not None)
    if is_number_of_name or (isinstance(value, tuple) and tidy(str(written)) == " ".join(map(str, value))):
        return value
    raise InvalidLabelError(
        f"the label is {written!r}, but the class name beside it is {name!r}: correct the one that is wrong, in "
        "every row if the classes had another order when this was written"
    )


def holds_several(cell: Any) -> bool:
    """Whether a cell is written as several classes.

    Example:
        >>> holds_several("cat|dog"), holds_several("[]"), holds_several("cat"), holds_several(["cat"])
        (True, True, False, True)
    """
    return isinstance(cell, list) or (isinstance(cell, str) and ("|" in cell or cell.lstrip().startswith("[")))


def parts_of(cell: Any) -> list[Any]:
    """The classes that a cell names, read as far as that goes without knowing what classes there are.

    Example:
        >>> parts_of("cat|dog"), parts_of("cat"), parts_of("[1, 2]"), parts_of(None)
        (['cat', 'dog'], ['cat'], [1, 2], [])
    """
    if cell is None or isinstance(cell, list):
        return cell or []
    if not holds_several(cell):
        return [cell]
    try:
        return _several(cell.strip())
    except InvalidLabelError:  # told when the cell is read
        return []


def _several(cell: str) -> list[Any]:
    if not cell.startswith("["):
        return [part for part in cell.split("|") if part.strip()]
    try:
        values = json.loads(cell)
    except (ValueError, RecursionError):
        raise InvalidLabelError(f'expected a JSON list such as ["cat", "dog"], but got {reprlib.repr(cell)}') from None
    assert isinstance(values, list)
    return values
