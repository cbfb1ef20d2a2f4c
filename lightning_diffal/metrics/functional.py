"""Pure functions that measure an active learning run. Arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lightning_diffal.exceptions import ConfigurationError

__all__ = ["area_under_learning_curve", "class_balance", "exploration_share", "labels_to_reach"]


def area_under_learning_curve(
    n_labelled: npt.ArrayLike, scores: npt.ArrayLike, *, rule: Literal["trapezoid", "mean"] = "trapezoid"
) -> float:
    r"""The mean height of a learning curve.

    .. math:: A = \frac{1}{n_R - n_1} \int_{n_1}^{n_R} s(n) \, dn

    with the score :math:`s` linear between the label counts :math:`n_r` at which it was measured. It is in the unit of
    the score, so curves of different length stay comparable. `rule="mean"` gives the plain mean of the measured
    scores; the two differ in that the trapezoid halves the weight of both ends.

    Args:
        n_labelled: `(R,)` labels held at each measurement, not decreasing.
        scores: `(R,)` scores, higher is better.
        rule: `"trapezoid"` (by labels) or `"mean"` (by rounds).

    Returns:
        The area; the score itself for one measurement, `nan` for none.

    Raises:
        ConfigurationError: different lengths, values that are not finite, or label counts that decrease.

    Example:
        >>> round(area_under_learning_curve([10, 20, 40], [0.5, 0.7, 0.9]), 4)
        0.7333
        >>> round(area_under_learning_curve([10, 20, 40], [0.5, 0.7, 0.9], rule="mean"), 4)
        0.7
    """
    counts, heights = learning_curve(n_labelled, scores)
    if rule not in ("trapezoid", "mean"):
        raise ConfigurationError(f"Expected argument `rule` to be 'trapezoid' or 'mean', but got {rule!r}.")
    if not len(counts):
        return float("nan")
    width = counts[-1] - counts[0]
    if rule == "mean" or width == 0:
        return float(heights.mean())
    return float((np.diff(counts) * (heights[1:] + heights[:-1]) / 2).sum() / width)


def labels_to_reach(
    n_labelled: npt.ArrayLike, scores: npt.ArrayLike, target: float, *, interpolate: bool = False
) -> float | None:
    """The number of labels with which a score is reached for the first time.

    Args:
        n_labelled: `(R,)` labels held at each measurement, not decreasing.
        scores: `(R,)` scores, higher is better.
        target: the score to reach.
        interpolate: give the crossing of the straight line between two measurements, instead of the first
            measurement at or above the target.

    Returns:
        The number of labels, or `None` where the curve never gets there.

    Raises:
        ConfigurationError: as for `area_under_learning_curve`.

    Example:
        >>> labels_to_reach([10, 20, 30], [0.5, 0.7, 0.9], 0.8)
        30.0
        >>> round(labels_to_reach([10, 20, 30], [0.5, 0.7, 0.9], 0.8, interpolate=True), 6)
        25.0
    """
    counts, heights = learning_curve(n_labelled, scores)
    reached = np.flatnonzero(heights >= target)
    if not len(reached):
        return None
    first = int(reached[0])
    if first == 0 or not interpolate:
        return float(counts[first])
    share = (target - heights[first - 1]) / (heights[first] - heights[first - 1])
    return float(counts[first - 1] + share * (counts[first] - counts[first - 1]))


def class_balance(labels: npt.ArrayLike, num_classes: int) -> float:
    r"""How evenly labels spread over the classes: their entropy over the largest possible.

    .. math:: B = -\frac{1}{\log C} \sum_c p_c \log p_c

    Args:
        labels: `(B,)` classes, or `(B, C)` zeros and ones for multi-label targets.
        num_classes: `C`.

    Returns:
        1 where all classes are equally frequent, 0 where there is only one, `nan` without labels.

    Raises:
        ConfigurationError: labels that are not integers, out of range or of the wrong shape.

    Example:
        >>> round(class_balance([0, 1, 2, 2], num_classes=3), 4), class_balance([1, 1], num_classes=3)
        (0.9464, 0.0)
    """
    return normalised_entropy(count_classes(labels, num_classes))


def exploration_share(phase: npt.ArrayLike | Sequence[str]) -> float:
    """The share of queries that explored, that is, were asked where no label had reached.

    Args:
        phase: `(B,)` the detail `"phase"` of a diffusion query (`"exploration"` or `"refinement"`), or booleans.

    Returns:
        Between 0 and 1; `nan` without queries.

    Raises:
        ConfigurationError: anything else.

    Example:
        >>> exploration_share(["exploration", "refinement", "refinement", "refinement"])
        0.25
    """
    explored = explored_mask(phase)
    return float(explored.mean()) if len(explored) else float("nan")


def learning_curve(n_labelled: Any, scores: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Label counts and scores `(R,)` as float64, or an error that says what is wrong with them."""
    counts, heights = np.asarray(n_labelled, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if counts.ndim != 1 or counts.shape != heights.shape:
        raise ConfigurationError(
            "Expected arguments `n_labelled` and `scores` of one shape (R,), "
            f"but got {counts.shape} and {heights.shape}."
        )
    if not (np.isfinite(counts).all() and np.isfinite(heights).all()):
        raise ConfigurationError("Expected arguments `n_labelled` and `scores` to be finite, but got NaN or infinity.")
    if (np.diff(counts) < 0).any():
        raise ConfigurationError("Expected argument `n_labelled` not to decrease, but it does.")
    return counts, heights


def count_classes(labels: Any, num_classes: int) -> npt.NDArray[np.int64]:
    """How often each class stands in `labels`, `(num_classes,)`."""
    if num_classes < 1:
        raise ConfigurationError(f"Expected argument `num_classes` to be at least 1, but got {num_classes}.")
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if not array.size:
        return np.zeros(num_classes, np.int64)
    if array.dtype.kind not in "bui" or array.min() < 0:
        raise ConfigurationError("Expected argument `labels` to hold classes, integers from 0, but got something else.")
    if array.ndim == 2 and array.shape[1] == num_classes and array.max() <= 1:
        return np.asarray(array.sum(axis=0), dtype=np.int64)
    if array.ndim != 1 or array.max() >= num_classes:
        raise ConfigurationError(
            f"Expected argument `labels` of shape (B,) with classes below {num_classes} or of shape (B, {num_classes}) "
            f"with zeros and ones, but got shape {array.shape} with values up to {array.max()}."
        )
    return np.bincount(array.astype(np.int64), minlength=num_classes).astype(np.int64)


def normalised_entropy(counts: npt.NDArray[np.int64]) -> float:
    """The entropy of counts `(C,)` over its maximum, `log C`."""
    total = counts.sum()
    if total == 0:
        return float("nan")
    if len(counts) == 1:
        return 1.0  # nothing to balance
    shares = counts[counts > 0] / total
    return abs(float(-(shares * np.log(shares)).sum() / np.log(len(counts))))  # abs: no -0.0 for a single class


def explored_mask(phase: Any) -> npt.NDArray[np.bool_]:
    """Which queries explored, `(B,)`."""
    array = phase.detach().cpu().numpy() if isinstance(phase, Tensor) else np.asarray(phase)
    array = array.reshape(-1)
    if not array.size:
        return np.zeros(0, dtype=bool)
    if array.dtype == bool:
        return array
    if array.dtype.kind == "U" and np.isin(array, ("exploration", "refinement")).all():
        return np.asarray(array == "exploration")
    raise ConfigurationError(
        f"Expected argument `phase` to hold 'exploration' and 'refinement', or booleans, but got {array[:5].tolist()}."
    )
