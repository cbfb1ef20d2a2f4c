"""The record of one round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lightning_diffal.samplers.base import Query, moved_indices
from lightning_diffal.utils.aliases import IntArray

__all__ = ["RoundRecord"]


@dataclass(eq=False)
class RoundRecord:
    """One round: what the model was trained on, how good it was, and what was asked afterwards.

    Args:
        round: counted from 0.
        seed: what the round's training was seeded with; `None` where nothing was seeded.
        labelled: `(L,)` data set indices that were trained on; kept sorted.
        metrics: what was logged, by name.
        query: what was asked after this training; `None` in the last round.
        seconds: how long each part took, by name (for example `"fit"`, `"features"`, `"select"`).
        stop_reason: why the run ended after this round; `None` where it went on.
        classes: how many labels of each class were known, by name or number of the class.

    Example:
        >>> record = RoundRecord(round=0, seed=42, labelled=[7, 3], metrics={"test_acc": 0.5})
        >>> record.n_labelled, record.n_queried, record.labelled
        (2, 0, array([3, 7]))
    """

    round: int
    seed: int | None
    labelled: IntArray
    metrics: dict[str, float] = field(default_factory=dict)
    query: Query | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    stop_reason: str | None = None
    classes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labelled = np.sort(np.asarray(self.labelled, dtype=np.int64).reshape(-1))

    @property
    def n_labelled(self) -> int:
        """How many points were trained on."""
        return len(self.labelled)

    @property
    def n_queried(self) -> int:
        """How many points were asked afterwards."""
        return 0 if self.query is None else len(self.query)

    def move(self, position: Callable[[int], int]) -> None:
        """Follow the points to where they stand in a data set whose order has changed.

        Args:
            position: the present position of each point by its old one.
        """
        self.labelled = np.sort(moved_indices(self.labelled, position))
        if self.query is not None:
            self.query = self.query.moved(position)

    def __repr__(self) -> str:
        metrics = "".join(f", {name}={value:.4g}" for name, value in self.metrics.items())
        ending = f", stop_reason={self.stop_reason!r}" if self.stop_reason else ""
        counts = f"round={self.round}, n_labelled={self.n_labelled}, n_queried={self.n_queried}"
        return f"RoundRecord({counts}{metrics}{ending})"
