"""What names a point of a data set: its position, and its id."""

from __future__ import annotations

import reprlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lightning_diffal.exceptions import InvalidIndexError
from lightning_diffal.utils.aliases import IntArray

__all__ = ["as_indices", "composed", "find_ids", "unique_ids", "writable"]


def as_indices(indices: Any, n_points: int, name: str = "indices") -> IntArray:
    """Check data set indices and return them as an array, in the order given.

    Args:
        indices: integers: a sequence, an array or a tensor.
        n_points: size of the data set.
        name: what the caller calls them.

    Raises:
        InvalidIndexError: not integers, out of range, or one twice.

    Example:
        >>> as_indices([4, 0], 5)
        array([4, 0])
    """
    if hasattr(indices, "detach"):
        indices = indices.detach().cpu().numpy()
    try:
        array = indices if isinstance(indices, np.ndarray) else np.asarray(list(indices))
    except (TypeError, ValueError):  # a single number; nested lists of different lengths
        array = np.asarray(None)
    if array.shape == (0,):
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        got = reprlib.repr(indices) if array.dtype == object else f"{array.dtype} of shape {array.shape}"
        raise InvalidIndexError(
            f"Expected argument `{name}` to be a flat list of integer positions in the training data set, "
            f"but got {got}."
        )
    array = array.astype(np.int64)
    outside = array[(array < 0) | (array >= n_points)]
    if len(outside):
        raise InvalidIndexError(
            f"Expected argument `{name}` to hold positions between 0 and {n_points - 1}, "
            f"but got {outside[:5].tolist()}."
        )
    values, counts = np.unique(array, return_counts=True)
    if (counts > 1).any():
        raise InvalidIndexError(
            f"Expected argument `{name}` to hold positions once, but {values[counts > 1][:5].tolist()} appear twice."
        )
    return array


def unique_ids(ids: Iterable[Any], n_points: int) -> list[str]:
    """Check the names of all points and return them as strings that every file can hold, see `writable`.

    Args:
        ids: one name per point.
        n_points: size of the data set.

    Raises:
        InvalidIndexError: another number of names, or one twice.

    Example:
        >>> unique_ids([7, "b"], 2)
        ['7', 'b']
    """
    names = [writable(str(name)) for name in ids]
    if len(names) != n_points:
        raise InvalidIndexError(
            f"Expected argument `ids` to hold one id for each of {n_points} points, but got {len(names)}."
        )
    if len(set(names)) != n_points:
        name, times = Counter(names).most_common(1)[0]
        raise InvalidIndexError(f"Expected argument `ids` to be unique, but {name!r} stands {times} times.")
    return names


def writable(text: str) -> str:
    r"""The text as it can be written to a file: what no encoding knows (half of a surrogate pair) is escaped.

    Python gives such text for file names that are not in the encoding of the file system.

    Example:
        >>> writable("Stra\udcdfe"), writable("Straße")
        ('Stra\\udcdfe', 'Straße')
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def composed(text: str) -> str:
    """The text with composed characters: file systems write an umlaut as one character or as two."""
    return unicodedata.normalize("NFC", text)


def find_ids(names: Iterable[str], ids: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Where points stand by their ids, in whatever Unicode composition these are now.

    Args:
        names: that are looked for.
        ids: of all points.

    Returns:
        Positions by name, and the names that are not there, or are there several times but for their composition.

    Example:
        >>> find_ids(["b", "c"], ["a", "b"])
        ({'b': 1}, ['c'])
    """
    now = {name: i for i, name in enumerate(ids)}
    found: dict[str, int] = {}
    gone: list[str] = []
    alike: dict[str, list[int]] = {}
    for name in names:
        written = writable(name)
        if written in now:
            found[name] = now[written]
            continue
        if not alike:
            for own, i in now.items():
                alike.setdefault(composed(own), []).append(i)
        places = alike.get(composed(written), [])
        if len(places) == 1:
            found[name] = places[0]
        else:
            gone.append(name)
    return found, gone
