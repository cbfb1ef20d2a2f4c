"""Where items hold their label: looked for, compared with known labels, and refused where it is not a class."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from lightning_diffal._lightning import rank_zero_info
from lightning_diffal.exceptions import InvalidLabelError, LabelPlaceError
from lightning_diffal.labels.pool import LabelledPool
from lightning_diffal.labels.targets import LABEL_KEYS, MISSING, Label, Target, parse_label, read_target
from lightning_diffal.utils.seeding import isolated_random_state

__all__ = ["check_label_place", "refuse_other_tasks", "settled_target"]

_COMPARED = 8  # items whose labels are compared with the known ones
_OTHER_TASKS = {
    "boxes": "object detection",
    "bbox": "object detection",
    "bboxes": "object detection",
    "mask": "segmentation",
    "masks": "segmentation",
}


class _Points(Protocol):
    """What is known of the labels: a data module."""

    target: Target
    targets: Any
    class_names: Sequence[str] | None

    @property
    def pool(self) -> LabelledPool: ...


def settled_target(data: _Points, source: Any, item: Any, index: int) -> Target:
    """The place of the label, where `target="auto"` and items are tuples of three fields or more.

    The last field may be a weight, an index or a file name, so it has to be one whose values are the known labels.
    Where none are known, the last field is the label only if it is a class and no other one could be.

    Args:
        data: whose `targets`, or else labels given as `initial_labels`, are known.
        source: the training data set.
        item: one of its items.
        index: its position.

    Raises:
        LabelPlaceError: no field can be told from the others.
    """
    if not _is_ambiguous(item):
        return data.target
    known = _known_labels(data)
    with isolated_random_state():
        items = {i: source[i] for i in known or _spread(len(source))}
    places = range(len(item))
    if known:
        fields = [p for p in places if all(_label_at(items[i], p, data) == label for i, label in known.items())]
        why = "its values are the known labels"
    else:
        fields = [p for p in places if all(_label_at(other, p, data) is not None for other in items.values())]
        why = "no other field could be"
        if fields != [len(item) - 1] or all(_label_at(other, fields[0], data) == i for i, other in items.items()):
            fields = []
    if len(fields) == 1:
        rank_zero_info(f"Labels are field {fields[0]} of each item: {why}.")
        return fields[0]
    shown = "; ".join(f"{place}: {_described(value)}" for place, value in enumerate(item))
    found = "more than one of them holds" if fields else "none of them holds"
    reason = f"{found} the known labels" if known else "more than one of them, or only an inner one, could be the label"
    raise LabelPlaceError(
        f"Item {index} of the training data set has {len(item)} fields ({shown}), and {reason}: say which one is the "
        f"label, for example `ActiveDataModule(target=1)`{'' if known else ', or give all labels as `targets`'}."
    )


def check_label_place(data: _Points, source: Any) -> None:
    """Compare the labels of a few items with the known ones.

    Args:
        data: whose `targets`, or else labels given as `initial_labels`, are known.
        source: the training data set.

    Raises:
        InvalidLabelError: items hold something else than a class, or another class than is known.
    """
    known = _known_labels(data)
    with isolated_random_state():
        items = {index: source[index] for index in known}
        looked_at = list(items.values()) or [source[0]]
    for item in looked_at[:2]:
        refuse_other_tasks(item, data.target)
    own = {index: _label_at(item, data.target, data) for index, item in items.items()}
    own = {index: label for index, label in own.items() if label is not None}
    wrong = [index for index, label in own.items() if label != known[index]]
    is_a_mark = len(own) > 1 and len(set(own.values())) == 1  # the same "label" everywhere stands for none
    if not wrong or is_a_mark or (data.targets is None and (len(wrong) < len(own) or len(own) < 2)):
        return
    whose = "`initial_labels`" if data.targets is None else "`targets`"
    index = wrong[0]
    raise InvalidLabelError(
        f"{whose} and the items of the training data set disagree for {len(wrong)} of {len(own)} points that were "
        f"compared: item {index} holds {own[index]} (`target={data.target!r}`), but {known[index]} was given. If its "
        f"label sits elsewhere, say where with `target`; the item is {_shown(items[index])}. If items hold no labels "
        "of this task, wrap the data set in one that gives items without them."
    )


def refuse_other_tasks(item: Any, target: Target) -> None:
    """Only classes can be asked for, one or several per point.

    Raises:
        InvalidLabelError: the item holds a segmentation mask, boxes, or a regression target.
    """
    own = read_target(item, target)
    other: tuple[str, str] | None = None
    if own is MISSING and isinstance(item, Mapping):
        other = _task_of_keys(item, "items hold {!r} and no label")
    elif isinstance(own, Mapping):
        other = _task_of_keys(own, "the label holds {!r}") or ("object detection", "the label is a dict")
    elif own is not MISSING and own is not None and not isinstance(own, str):
        other = _task_of_values(own)
    if other is not None:
        task, found = other
        raise InvalidLabelError(
            f"{task[0].upper()}{task[1:]} targets are not supported ({found}): a label is one class, or zeros and "
            "ones for several. If items of the training data set hold a class elsewhere, say where with `target`."
        )


def _task_of_keys(holder: Mapping[Any, Any], found: str) -> tuple[str, str] | None:
    key = next((key for key in _OTHER_TASKS if key in holder), None)
    return None if key is None else (_OTHER_TASKS[key], found.format(key))


def _task_of_values(own: Any) -> tuple[str, str] | None:
    if hasattr(own, "getbands"):  # an image of PIL
        return "segmentation", "the label is an image"
    value = own.detach().cpu().float().numpy() if hasattr(own, "detach") else own
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        return None
    if array.dtype.kind not in "iubf":
        return None
    if array.squeeze().ndim > 1:
        return "segmentation and detection", f"the label has shape {array.shape}"
    finite = array[np.isfinite(array)]
    if (finite != np.round(finite)).any():
        return "regression", f"the label is {reprlib.repr(array.tolist())}"
    return None


def _is_ambiguous(item: Any) -> bool:
    if not isinstance(item, tuple | list) or len(item) < 3:
        return False
    return not any(key in getattr(item, "_fields", ()) for key in LABEL_KEYS)


def _spread(n_points: int) -> list[int]:
    positions: list[int] = np.unique(np.linspace(0, n_points - 1, min(_COMPARED, n_points)).astype(int)).tolist()
    return positions


def _known_labels(data: _Points) -> dict[int, Label]:
    """Labels of a few points as the user gave them, spread over the data set; what an oracle said is left out."""
    n_points = len(data.pool)  # also checks and converts `targets`
    if data.targets is not None:
        return {i: parse_label(data.targets[i]) for i in _spread(n_points)}
    labelled = data.pool.labelled_indices
    labelled = labelled[data.pool.rounds_of(labelled) == 0]
    return dict(list(data.pool.labels_of(labelled).items())[:_COMPARED])


def _label_at(item: Any, target: Target, data: _Points) -> Label | None:
    """The class that an item holds there, or `None` for a mark, a word, or what is not a class."""
    value = read_target(item, target)
    if value is MISSING or value is None or (isinstance(value, str) and data.class_names is None):
        return None
    try:
        return parse_label(value, class_names=data.class_names)
    except InvalidLabelError:
        return None


def _shown(item: Any) -> str:
    if isinstance(item, Mapping):
        return "{" + ", ".join(f"{key!r}: {_described(value)}" for key, value in item.items()) + "}"
    if isinstance(item, tuple | list):
        names: Sequence[Any] = getattr(item, "_fields", range(len(item)))
        return "(" + "; ".join(f"{name}: {_described(value)}" for name, value in zip(names, item, strict=True)) + ")"
    return _described(item)


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and len(shape):
        return f"{type(value).__name__} of shape {tuple(shape)}"
    return reprlib.repr(value)
