"""Labels and names of classes that a data set carries beside its items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Subset

from lightning_diffal.exceptions import InvalidLabelError
from lightning_diffal.labels.initial import check_targets
from lightning_diffal.labels.targets import LABEL_KEYS, Target
from lightning_diffal.utils.aliases import IntArray

__all__ = ["own_class_names", "own_targets"]


def own_targets(dataset: Any, n_points: int) -> IntArray | None:
    """The labels of all points, `(N,)` or `(N, C)`, where the data set has them as `targets`; else `None`.

    A data set that changes labels when it reads an item (`target_transform`) shows others there.

    Args:
        dataset: the training data set.
        n_points: its length.

    Example:
        >>> class Images(list):
        ...     targets = [0, 1, 1]
        >>> own_targets(Subset(Images("abc"), [2, 0]), 2)
        array([1, 0])
    """
    positions = np.arange(n_points)
    while isinstance(dataset, Subset):
        positions = np.asarray(dataset.indices, dtype=np.int64)[positions]
        dataset = dataset.dataset
    values = getattr(dataset, "targets", None)
    if values is None or callable(values) or getattr(dataset, "target_transform", None) is not None:
        return None
    try:
        return check_targets(values, len(dataset))[positions]
    except (InvalidLabelError, TypeError, ValueError):  # something else is called so
        return None


def own_class_names(dataset: Any, target: Target = "auto") -> list[str] | None:
    """Names of the classes: `classes` of torchvision's data sets, a `ClassLabel` of Hugging Face's; else `None`.

    Args:
        dataset: the training data set.
        target: where its items hold their label.

    Example:
        >>> class Images(list):
        ...     classes = ["cat", "dog"]
        >>> own_class_names(Images("abc"))
        ['cat', 'dog']
    """
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    names: Any = getattr(dataset, "classes", None)
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        keys = LABEL_KEYS if target == "auto" else (target,)
        names = next((getattr(features[key], "names", None) for key in keys if key in features), names)
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        return None
    return list(names) if names and len(set(names)) == len(names) else None
