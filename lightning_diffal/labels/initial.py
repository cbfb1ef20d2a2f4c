"""The first labels: drawn, listed, or given with their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lightning_diffal.exceptions import ConfigurationError, InvalidLabelError
from lightning_diffal.labels.ids import as_indices
from lightning_diffal.labels.targets import Label, parse_label
from lightning_diffal.utils.aliases import IntArray
from lightning_diffal.utils.seeding import generator_of

__all__ = ["InitialLabels", "check_targets", "draw_initial", "initial_points", "is_missing"]

InitialLabels = int | Iterable[int] | Mapping[int, Any]


def initial_points(
    initial: InitialLabels,
    n_points: int,
    *,
    seed: int,
    targets: IntArray | None = None,
    stratified: bool = False,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
) -> tuple[IntArray, list[Label] | None]:
    """Which points are labelled before the first round, and their labels where they were given.

    Args:
        initial: a number to draw, indices, or labels by index.
        n_points: size of the training data set.
        seed: of the draw.
        targets: `(N,)` or `(N, C)` labels of all points, where they are known; needed to balance the draw.
        stratified: draw as evenly over the classes as they allow.
        num_classes: where known, given labels must fit it.
        class_names: where labels are given by name.

    Returns:
        `(L,)` indices, and one label each or `None`: only the items have them.

    Raises:
        ConfigurationError: a number that is negative or larger than the data set; `stratified` without `targets`.
        InvalidIndexError: indices out of range, or one twice.
        InvalidLabelError: labels of a wrong type or out of range.

    Example:
        >>> initial_points({4: 1, 2: 0}, 5, seed=0)
        (array([4, 2]), [1, 0])
        >>> len(initial_points(3, 5, seed=0)[0])
        3
    """
    if stratified and targets is None:
        raise ConfigurationError(
            "`stratified=True` needs `targets`, the labels of all points as an array: without it every item of the "
            "data set would have to be read."
        )
    given = _by_index(initial)
    if given is not None:
        indices = as_indices(list(given), n_points, "initial_labels")
        return indices, [_given_label(i, value, num_classes, class_names) for i, value in given.items()]
    if isinstance(initial, bool | float | str) or initial is None:
        raise ConfigurationError(
            "Expected argument `initial_labels` to be a number of points, a list of indices or labels by index, "
            f"but got {initial!r}."
        )
    if isinstance(initial, np.ndarray) and not initial.ndim and initial.dtype.kind in "iu":
        initial = int(initial)
    if not isinstance(initial, int | np.integer):
        indices = as_indices(initial, n_points, "initial_labels")
    elif 0 <= initial <= n_points:
        indices = draw_initial(int(initial), n_points, seed, targets if stratified else None)
    else:
        raise ConfigurationError(
            f"Expected argument `initial_labels` to be between 0 and the {n_points} points of the training data set, "
            f"but got {initial}."
        )
    return indices, None if targets is None else [parse_label(row, num_classes) for row in targets[indices]]


def _by_index(initial: Any) -> dict[Any, Any] | None:
    """What a dict, a pandas Series or anything like them says, by index; `None` for everything else."""
    if isinstance(initial, Mapping):
        return dict(initial)
    if not (hasattr(initial, "items") and hasattr(initial, "keys")):
        return None
    if getattr(initial, "ndim", 1) != 1:
        raise ConfigurationError(
            f"Expected argument `initial_labels` to be labels by index, but got a table ({type(initial).__name__}): "
            "give one column of it, with the positions of the points as its index."
        )
    pairs = list(initial.items())
    given = dict(pairs)
    if len(given) < len(pairs):
        raise ConfigurationError(
            "Expected argument `initial_labels` to hold one label for each index, but some are given twice."
        )
    return given


def _given_label(index: Any, value: Any, num_classes: int | None, class_names: Sequence[str] | None) -> Label:
    if is_missing(value):
        raise InvalidLabelError(
            f"Point {index} has no label in `initial_labels` (it is {value!r}): leave the point out."
        )
    try:
        return parse_label(value, num_classes, class_names)
    except InvalidLabelError as error:
        raise InvalidLabelError(f"Point {index} in `initial_labels`: {error}") from None


def is_missing(value: Any) -> bool:
    """Whether a value says that there is none: `None`, NaN, NaT, and `pandas.NA`, which is not equal to anything.

    Example:
        >>> is_missing(float("nan")), is_missing(0), is_missing([1, 0])
        (True, False, False)
    """
    if value is None:
        return True
    if np.ndim(value) or isinstance(value, str):
        return False
    try:
        return bool(value != value)
    except (TypeError, ValueError, RuntimeError):  # pandas.NA says neither
        return True


def draw_initial(size: int, n_points: int, seed: int, targets: IntArray | None = None) -> IntArray:
    """Draw points without replacement; with `targets` the classes take turns, in random order.

    Args:
        size: how many.
        n_points: of how many.
        seed: of the draw.
        targets: `(N,)` classes or `(N, C)` sets of classes to balance over, or `None`.

    Returns:
        `(size,)` sorted indices.

    Example:
        >>> draw_initial(4, 6, 0, np.array([0, 0, 0, 0, 1, 1])).tolist()[-2:]
        [4, 5]
    """
    generator = generator_of(seed)
    order = generator.permutation(n_points)
    if targets is not None:
        shuffled = np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)[order]
        by_class = np.argsort(shuffled, kind="stable")
        first_of_class = np.searchsorted(shuffled[by_class], shuffled[by_class])
        rank_in_class = np.empty(n_points, dtype=np.int64)
        rank_in_class[by_class] = np.arange(n_points) - first_of_class
        # the first of every class, then the second of every class ...; a random key orders each turn
        order = order[np.lexsort((generator.random(n_points), rank_in_class))]
    return np.sort(order[:size])


def check_targets(
    targets: Any, n_points: int, num_classes: int | None = None, class_names: Sequence[str] | None = None
) -> IntArray:
    """Labels of the whole data set, as given, in the form that the rest of the package reads.

    Args:
        targets: `(N,)` classes, or their names, or `(N, C)` zeros and ones; a list, an array or a tensor.
        n_points: size of the training data set.
        num_classes: where known, the classes must fit it.
        class_names: where the classes are given by name.

    Raises:
        InvalidLabelError: another length, type or range.

    Example:
        >>> check_targets([0, 1, 1], 3), check_targets(["dog", "cat"], 2, class_names=["cat", "dog"])
        (array([0, 1, 1]), array([1, 0]))
    """
    if hasattr(targets, "detach"):
        targets = targets.detach().cpu().numpy()
    array = np.asarray(targets)
    if array.ndim not in (1, 2) or len(array) != n_points:
        raise InvalidLabelError(
            f"Expected argument `targets` to hold one label for each of {n_points} points, but got shape {array.shape}."
        )
    if array.ndim == 1 and array.dtype.kind in "UO":
        return np.array([parse_label(value, num_classes, class_names) for value in array], dtype=np.int64)
    if array.ndim == 1 and array.dtype.kind == "f":
        gaps = int(np.isnan(array).sum())
        if gaps:
            raise InvalidLabelError(
                f"Expected argument `targets` to hold a label for each point, but {gaps} are NaN: give the labels that "
                "are known as `initial_labels={index: label}`, and no `targets`."
            )
        array = array.astype(np.int64) if (np.mod(array, 1) == 0).all() else array  # as data frames hold classes
    if array.dtype.kind not in "iub" and not (array.dtype.kind == "f" and np.isin(array, (0, 1)).all()):
        raise InvalidLabelError(f"Expected argument `targets` to hold integer classes, but got {array.dtype}.")
    array = array.astype(np.int64)
    if array.ndim == 2 and array.shape[1] > 1:
        if not np.isin(array, (0, 1)).all() or array.shape[1] != (num_classes or array.shape[1]):
            raise InvalidLabelError(
                f"Expected `targets` of shape {array.shape} to hold zeros and ones for each of "
                f"{num_classes or array.shape[1]} classes, but got {array.min()} to {array.max()}."
            )
        return array
    array = array.reshape(-1)
    if array.min() < 0 or (num_classes is not None and array.max() >= num_classes):
        top = "" if num_classes is None else f" and at most {num_classes - 1}"
        raise InvalidLabelError(
            f"Expected argument `targets` to hold classes of at least 0{top}, but got {array.min()} to {array.max()}. "
            "Where only some labels are known, give those as `initial_labels={index: label}`."
        )
    return array
