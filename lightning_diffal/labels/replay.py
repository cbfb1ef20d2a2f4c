"""Events of an earlier process, applied to a pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_diffal.labels.events import positions_of
from lightning_diffal.labels.plain import label_from_plain
from lightning_diffal.labels.pool import LabelledPool

__all__ = ["replay"]


def replay(pool: LabelledPool, event: Mapping[str, Any]) -> None:
    """Apply what an observer of the pool was told in an earlier process, without telling it again."""
    chosen, observer = positions_of(event, pool.ids), pool.observer
    pool.observer = None
    try:
        if event["kind"] == "skip":
            pool.skip(chosen)
            return
        labels = list(map(label_from_plain, event["labels"]))
        if event["kind"] == "answer":
            pool.label(chosen, labels, event["round"])
        else:
            pool.correct(chosen, labels)
    finally:
        pool.observer = observer
