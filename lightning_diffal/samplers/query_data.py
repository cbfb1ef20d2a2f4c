"""What a sampler sees: `QueryData`, checked before any sampler looks at it.

Everything here is numpy: samplers work without Lightning and without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError, FeatureError, InvalidIndexError, InvalidLabelError
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.matrices import float32_rows
from lightning_diffal.utils.numeric.rows import read_when_needed

__all__ = ["QueryData"]


@dataclass(frozen=True, eq=False)
class QueryData:
    """Everything that a sampler may know. Rows are positions in the full training data set.

    It carries no label of an unlabelled point, so no sampler can cheat. Arrays are read-only;
    torch tensors (of any device and floating type) are accepted and copied to numpy.

    Args:
        features: `(N, D)` penultimate-layer features of all points, or `None` where the sampler asks for none.
        probabilities: `(N, C)` class probabilities of the current model (for multi-label targets each label's own), or
            `None`.
        labelled: `(L,)` indices whose label is known. No order is assumed.
        labels: `(L,)` classes of `labelled`, or `(L, C)` zeros and ones for multi-label targets.
        candidates: `(M,)` indices that may be asked. `None`: every point neither labelled nor pending.
        pending: `(Q,)` indices that were asked earlier and are not answered yet.
        num_classes: number of classes. `None`: read from `probabilities`, else from `labels`.
        num_points: `N`; needed only where no array with a row per point is given.
        mc_probabilities: `(N, C + 1)` what Monte-Carlo dropout gave: the probabilities averaged over its passes and, in
            the last column, the average entropy of one pass (for multi-label targets the mean over the labels); or
            `None`. `(T, N, C)` is never held.

    Raises:
        InvalidIndexError: an index out of range, twice in one list or in two lists.
        InvalidLabelError: labels not aligned with `labelled`, not integers, or out of range.
        FeatureError: features or probabilities with NaN or infinite values; the rows are named.

    Example:
        >>> data = QueryData(features=np.eye(4), labelled=[2], labels=[0], num_classes=2)
        >>> data.candidates
        array([0, 1, 3])
    """

    features: FloatArray | None = None
    probabilities: FloatArray | None = None
    labelled: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    labels: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    candidates: IntArray = None  # type: ignore[assignment]  # filled in below
    pending: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    num_classes: int = None  # type: ignore[assignment]  # filled in below
    num_points: int = None  # type: ignore[assignment]  # filled in below
    mc_probabilities: FloatArray | None = None

    def __post_init__(self) -> None:
        features = _float_matrix("features", self.features)
        probabilities = _float_matrix("probabilities", self.probabilities)
        mc_probabilities = _float_matrix("mc_probabilities", self.mc_probabilities)
        num_points = self._count_points(
            {"features": features, "probabilities": probabilities, "mc_probabilities": mc_probabilities}
        )
        labelled = _indices("labelled", self.labelled, num_points)
        pending = _indices("pending", self.pending, num_points)
        taken = np.zeros(num_points, dtype=bool)
        taken[labelled] = True
        if taken[pending].any():
            raise InvalidIndexError(
                "Expected argument `pending` to hold no labelled point, "
                f"but got {pending[taken[pending]][:5].tolist()}."
            )
        taken[pending] = True
        if self.candidates is None:
            candidates = np.flatnonzero(~taken).astype(np.int64)
        else:
            candidates = _indices("candidates", self.candidates, num_points)
            if taken[candidates].any():
                raise InvalidIndexError(
                    "Expected argument `candidates` to hold neither labelled nor pending points, "
                    f"but got {candidates[taken[candidates]][:5].tolist()}."
                )
        labels = _label_array(self.labels, len(labelled))
        num_classes = self._count_classes(labels, probabilities, mc_probabilities)
        _check_label_range(labels, num_classes)
        for name, value in {
            "features": features,
            "probabilities": probabilities,
            "mc_probabilities": mc_probabilities,
            "labelled": labelled,
            "labels": labels,
            "candidates": candidates,
            "pending": pending,
        }.items():
            if value is not None and not read_when_needed(value):
                value = value.view()
                value.flags.writeable = False
            object.__setattr__(self, name, value)
        object.__setattr__(self, "num_classes", num_classes)
        object.__setattr__(self, "num_points", num_points)

    @property
    def is_multilabel(self) -> bool:
        """Whether a point may hold several labels at once."""
        return self.labels.ndim == 2

    def _count_points(self, arrays: Mapping[str, FloatArray | None]) -> int:
        sizes = {name: len(value) for name, value in arrays.items() if value is not None}
        if self.num_points is not None:
            sizes["num_points"] = int(self.num_points)
        if not sizes:
            raise ConfigurationError("Expected one of `features`, `probabilities` or `num_points`, but got none.")
        if len(set(sizes.values())) > 1:
            raise ConfigurationError(f"Expected one row per point of the data set everywhere, but got {sizes}.")
        return next(iter(sizes.values()))

    def _count_classes(
        self, labels: IntArray, probabilities: FloatArray | None, mc_probabilities: FloatArray | None
    ) -> int:
        if self.num_classes:
            return int(self.num_classes)
        if probabilities is not None:
            return int(probabilities.shape[1])
        if mc_probabilities is not None:
            return int(mc_probabilities.shape[1]) - 1
        if labels.ndim == 2:
            return int(labels.shape[1])
        return int(labels.max()) + 1 if len(labels) else 0


def _to_numpy(value: Any) -> npt.NDArray[Any]:
    """A torch tensor of any device and type, or anything array-like, as numpy."""
    if hasattr(value, "detach"):  # duck typing keeps torch out of this module
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    return np.asarray(value)


def _float_matrix(name: str, value: Any) -> FloatArray | None:
    if value is None:
        return None
    if read_when_needed(value):
        lazy: FloatArray = value
        return lazy  # the search refuses what is not finite
    matrix = _to_numpy(value)
    if matrix.ndim != 2:
        raise ConfigurationError(f"Expected argument `{name}` to have two dimensions, but got shape {matrix.shape}.")
    matrix, rows = float32_rows(matrix)
    if len(rows):
        raise FeatureError(
            f"Expected argument `{name}` to be finite, but {len(rows)} of {len(matrix)} rows hold NaN or infinity, "
            f"the first at data set indices {rows[:5].tolist()}. "
            "Check these inputs, the learning rate and the precision."
        )
    return matrix


def _indices(name: str, value: Any, num_points: int) -> IntArray:
    array = _to_numpy(value).reshape(-1)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise InvalidIndexError(f"Expected argument `{name}` to hold integer indices, but got {array.dtype}.")
    array = array.astype(np.int64, copy=False)
    if array.size and (array.min() < 0 or array.max() >= num_points):
        wrong = array[(array < 0) | (array >= num_points)]
        raise InvalidIndexError(
            f"Expected argument `{name}` to hold positions in a data set of {num_points} points, "
            f"but got {wrong[:5].tolist()}."
        )
    if len(np.unique(array)) != len(array):
        raise InvalidIndexError(f"Expected argument `{name}` to hold each index once, but got duplicates.")
    return array


def _label_array(value: Any, n_labelled: int) -> IntArray:
    labels = _to_numpy(value)
    if len(labels) != n_labelled:
        raise InvalidLabelError(
            f"Expected argument `labels` to hold one row per labelled point ({n_labelled}), but got {len(labels)}."
        )
    if labels.ndim not in (1, 2):
        raise InvalidLabelError(f"Expected argument `labels` of shape (L,) or (L, C), but got {labels.shape}.")
    if labels.size and not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
        raise InvalidLabelError(
            f"Expected argument `labels` to hold classes (integers), but got {labels.dtype}. Regression targets are "
            "not supported: give classes, or zeros and ones for multi-label targets."
        )
    return labels.astype(np.int64, copy=False)


def _check_label_range(labels: IntArray, num_classes: int) -> None:
    if not labels.size:
        return
    if labels.ndim == 2:
        if labels.shape[1] != num_classes or not np.isin(labels, (0, 1)).all():
            raise InvalidLabelError(f"Expected multi-label `labels`: (L, {num_classes}) zeros and ones.")
    elif labels.min() < 0 or labels.max() >= num_classes:
        wrong = np.unique(labels[(labels < 0) | (labels >= num_classes)])
        raise InvalidLabelError(f"Expected `labels` between 0 and {num_classes - 1}, but got {wrong[:5].tolist()}.")
