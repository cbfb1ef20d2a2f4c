"""Two learning curves compared by the labels that each needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.metrics.functional import labels_to_reach, learning_curve

__all__ = ["Curve", "LabelsSaved", "labels_saved"]

Curve = tuple[Any, Any]
"""`(R,)` label counts and `(R,)` scores, as `History.curve` gives them."""


@dataclass(frozen=True)
class LabelsSaved:
    """What two learning curves need for one score. Made by `labels_saved`.

    Args:
        target: the score compared at.
        ours: labels that our curve needs for it; `None` where it never gets there.
        baseline: labels that the baseline needs for it; `None` where it never gets there.
        ours_last: labels at the end of our curve.
        baseline_last: labels at the end of the baseline's curve.

    Example:
        >>> LabelsSaved(target=0.9, ours=60, baseline=120, ours_last=160, baseline_last=160).saved
        60
    """

    target: float
    ours: float | None
    baseline: float | None
    ours_last: float
    baseline_last: float

    @property
    def saved(self) -> float | None:
        """Labels saved; negative where the baseline needs fewer, `None` where one side never gets there."""
        return None if self.ours is None or self.baseline is None else self.baseline - self.ours

    def sentence(self, ours: str = "diffusion", baseline: str = "random", score: str = "accuracy") -> str:
        """Say it in words, whoever is ahead.

        Args:
            ours: name of our curve.
            baseline: name of the baseline.
            score: name of the score; its value follows in per cent.

        Returns:
            One sentence without a full stop.

        Example:
            >>> LabelsSaved(target=0.9, ours=60, baseline=120, ours_last=160, baseline_last=160).sentence()
            'random needs 120 labels for what diffusion reaches with 60: 90.0% accuracy'
        """
        level = f"{self.target:.1%} {score}"
        if self.ours is None and self.baseline is None:
            return f"neither {ours} ({self.ours_last:g} labels) nor {baseline} ({self.baseline_last:g}) reaches {level}"
        if self.baseline is None:
            return f"{ours} reaches {level} with {self.ours:g} labels; {baseline} does not with {self.baseline_last:g}"
        if self.ours is None:
            return f"{baseline} reaches {level} with {self.baseline:g} labels; {ours} does not with {self.ours_last:g}"
        if self.ours == self.baseline:
            return f"{baseline} and {ours} both need {self.ours:g} labels for {level}"
        if self.ours < self.baseline:
            return f"{baseline} needs {self.baseline:g} labels for what {ours} reaches with {self.ours:g}: {level}"
        return f"{ours} needs {self.ours:g} labels for what {baseline} reaches with {self.baseline:g}: {level}"


def labels_saved(
    ours: Curve, baseline: Curve, *, target: float | None = None, interpolate: bool = False
) -> LabelsSaved:
    """Compare two learning curves by the labels that each needs for the same score.

    Without `target` the highest score that *both* curves reach is taken: it depends on nobody's choice, and it is the
    score at which a baseline that ends below us has spent what it had. Each side counts from the first measurement at
    or above the score, so an upward slip of noise helps both alike; give mean curves over seeds to have little of it.

    Args:
        ours: `(R,)` label counts and `(R,)` scores of our curve.
        baseline: the same of the curve to compare with; its label counts may differ.
        target: the score to compare at.
        interpolate: as in `labels_to_reach`.

    Returns:
        The score and what each side needs for it.

    Raises:
        ConfigurationError: a curve that is empty, or as for `area_under_learning_curve`.

    Example:
        >>> saved = labels_saved(([10, 20, 30], [0.5, 0.8, 0.9]), ([10, 20, 30], [0.5, 0.6, 0.75]))
        >>> saved.target, saved.ours, saved.baseline, saved.saved
        (0.75, 20.0, 30.0, 10.0)
    """
    ours_counts, ours_scores = learning_curve(*ours)
    base_counts, base_scores = learning_curve(*baseline)
    if not len(ours_counts) or not len(base_counts):
        raise ConfigurationError("Expected two learning curves with at least one measurement each, but got none.")
    level = float(min(ours_scores.max(), base_scores.max())) if target is None else float(target)
    return LabelsSaved(
        target=level,
        ours=labels_to_reach(ours_counts, ours_scores, level, interpolate=interpolate),
        baseline=labels_to_reach(base_counts, base_scores, level, interpolate=interpolate),
        ours_last=float(ours_counts[-1]),
        baseline_last=float(base_counts[-1]),
    )
