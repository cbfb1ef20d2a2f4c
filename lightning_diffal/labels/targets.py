"""Labels as values, and the place where they sit in an item of a data set."""

from __future__ import annotations

import copy
import dataclasses
import reprlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from lightning_diffal.exceptions import InvalidLabelError
from lightning_diffal.labels.class_names import tidy

__all__ = [
    "LABEL_KEYS",
    "MISSING",
    "Label",
    "Target",
    "parse_label",
    "read_target",
    "with_placeholder",
    "with_target",
    "without_target",
]

Label = int | tuple[int, ...]
"""A class, or zeros and ones for each class of a multi-label target."""
Target = int | str
"""Position of the label in a tuple; key, field or attribute that holds it; or `"auto"`."""

MISSING: Final = object()
"""What `read_target` gives for an item that holds no label."""

LABEL_KEYS = ("label", "labels", "target", "targets", "y")
"""What `"auto"` looks for among keys, fields and attributes, in this order."""

_MODEL_INPUTS = ("input_ids", "inputs_embeds", "input_features", "input_values", "pixel_values")
_LARGEST = np.iinfo(np.int64).max


def parse_label(value: Any, num_classes: int | None = None, class_names: Sequence[str] | None = None) -> Label:
    """A label as an integer class, or as a tuple of zeros and ones for a multi-label target.

    Args:
        value: an integer, a class name, an array or tensor holding one integer, or a vector of zeros and ones.
            Booleans are what binary losses take, and whole floats what data frames make of classes beside a gap, so
            they are classes too.
        num_classes: where known, the label must fit it.
        class_names: names of the classes, where labels may be given by name.

    Raises:
        InvalidLabelError: anything else.

    Example:
        >>> parse_label(np.int64(3)), parse_label("cat", class_names=["dog", "cat"]), parse_label([1.0, 0.0, 1.0])
        (3, 1, (1, 0, 1))
    """
    if isinstance(value, str):
        if class_names is None or value not in class_names:
            alike = [i for i, name in enumerate(class_names or ()) if tidy(str(name)) == tidy(value)]
            if len(alike) == 1:
                return alike[0]
            known = "no `class_names` are given" if class_names is None else f"the classes are {list(class_names)}"
            raise InvalidLabelError(f"Expected a label to be an integer class, but got {value!r}, and {known}.")
        return list(class_names).index(value)
    single: Any
    if type(value) is int and value.bit_length() < 64:
        single = value
    elif isinstance(value, torch.Tensor) and value.dtype is torch.int64 and not value.ndim:
        single = value.item()  # by far the commonest, in every item of a batch
    else:
        array = _numbers(value)
        if array.size > 1:
            return _parse_vector(array, num_classes)
        single = array.reshape(()).item()  # a class may be wrapped in one dimension
    if isinstance(single, float) and not single.is_integer():
        raise InvalidLabelError(
            f"Expected a label to be an integer class, but got {single!r}. Regression targets are not supported."
        )
    label = int(single)
    top = _LARGEST if num_classes is None else num_classes - 1
    if not 0 <= label <= top:
        bound = "" if num_classes is None else f" and at most {top}"
        raise InvalidLabelError(f"Expected a label to be at least 0{bound}, but got {label}.")
    return label


def _numbers(value: Any) -> npt.NDArray[Any]:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float().numpy() if value.is_floating_point() else value.numpy()
    try:
        array = np.asarray(value)
    except ValueError:  # nested lists of different lengths
        array = None
    if array is None or array.dtype.kind not in "iubf" or array.ndim > 1 or array.size == 0:
        raise InvalidLabelError(
            "Expected a label to be an integer class or a vector of zeros and ones, "
            f"but got {reprlib.repr(value)} of type {type(value).__name__}."
        )
    return array


def _parse_vector(array: npt.NDArray[Any], num_classes: int | None) -> Label:
    if not np.isin(array, (0, 1)).all():
        raise InvalidLabelError(f"Expected a multi-label target to hold zeros and ones, but got {array[:10].tolist()}.")
    if num_classes is not None and array.size != num_classes:
        raise InvalidLabelError(
            f"Expected a multi-label target to hold {num_classes} zeros and ones, but got {array.size}."
        )
    return tuple(int(v) for v in array)


def read_target(item: Any, target: Target = "auto") -> Any:
    """The label that an item of the data set holds, as it is, or `MISSING`.

    Args:
        item: `(x, y)`, `(x, ..., y)`, `(x,)`, `x`, a dict, a named tuple, or an object with attributes.
        target: where the label sits. `"auto"`: the first of the keys, fields or attributes `label`, `labels`,
            `target`, `targets`, `y`, else the last of two or more.

    Example:
        >>> read_target(("image", 3)), read_target({"x": "image", "label": 3})
        (3, 3)
        >>> read_target("image") is MISSING
        True
    """
    place = _place(item, target)
    return MISSING if place is None else _get(item, place)


def with_target(item: Any, label: Label, target: Target = "auto", class_names: Sequence[str] | None = None) -> Any:
    """The item with this label in it, in the type that its own label has.

    Args:
        item: an item of the data set; it is not changed.
        label: the label to put in.
        target: where it belongs. An item without any label becomes `(x, label)`, or gets the key; with `"auto"` that is
            `label`, and `labels` beside `input_ids` and what else models of Hugging Face take, since they take it too.
        class_names: for items that hold their labels by name.

    Example:
        >>> with_target(("image", torch.tensor(0)), 3), with_target("image", 3), with_target({"x": 1.0}, 3)
        (('image', tensor(3)), ('image', 3), {'x': 1.0, 'label': 3})
    """
    place = _place(item, target)
    if isinstance(item, Mapping):
        key = _new_key(item, target) if place is None else place
        return _put(item, key, _like(item.get(key), label, class_names))
    if place is None:
        rest = tuple(item) if isinstance(item, tuple | list) else (item,)
        return (*rest, _like(None, label, class_names))
    return _put(item, place, _like(read_target(item, target), label, class_names))


def with_placeholder(
    item: Any,
    label: Label,
    target: Target = "auto",
    class_names: Sequence[str] | None = None,
    word: Callable[[], str] | None = None,
) -> Any:
    """The item with the same stand-in for a label as all others, whatever its own label is, known or not.

    Args:
        item: an item of the data set; it is not changed.
        label: the stand-in: a class, or zeros and ones for each class. Where the item holds a vector, a class is
            repeated to its length, so that items go through a collate function as they would with their own labels.
        target: where an item holds its label.
        class_names: for items that hold their labels by name.
        word: gives what stands in for labels that are words without `class_names`.

    Example:
        >>> with_placeholder(("image", torch.tensor([0.0, 1.0])), 0)
        ('image', tensor([0., 0.]))
        >>> with_placeholder({"x": 1.0, "y": 3}, 0), with_placeholder("image", 0)
        ({'x': 1.0, 'y': 0}, ('image', 0))
    """
    place = _place(item, target)  # looked for once: every item of the data set comes by here in every round
    if place is None:
        return with_target(item, label, target, class_names)
    own = _get(item, place)
    if isinstance(own, str):
        return _put(item, place, word() if class_names is None and word is not None else _like(own, label, class_names))
    size = own.numel() if isinstance(own, torch.Tensor) else 1 if own is None else int(np.prod(np.shape(own)))
    if size > 1 and not isinstance(label, tuple):
        label = (label,) * size
    return _put(item, place, _like(own, label, class_names))


def without_target(batch: Any, target: Target = "auto") -> Any:
    """A batch without its label: what `forward` takes.

    Args:
        batch: as the loader gives it.
        target: where the label sits in an item. A batch keeps the same places; where a collate function made a
            dict of tuples or the other way round, the label is looked for as with `"auto"`.

    Returns:
        A dict without the key, a tuple of what is left, a copy of an object whose attribute is `None`, or the batch
        itself where it holds no label.

    Example:
        >>> without_target(["images", "labels"]), without_target({"x": "images", "y": "labels"})
        (('images',), {'x': 'images'})
    """
    place = _place(batch, target)
    if place is None and isinstance(batch, Mapping) != isinstance(target, str):  # a position, and the batch has keys
        place = _place(batch, "auto")
    if isinstance(batch, Mapping):
        rest = _own_copy(batch)
        if place is not None:
            del rest[place]
        return rest
    if place is None:
        return batch
    if not isinstance(batch, tuple | list):
        return _put(batch, place, None)
    position = int(place) % len(batch)
    return tuple(value for i, value in enumerate(batch) if i != position)


def _place(item: Any, target: Target) -> Any:
    if type(item) is tuple or type(item) is list:  # by far the commonest, and without names to look for
        return _position(len(item), target)
    if isinstance(item, Mapping) and not isinstance(target, str):
        return target if target in item else None
    keys = LABEL_KEYS if target == "auto" else (target,) if isinstance(target, str) else ()
    if isinstance(item, Mapping):
        return next((key for key in keys if key in item), None)
    if not isinstance(item, tuple | list):
        return next((key for key in keys if hasattr(item, key)), None)
    fields: tuple[str, ...] = getattr(item, "_fields", ())
    named = next((fields.index(key) for key in keys if key in fields), None)
    if named is not None:
        return named
    return _position(len(item), target)


def _position(size: int, target: Target) -> int | None:
    if target == "auto":
        return size - 1 if size >= 2 else None
    return None if isinstance(target, str) or not -size <= target < size else target


def _get(item: Any, place: Any) -> Any:
    return item[place] if isinstance(item, tuple | list | Mapping) else getattr(item, place)


def _put(item: Any, place: Any, value: Any) -> Any:
    """A copy of the item that holds a value in this place."""
    if type(item) is tuple:
        place %= len(item)
        return (*item[:place], value, *item[place + 1 :])
    if isinstance(item, Mapping):
        changed = _own_copy(item)
        changed[place] = value
        return changed
    if not isinstance(item, tuple | list):
        return _with_attribute(item, place, value)
    values = list(item)
    values[int(place)] = value
    named: Any = item
    if hasattr(named, "_fields"):
        return named._replace(**dict(zip(named._fields, values, strict=True)))
    return type(item)(values)


def _with_attribute(item: Any, name: str, value: Any) -> Any:
    changed = copy.copy(item)
    try:
        setattr(changed, name, value)
    except AttributeError:  # a frozen dataclass, or a property
        if not dataclasses.is_dataclass(item) or isinstance(item, type):
            raise InvalidLabelError(
                f"Expected an item of type {type(item).__name__} to let its label be set, but its attribute {name!r} "
                "cannot be: give `target`, or items that hold their label elsewhere."
            ) from None
        changed = dataclasses.replace(item, **{name: value})
    return changed


def _new_key(item: Mapping[Any, Any], target: Target) -> str:
    if isinstance(target, str) and target != "auto":
        return target
    return "labels" if any(name in item for name in _MODEL_INPUTS) else "label"


def _own_copy(item: Mapping[Any, Any]) -> MutableMapping[Any, Any]:
    """A shallow copy that may be changed, of the same kind: a tokenizer's output is more than its keys."""
    return copy.copy(item) if isinstance(item, MutableMapping) else dict(item)


def _like(own: Any, label: Label, class_names: Sequence[str] | None) -> Any:
    """The label in the type and shape of the one that it replaces."""
    if isinstance(own, torch.Tensor):
        if isinstance(label, int) and own.numel() == 1:
            return torch.full_like(own, label)  # the same in one call; every item comes by here in every round
        shape = own.shape if own.numel() == np.size(label) else np.shape(label)
        return torch.tensor(label, dtype=own.dtype, device=own.device).reshape(shape)
    if isinstance(own, np.ndarray):
        return np.asarray(label, dtype=own.dtype).reshape(own.shape if own.size == np.size(label) else np.shape(label))
    if isinstance(own, np.number | np.bool_):
        return np.asarray(label, dtype=own.dtype)[()]
    if isinstance(label, tuple):
        return (
            list(label) if isinstance(own, list) else label if isinstance(own, tuple) else torch.tensor(label).float()
        )
    if isinstance(own, str) and class_names is not None:
        return class_names[label]
    return type(own)(label) if isinstance(own, bool | float) else label
