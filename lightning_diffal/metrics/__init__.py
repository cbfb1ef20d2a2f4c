"""Measures of an active learning run: pure functions on arrays, and a `torchmetrics.Metric` over each.

Where nothing was given, a value is `nan`; a score that is never reached is `None` (`nan` in the metric classes).
"""

from lightning_diffal.metrics.functional import (
    area_under_learning_curve,
    class_balance,
    exploration_share,
    labels_to_reach,
)
from lightning_diffal.metrics.modular import (
    AreaUnderLearningCurve,
    ExplorationShare,
    LabelEfficiency,
    QueryClassBalance,
)
from lightning_diffal.metrics.savings import Curve, LabelsSaved, labels_saved

__all__ = [
    "AreaUnderLearningCurve",
    "Curve",
    "ExplorationShare",
    "LabelEfficiency",
    "LabelsSaved",
    "QueryClassBalance",
    "area_under_learning_curve",
    "class_balance",
    "exploration_share",
    "labels_saved",
    "labels_to_reach",
]
