"""Values as JSON knows them, and as words."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["stable_repr", "to_jsonable"]


def to_jsonable(value: Any) -> Any:
    """The value in types that JSON knows, with null for NaN and infinity, which it does not.

    Args:
        value: numbers, text, arrays, dataclasses, named tuples, and mappings and sequences of them.

    Example:
        >>> to_jsonable({"scores": np.array([0.5, np.nan]), "n": np.int64(2)})
        {'scores': [0.5, None], 'n': 2}
    """
    if isinstance(value, np.ndarray | np.generic):
        return to_jsonable(value.tolist())
    if dataclasses.is_dataclass(value):
        return {field.name: to_jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return to_jsonable(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def stable_repr(value: Any) -> str:
    """What `repr` says, without addresses: another process has other ones.

    Example:
        >>> stable_repr([abs, stable_repr])
        '[<built-in function abs>, <function stable_repr>]'
    """
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
