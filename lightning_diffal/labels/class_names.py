"""Names of classes: what makes two of them one, and a label read by name or checked against them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.labels.ids import composed

__all__ = ["check_names", "class_words", "completed", "is_spare", "same_names", "tidy"]


_NO_WIDTH = dict.fromkeys((0x200B, 0x2060, 0xFEFF, 0x200E, 0x200F, 0x00AD))  # what copying leaves in a text


def tidy(name: str) -> str:
    """A class name as all ways of writing it agree: composed characters, one space between words, no marks of no width.

    Example:
        >>> tidy("  big   cat ")
        'big cat'
    """
    return " ".join(composed(name).translate(_NO_WIDTH).split())


def check_names(class_names: Sequence[Any]) -> None:
    """Refuse names that nobody can tell apart in a table. Upper and lower case tell them apart.

    Raises:
        ConfigurationError: an empty name, or two that are one but for spaces and Unicode composition.

    Example:
        >>> check_names(["cat", "cat "])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        lightning_diffal.exceptions.ConfigurationError: ... to be different, but 'cat' and 'cat ' are the same.
    """
    found: dict[str, Any] = {}
    for name in class_names:
        words = tidy(str(name))
        if not words:
            raise ConfigurationError(
                f"Expected `class_names` to be words, but got {name!r}: an empty cell is not a label."
            )
        if words in found:
            raise ConfigurationError(
                f"Expected `class_names` to be different, but {found[words]!r} and {name!r} are the same."
            )
        found[words] = name


def _spare(place: int) -> str:
    return f"class {place}"


def is_spare(name: str) -> bool:
    """Whether a class may have got this name from `completed`."""
    word, _, number = name.partition(" ")
    return word == "class" and number.isdecimal()


def completed(class_names: Sequence[str], num_classes: int | None) -> Sequence[str]:
    """Names for all classes, where some outputs of the model are to spare: those without a name are numbered.

    Args:
        class_names: of the first classes.
        num_classes: how many there are; `None`: as many as names.

    Example:
        >>> completed(["rose", "tulip"], 4)
        ['rose', 'tulip', 'class 2', 'class 3']
    """
    left = range(len(class_names), num_classes or 0)
    return [*class_names, *map(_spare, left)] if left else class_names


def same_names(before: Sequence[str], now: Sequence[str]) -> bool:
    """Whether every class still has its name and place, but for those that had no name then, or have none now.

    Example:
        >>> same_names(["rose", "class 1"], ["rose", "lily"]), same_names(["rose", "lily"], ["lily", "rose"])
        (True, False)
        >>> same_names(["class 0", "class 1"], ["class 1", "class 0"])  # these are names that changed places
        False
    """
    if len(before) != len(now):
        return False
    for place, (a, b) in enumerate(zip(before, now, strict=True)):
        gets_one, loses_one = a == _spare(place) and b not in before, b == _spare(place) and a not in now
        if a != b and not gets_one and not loses_one:
            return False
    return True


def class_words(label: int | tuple[int, ...], class_names: Sequence[str] | None) -> str:
    """A label as a person may write it, and as `spreadsheets.labels.LabelReader` reads it.

    Example:
        >>> class_words(1, ["cat", "dog"]), class_words((1, 0, 1), None), class_words((0, 0), None)
        ('dog', '0|2', '[]')
    """
    if isinstance(label, tuple):
        words = [class_words(i, class_names) for i in np.flatnonzero(label).tolist()]
        plain = words and not any("|" in word or word.startswith("[") for word in words)
        return "|".join(words) if plain else json.dumps(words, ensure_ascii=False)
    return str(label) if class_names is None else str(class_names[label])
