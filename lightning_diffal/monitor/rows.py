"""What a round sends to loggers: one row, with the number of labels in it."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lightning_diffal.history.history import RoundRecord
from lightning_diffal.labels.pool import LabelledPool
from lightning_diffal.samplers.base import QuerySampler

__all__ = ["MOST_CLASSES", "PREFIX", "ROUND", "class_counts", "class_tags", "describe_sampler", "round_row"]

PREFIX = "active/"
"""Of every name that the run itself logs."""

ROUND = "round/"
"""Of what the model logged, as it stood when a round ended."""

MOST_CLASSES = 50
"""More classes than this have no tag each, only their balance."""


def round_row(
    record: RoundRecord,
    asked: RoundRecord | None,
    pool: LabelledPool,
    num_classes: int | None,
    class_names: Sequence[str] | None = None,
) -> dict[str, float]:
    """One row: what a round learned, from how many labels, and how the query went that brought the newest of them.

    Args:
        record: of the round that has ended.
        asked: of the round before it, whose query brought the labels that are new here; `None` for the first.
        pool: who is labelled now.
        num_classes: how many classes there are; `None` where nobody knows.
        class_names: names of the classes.

    Returns:
        Numbers by the names of `docs/reference/log-names.md`.

    Example:
        >>> pool = LabelledPool(5)
        >>> pool.label([0, 3], [0, 1], round_=0)
        >>> record = RoundRecord(0, 1, labelled=[0, 3], metrics={"val_acc": 0.5})
        >>> row = round_row(record, None, pool, 2, ["cat", "dog"])
        >>> row["active/n_labelled"], row["round/val_acc"], row["active/labels/dog"]
        (2.0, 0.5, 1.0)
    """
    row = {"round": record.round, "n_labelled": record.n_labelled, "n_pool": len(pool.pool_indices)}
    query = None if asked is None else asked.query
    points = [] if query is None else query.indices.tolist()
    labelled, skipped = set(pool.labelled_indices.tolist()), set(pool.skipped_indices.tolist())
    values: dict[str, float] = {
        **row,
        "asked": len(points),
        "answered": sum(1 for index in points if index in labelled),
        "skipped": sum(1 for index in points if index in skipped),
        "pending": len(pool.pending_indices),
        **({} if query is None else query.summary),
        **{f"seconds/{part}": spent for part, spent in {**_between(asked), **record.seconds}.items()},
        **_balance(pool, num_classes, class_names),
    }
    own = {name: value for name, value in record.metrics.items() if name.startswith(PREFIX)}
    learned = {f"{ROUND}{name}": value for name, value in record.metrics.items() if name not in own}
    numbers = {**{f"{PREFIX}{name}": value for name, value in values.items()}, **own, **learned}
    return {name: float(value) for name, value in numbers.items()}


def _between(asked: RoundRecord | None) -> dict[str, float]:
    """Seconds of the query before a round; its training belongs to the row before."""
    seconds = {} if asked is None else asked.seconds
    return {part: spent for part, spent in seconds.items() if part not in ("fit", "evaluate")}


def class_counts(pool: LabelledPool, num_classes: int) -> list[int]:
    """How many labels of each class are known.

    Args:
        pool: who is labelled.
        num_classes: `C`.

    Returns:
        `C` counts; a point with several labels counts for each.
    """
    counts = np.zeros(num_classes, dtype=np.int64)
    for label in pool.labels_of(pool.labelled_indices).values():
        classes = np.flatnonzero(label) if isinstance(label, tuple) else [label]
        for number in classes:
            if number < num_classes:
                counts[number] += 1
    return [int(count) for count in counts]


def _balance(pool: LabelledPool, num_classes: int | None, class_names: Sequence[str] | None) -> dict[str, float]:
    """Labels of each class, and how even they are: entropy over its largest value, 1 where all are equally many."""
    if not num_classes:
        return {}
    counts = np.array(class_counts(pool, num_classes), dtype=np.float64)
    found: dict[str, float] = {}
    if num_classes <= MOST_CLASSES:
        found = {f"labels/{tag}": n for tag, n in zip(class_tags(num_classes, class_names), counts, strict=True)}
    if num_classes > 1 and counts.sum():
        shares = counts[counts > 0] / counts.sum()
        found["class_balance"] = float(-(shares * np.log(shares)).sum() / math.log(num_classes))
    return found


def class_tags(num_classes: int, class_names: Sequence[str] | None) -> list[str]:
    """Names of the classes that every logger takes: letters of ASCII, digits, `_`, `-` and `.`; else their numbers.

    Args:
        num_classes: `C`.
        class_names: names of the classes.

    Example:
        >>> class_tags(3, ["polar bear", "große Katze", "dog"])
        ['polar_bear', '1', 'dog']
    """
    names = [str(name).replace(" ", "_") for name in class_names or ()]
    usable = [bool(re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name)) and names.count(name) == 1 for name in names]
    return [names[c] if c < len(names) and usable[c] else str(c) for c in range(num_classes)]


def describe_sampler(sampler: QuerySampler) -> dict[str, Any]:
    """A sampler and its arguments, as far as they are kept under their names.

    Args:
        sampler: any.

    Example:
        >>> from lightning_diffal.samplers import TypiClustSampler
        >>> describe_sampler(TypiClustSampler())["sampler"]
        'TypiClustSampler'
    """
    names = list(inspect.signature(type(sampler).__init__).parameters)[1:]
    given: Mapping[str, Any] = {name: getattr(sampler, name) for name in names if hasattr(sampler, name)}
    return {"sampler": type(sampler).__name__, **{f"sampler/{name}": _plain(value) for name, value in given.items()}}


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) or value is None else repr(value)[:200]
