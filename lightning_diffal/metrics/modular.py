"""A `torchmetrics.Metric` over each function, for use inside a LightningModule or across processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.metrics.functional import (
    area_under_learning_curve,
    count_classes,
    explored_mask,
    labels_to_reach,
    learning_curve,
    normalised_entropy,
)

__all__ = ["AreaUnderLearningCurve", "ExplorationShare", "LabelEfficiency", "QueryClassBalance"]


class _CurveMetric(Metric):
    """Collects the points of one learning curve, which is the same on every process: nothing to reduce."""

    is_differentiable = False
    higher_is_better: bool | None = True
    full_state_update = False
    n_labelled: list[Tensor]
    scores: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"sync_on_compute": False, **kwargs})
        self.add_state("n_labelled", default=[], dist_reduce_fx="cat")
        self.add_state("scores", default=[], dist_reduce_fx="cat")

    def update(self, n_labelled: float | Tensor, score: float | Tensor) -> None:
        """Add one measurement, or several.

        Args:
            n_labelled: labels held, a number or `(R,)`.
            score: the score reached with them, a number or `(R,)`.
        """
        counts, scores = (torch.as_tensor(v, dtype=torch.float64).detach().reshape(-1) for v in (n_labelled, score))
        learning_curve(counts.cpu(), scores.cpu())
        self.n_labelled.append(counts.to(self.device))
        self.scores.append(scores.to(self.device))

    def _points(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        counts, scores = (
            (torch.cat(s) if isinstance(s, list) and s else torch.as_tensor(s)).double().cpu().numpy()
            for s in (self.n_labelled, self.scores)
        )
        return counts, scores

    def _number(self, value: float | None) -> Tensor:
        return torch.tensor(float("nan") if value is None else value, device=self.device)


class AreaUnderLearningCurve(_CurveMetric):
    """`area_under_learning_curve` of the measurements seen so far.

    Args:
        rule: as in the function.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> metric = AreaUnderLearningCurve()
        >>> for count, score in [(10, 0.5), (20, 0.7), (40, 0.9)]:
        ...     metric.update(count, score)
        >>> metric.compute()
        tensor(0.7333)
    """

    def __init__(self, rule: Literal["trapezoid", "mean"] = "trapezoid", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        area_under_learning_curve([], [], rule=rule)  # refuse a wrong rule now, not at the end of a run
        self.rule = rule

    def compute(self) -> Tensor:
        """The area as a tensor of no dimension."""
        return self._number(area_under_learning_curve(*self._points(), rule=self.rule))


class LabelEfficiency(_CurveMetric):
    """`labels_to_reach` of the measurements seen so far: the labels that the target took, `nan` while out of reach.

    Args:
        target: the score to reach.
        interpolate: as in the function.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> metric = LabelEfficiency(target=0.8)
        >>> for count, score in [(10, 0.5), (20, 0.7), (30, 0.9)]:
        ...     metric.update(count, score)
        >>> metric.compute()
        tensor(30.)
    """

    higher_is_better = False

    def __init__(self, target: float, interpolate: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target = target
        self.interpolate = interpolate

    def compute(self) -> Tensor:
        """The number of labels as a tensor of no dimension."""
        return self._number(labels_to_reach(*self._points(), self.target, interpolate=self.interpolate))


class QueryClassBalance(Metric):
    """`class_balance` over all labels seen so far.

    Args:
        num_classes: `C`.
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> metric = QueryClassBalance(num_classes=3)
        >>> metric.update([0, 1])
        >>> metric.update([2, 2])
        >>> metric.compute()
        tensor(0.9464)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_classes < 1:
            raise ConfigurationError(f"Expected argument `num_classes` to be at least 1, but got {num_classes}.")
        self.num_classes = num_classes
        self.add_state("counts", default=torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, labels: npt.ArrayLike | Tensor) -> None:
        """Add the labels of one query.

        Args:
            labels: `(B,)` or `(B, C)`, as in `class_balance`.
        """
        self.counts += torch.from_numpy(count_classes(labels, self.num_classes)).to(self.device)

    def compute(self) -> Tensor:
        """The balance as a tensor of no dimension."""
        return torch.tensor(normalised_entropy(self.counts.cpu().numpy()), device=self.device)


class ExplorationShare(Metric):
    """`exploration_share` over all queries seen so far.

    Args:
        kwargs: of `torchmetrics.Metric`.

    Example:
        >>> metric = ExplorationShare()
        >>> metric.update(["exploration", "exploration"])
        >>> metric.update(["exploration", "refinement"])
        >>> metric.compute()
        tensor(0.7500)
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    explored: Tensor
    asked: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("explored", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("asked", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, phase: npt.ArrayLike | Sequence[str]) -> None:
        """Add one query.

        Args:
            phase: `(B,)`, as in `exploration_share`.
        """
        explored = explored_mask(phase)
        self.explored += int(explored.sum())
        self.asked += len(explored)

    def compute(self) -> Tensor:
        """The share as a tensor of no dimension."""
        return self.explored / self.asked
