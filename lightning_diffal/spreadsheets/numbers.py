"""Whole numbers as locales, spreadsheets and data frames write them."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["AmbiguousNumberError", "is_numeric", "plain_digits", "whole_number"]

_DASHES = "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
_QUOTES = "\u2019\u02bc\uff07"
_PUNCTUATION = {
    **dict.fromkeys(_DASHES, "-"),
    **dict.fromkeys(_QUOTES, "'"),
    "\uff0b": "+",
    "\uff0e": ".",
    "\uff0c": ",",
}

_INTEGER = re.compile(r"([+-]?\d{1,18})[.,]?")
_ZEROS = re.compile(r"([+-]?\d{1,18})[.,]0+")
_GROUPED = re.compile(r"([+-]?[1-9]\d{0,2}(?:([ '.,])\d{3})(?:\2\d{3})*)(?:([.,])0*)?")
_NUMERIC = re.compile(r"[+-]*\s*\d[\d.,'_ ]*([eE][+-]?\d+)?\s*%?|[+-]?[.,]\d+")
_SCIENTIFIC = re.compile(r"[+-]?\d+([.,]\d*)?[eE][+-]?\d+")


class AmbiguousNumberError(ValueError):
    """A number that means one thing in one locale and another in the next; the message says what to write."""


def plain_digits(text: str) -> str:
    """The text with the digits, signs, quotes and spaces of ASCII.

    Example:
        >>> plain_digits("\uff11\u202f000"), plain_digits("\u22121")
        ('1 000', '-1')
    """
    return "".join(
        str(unicodedata.decimal(char)) if char.isdecimal() else " " if char.isspace() else _PUNCTUATION.get(char, char)
        for char in text
    ).strip()


def whole_number(text: str, delimiter: str = ",", below: int | None = None) -> int | None:
    """The whole number that a cell holds; `None` where it holds something else.

    Args:
        text: of the cell.
        delimiter: of its table. A table with semicolons comes from a locale with decimal commas, where `1.000` is a
            thousand.
        below: what the number has to be below, where that is known; it decides what `1.000` is in a table with commas.

    Raises:
        AmbiguousNumberError: it depends on the locale, or was rounded.

    Example:
        >>> whole_number("3.0"), whole_number("1 000"), whole_number("1.234.567"), whole_number("2,0", ";")
        (3, 1000, 1234567, 2)
        >>> whole_number("1.5") is None
        True
        >>> whole_number("1.000", ";")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        lightning_diffal.spreadsheets.numbers.AmbiguousNumberError: '1.000' is 1 in some locales and 1000 in others: ...
    """
    plain = plain_digits(text)
    if found := _INTEGER.fullmatch(plain):
        return int(found[1])
    if found := _GROUPED.fullmatch(plain):
        return _grouped(text, found, delimiter, below)
    if found := _ZEROS.fullmatch(plain):
        return int(found[1])
    if _SCIENTIFIC.fullmatch(plain):
        raise AmbiguousNumberError(f"{text!r} may have been rounded: write the number with all its digits")
    return None


def is_numeric(text: str) -> bool:
    r"""Whether a cell is written as a number of any kind: a fraction, a share, a number with separators.

    Example:
        >>> [is_numeric(text) for text in ("0,5", "\u00bd", "1E0", "12%", "3 cats", "1-2")]
        [True, True, True, True, False, False]
    """
    plain = plain_digits(text)
    return _NUMERIC.fullmatch(plain) is not None or (len(plain) == 1 and unicodedata.numeric(plain, None) is not None)


def _grouped(text: str, found: re.Match[str], delimiter: str, below: int | None) -> int | None:
    """Groups of three digits: a thousands separator, or a decimal mark with three zeros behind it."""
    separator, decimal = found[2], found[3]
    if decimal == separator:
        return None
    value = int(re.sub(r"[ '.,]", "", found[1]))
    groups = found[1].count(separator)
    if separator in " '" or groups > 1 or decimal:
        return value
    small, zeros = found[1].split(separator)
    certain = separator == "." and delimiter in (",", "") and zeros == "000" and below is not None
    if certain and below is not None and int(small) < below <= value:
        return int(small)
    raise AmbiguousNumberError(
        f"{text!r} is {small if zeros == '000' else f'{small}.{zeros}'} in some locales and {value} in others: write "
        "the number without separators"
    )
