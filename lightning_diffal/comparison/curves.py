"""The learning curves of a comparison, as its tables and pictures take them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.utils.aliases import IntArray

__all__ = ["FloatArray", "LearningCurves"]

FloatArray = npt.NDArray[np.float64]
"""Scores in double precision."""


@dataclass(frozen=True)
class LearningCurves:
    """Learning curves of samplers over seeds.

    Args:
        metric: name of the score.
        counts: `(R,)` label counts at which it was measured.
        scores: by sampler and seed, `(R,)`.
        results: what the runs left, as it is in their files.
        settings: what all runs have in common.
        title: of tables and pictures.
    """

    metric: str
    counts: IntArray
    scores: dict[str, dict[int, FloatArray]]
    results: list[dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)
    title: str = ""

    @property
    def names(self) -> list[str]:
        """The samplers, in the order they were given in."""
        return list(self.scores)

    @property
    def curves(self) -> dict[str, list[tuple[IntArray, FloatArray]]]:
        """By sampler, one learning curve per seed, as `lightning_diffal.report.learning_curves` takes them."""
        return {name: [(self.counts, values) for values in runs.values()] for name, runs in self.scores.items()}
