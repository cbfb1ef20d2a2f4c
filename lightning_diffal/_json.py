"""Values as JSON knows them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """The value in types that JSON knows, with null for NaN and infinity, which it does not.

    Args:
        value: numbers, text, arrays, dataclasses, named tuples, and mappings and sequences of them.

    Example:
        >>> plain({"scores": np.array([0.5, np.nan]), "n": np.int64(2)})
        {'scores': [0.5, None], 'n': 2}
    """
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
