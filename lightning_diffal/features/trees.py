"""Tensors inside batches, arguments and outputs: found, replaced, compared, whatever holds them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_diffal.data.items import items_agree

__all__ = ["differing", "fields_of", "mapped", "tensors_of", "without"]

Path = tuple[Any, ...]


def fields_of(value: Any) -> dict[Any, Any] | None:
    """What a container holds: by key, by name where it has names, else by position; `None` for anything else.

    Example:
        >>> fields_of({"x": 1}), fields_of([5]), fields_of("text") is None
        ({'x': 1}, {0: 5}, True)
    """
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "_asdict"):
        return dict(value._asdict())
    if isinstance(value, tuple | list):
        return dict(enumerate(value))
    if isinstance(value, Tensor | str | bytes | int | float | type) or value is None:
        return None
    keys = getattr(value, "keys", None)
    if callable(keys):  # batches of PyTorch Geometric
        return {key: value[key] for key in keys()}
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def tensors_of(value: Any) -> Iterator[Tensor]:
    """All tensors in a value, in order, however deep.

    Example:
        >>> [tensor.item() for tensor in tensors_of(({"x": torch.tensor(1)}, [torch.tensor(2), "text"]))]
        [1, 2]
    """
    if isinstance(value, Tensor):
        yield value
        return
    for child in (fields_of(value) or {}).values():
        yield from tensors_of(child)


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same containers around changed tensors, visited in the order of `tensors_of`; other objects as they are.

    Example:
        >>> mapped([torch.tensor(1), {"x": torch.tensor(2)}, "text"], lambda tensor: tensor * 10)
        [tensor(10), {'x': tensor(20)}, 'text']
    """
    if isinstance(value, Tensor):
        return change(value)
    if hasattr(value, "_asdict"):
        return type(value)(*(mapped(child, change) for child in value))
    if isinstance(value, tuple | list):
        return type(value)(mapped(child, change) for child in value)
    if isinstance(value, Mapping):
        changed: Any = copy.copy(value)
        for key in list(value):
            changed[key] = mapped(value[key], change)
        return changed
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(changed, field.name, mapped(getattr(value, field.name), change))
        return changed
    return value


def differing(first: Any, second: Any) -> list[Path]:
    """Where two values of the same structure hold something else.

    Example:
        >>> differing([torch.zeros(2), {"y": 0}], [torch.zeros(2), {"y": 1}])
        [(1, 'y')]
    """
    one, other = fields_of(first), fields_of(second)
    if one is None or other is None or one.keys() != other.keys():
        return [] if _same(first, second) else [()]
    return [(key, *rest) for key in one for rest in differing(one[key], other[key])]


def without(value: Any, paths: list[Path]) -> Any:
    """A copy of a batch that lacks what is at these paths. Objects whose fields cannot be left out stay as they are.

    Example:
        >>> without(["images", "labels"], [(1,)]), without({"x": 1, "y": 2}, [("y",)])
        (('images',), {'x': 1})
        >>> without(["images", {"y": 2}], [(1, "y")])
        ('images',)
    """
    fields = fields_of(value)
    if not paths or fields is None or () in paths:
        return value
    left: dict[Any, Any] = {}
    for key, child in fields.items():
        below = [path[1:] for path in paths if path[0] == key]
        kept = without(child, [path for path in below if path])
        emptied = bool(below) and isinstance(kept, Mapping | tuple | list) and not len(kept)
        if () not in below and not emptied:
            left[key] = kept
    if isinstance(value, Mapping):
        changed: Any = copy.copy(value) if hasattr(value, "__delitem__") else dict(value)
        for key in list(value):
            if key in left:
                changed[key] = left[key]
            else:
                del changed[key]
        return changed
    return left if hasattr(value, "_asdict") else tuple(left.values()) if isinstance(value, tuple | list) else value


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and first.dtype == second.dtype and torch.equal(first, second)
    return items_agree(first, second)
