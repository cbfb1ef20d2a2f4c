"""Whether two reads of one item agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["items_agree"]


def items_agree(first: Any, second: Any) -> bool:
    """Whether two reads of an item hold the same values, as far as that can be told.

    Objects of a kind that has no values to compare count as agreeing: a false alarm would be worse.

    Args:
        first: an item: tensors, arrays, images, numbers, strings, in tuples, lists, dicts or dataclasses.
        second: the same item, read again.

    Example:
        >>> items_agree((torch.zeros(2), "a", 1), (torch.zeros(2), "a", 1)), items_agree({"x": 1.0}, {"x": 1.5})
        (True, False)
    """
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return first.shape == second.shape and items_agree(first.detach().cpu().numpy(), second.detach().cpu().numpy())
    if isinstance(first, str | bytes | int | np.generic):
        return bool(first == second)
    if isinstance(first, float):
        return bool(first == second or (first != first and second != second))
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(items_agree(first[key], second[key]) for key in first)
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return len(first) == len(second) and all(map(items_agree, first, second))
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        return items_agree(vars(first), vars(second))
    if isinstance(first, np.ndarray) or hasattr(first, "__array_interface__"):  # images
        a, b = np.asarray(first), np.asarray(second)
        return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    return True
