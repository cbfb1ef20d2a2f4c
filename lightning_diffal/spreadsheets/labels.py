"""Labels as people write them into a cell: names, numbers, several of them, nothing yet, or "cannot tell"."""

from __future__ import annotations

import difflib
import json
import re
import reprlib
import unicodedata
from collections.abc import Sequence
from typing import Any

from lightning_diffal.exceptions import InvalidLabelError
from lightning_diffal.labels.marks import PENDING, SKIP
from lightning_diffal.labels.targets import Label

__all__ = ["CANNOT_TELL", "LabelReader", "holds_several", "parts_of"]

CANNOT_TELL = ("?", "skip")
"""What people write where nobody can tell the label."""

_NUMBER = re.compile(r"\d{1,18}(\.0*)?")  # spreadsheets and pandas write 3.0 for 3


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
    ) -> None:
        self.num_classes = num_classes if class_names is None else len(class_names)
        self.names = {unicodedata.normalize("NFC", str(name)).strip(): i for i, name in enumerate(class_names or ())}
        self.has_number_names = any(_NUMBER.fullmatch(name) for name in self.names)
        self.multilabel = multilabel
        self.cannot_tell = frozenset(word.strip().casefold() for word in cannot_tell)

    def read(self, cell: Any) -> Any:
        """What a cell says.

        Args:
            cell: text of a table, or a value of JSON.

        Returns:
            A class, or zeros and ones for a multi-label target; `PENDING`; or `SKIP`.

        Raises:
            InvalidLabelError: anything else, with the reason.
        """
        if isinstance(cell, str):
            cell = unicodedata.normalize("NFC", cell).strip()
        if cell is None or cell == "":
            return PENDING
        if isinstance(cell, str) and cell not in self.names:
            if cell.casefold() in self.cannot_tell:
                return SKIP
            if holds_several(cell):
                cell = _several(cell)
        if isinstance(cell, list):
            return self._vector(cell)
        label = self._class(cell)
        return self._vector([label]) if self.multilabel else label

    def _class(self, value: Any) -> int:
        if isinstance(value, str):
            value = unicodedata.normalize("NFC", value).strip()
            if value in self.names:
                return self.names[value]
            if not _NUMBER.fullmatch(value):
                raise InvalidLabelError(f"there is no class {reprlib.repr(value)}{self._hint(value)}")
            value = int(value.partition(".")[0])
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidLabelError(f"expected a class{' name or' if self.names else ''} number, but got {value!r}")
        if self.has_number_names:  # then a number is a name, also where something wrote 3.0 for it
            if str(value) not in self.names:
                raise InvalidLabelError(f"there is no class {value}{self._hint(str(value))}")
            return self.names[str(value)]
        top = self.num_classes
        if value < 0 or (top is not None and value >= top):
            bound = "at least 0" if top is None else f"from 0 to {top - 1}"
            raise InvalidLabelError(f"there is no class {value}: classes are numbered {bound}")
        return value

    def _vector(self, values: list[Any]) -> Label:
        if not self.multilabel:
            raise InvalidLabelError(f"expected one class, but got several: {reprlib.repr(values)}")
        assert self.num_classes is not None, "a multi-label target has a known number of classes"
        classes = [self._class(value) for value in values]
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
