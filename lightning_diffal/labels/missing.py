"""What programs write where there is nothing, and whether a cell that holds it is certain to be empty."""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["CERTAIN", "CERTAIN_WITH_CLASSES", "UNCERTAIN", "missing_mark"]

CERTAIN: Final = (
    "nan",
    "-nan",
    "<na>",
    "nat",
    "null",
    "<null>",
    "\\n",
    "#n/a",
    "#n/a n/a",
    "#na",
    "#nv",
    "#n/d",
    "#n/disp",
)
"""Empty always: pandas, numpy, SQL, spreadsheets in several languages. In any case of letters."""

CERTAIN_WITH_CLASSES: Final = ("na", "n/a", "none")
"""Empty where the classes are known and none is called so; where classes are read off the cells, they may be one."""

UNCERTAIN: Final = (
    *("-1", "-", "--", "---", ".", "..."),  # scikit-learn's unlabelled point; what people type
    *("nil", "n.a.", "n/d", "undefined", "unlabeled", "unlabelled", "unannotated", "tbd", "todo", "<none>", "(blank)"),
    *("(null)", "(none)", "(empty)", "inf", "-inf", "infinity", "-infinity"),
)
"""Never a class that was not given as one, and perhaps more than nothing: refused, with the line."""


def missing_mark(text: str, *, classes_known: bool) -> Literal["empty", "uncertain"] | None:
    """What a cell says that is not one of the known classes.

    Args:
        text: of the cell.
        classes_known: whether the classes are given, and not read off the cells.

    Returns:
        `"empty"` where it is certain that nothing is meant, `"uncertain"` where something may be, `None` for any other
        text.

    Example:
        >>> missing_mark("NaN", classes_known=False), missing_mark("-1", classes_known=True)
        ('empty', 'uncertain')
        >>> missing_mark("none", classes_known=True), missing_mark("none", classes_known=False)
        ('empty', 'uncertain')
        >>> missing_mark("cat", classes_known=False) is None
        True
    """
    mark = text.strip().replace("\u2212", "-").replace("\u2013", "-").replace("\u2014", "-").casefold()
    if mark in CERTAIN or (classes_known and mark in CERTAIN_WITH_CLASSES):
        return "empty"
    if mark in UNCERTAIN or mark in CERTAIN_WITH_CLASSES or _is_error(mark):
        return "uncertain"
    return "uncertain" if mark.startswith("-1.") and not mark[3:].strip("0") else None


def _is_error(mark: str) -> bool:
    """Whether a spreadsheet says that something was lost: `#NAME?`, `#WERT!`, or `####` where a column is narrow."""
    return len(mark) > 1 and (not mark.strip("#") or (mark.startswith("#") and mark.endswith(("!", "?"))))
