"""Which of the metrics that a run logged says best how good the model is."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["is_better_when_lower", "ranked_metrics"]

_STAGES = (r"test", r"val", r"")
_KINDS = (
    r"(^|[_/ -])(acc|accuracy)",
    r"(f1|f_?beta|dice|iou|jaccard|kappa|mcc)",
    r"(auroc|auc|average_precision|(^|[_/ -])ap$|map$)",
    r"(precision|recall|r2)",
    r"(error|loss|nll|mse|mae|perplexity)",
)
_LOWER = re.compile(r"(error|loss|nll|mse|mae|rmse|perplexity|brier|ece)", re.IGNORECASE)


def ranked_metrics(names: Iterable[str]) -> list[str]:
    """Names of metrics, the most telling first: of the test set before validation, scores before losses.

    Figures of the run itself (`active/...`) and metrics of training come last.

    Args:
        names: as they were logged.

    Example:
        >>> ranked_metrics(["train_loss", "val_loss", "val_acc"])
        ['val_acc', 'val_loss', 'train_loss']
    """

    def rank(name: str) -> tuple[bool, int, int, str]:
        lower = name.lower()
        stage = next(i for i, pattern in enumerate(_STAGES) if re.search(rf"(^|[_/ -]){pattern}", lower))
        if re.search(r"train", lower):
            stage = len(_STAGES)
        kind = next((i for i, pattern in enumerate(_KINDS) if re.search(pattern, lower)), len(_KINDS))
        return name.startswith("active/"), kind == len(_KINDS), stage * 10 + kind, name

    return sorted(names, key=rank)


def is_better_when_lower(name: str) -> bool:
    """Whether a metric falls as a model gets better, by its name.

    Args:
        name: as it was logged.

    Example:
        >>> is_better_when_lower("val_loss"), is_better_when_lower("val_acc")
        (True, False)
    """
    return bool(_LOWER.search(name))
