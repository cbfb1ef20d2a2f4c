"""The boundary that labels diffuse from: distinct labelled points, conflicts resolved, arguments checked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lightning_diffal.exceptions import ConfigurationError, InvalidIndexError, InvalidLabelError
from lightning_diffal.utils.aliases import IntArray

__all__ = ["check_steps", "class_boundary", "distinct_points", "group_labelled"]


def class_boundary(
    transition: sp.csr_matrix, labelled: npt.ArrayLike, labels: npt.ArrayLike, num_classes: int
) -> tuple[IntArray, sp.csr_matrix]:
    """The distinct labelled points and their `(B, C)` class proportions, sparse."""
    classes = np.asarray(labels).reshape(-1)
    if classes.size and not np.issubdtype(classes.dtype, np.integer):
        raise InvalidLabelError(f"Expected argument `labels` to hold classes (integers), but got {classes.dtype}.")
    if classes.size and (classes.min() < 0 or classes.max() >= num_classes):
        raise InvalidLabelError(
            f"Expected argument `labels` between 0 and {num_classes - 1}, but got {classes.min()} to {classes.max()}."
        )
    nodes, groups, counts = group_labelled(transition, labelled, len(classes))
    shares = (1 / counts)[groups]
    boundary = sp.csr_matrix((shares, (groups, classes.astype(np.int64))), shape=(len(nodes), num_classes))
    return nodes, boundary.astype(np.float32)


def group_labelled(
    transition: sp.csr_matrix, labelled: npt.ArrayLike, n_labels: int
) -> tuple[IntArray, IntArray, IntArray]:
    """The distinct labelled points, which of them each label belongs to, and how many labels each has."""
    array = np.asarray(labelled).reshape(-1)
    if len(array) != n_labels:
        raise InvalidLabelError(
            f"Expected argument `labels` to hold one row per labelled point ({len(array)}), but got {n_labels}."
        )
    distinct = distinct_points("labelled", array, transition.shape[0])
    groups = np.searchsorted(distinct, array)
    return distinct, groups, np.bincount(groups, minlength=len(distinct))


def distinct_points(name: str, value: npt.ArrayLike, n_points: int) -> IntArray:
    """The distinct points of a list, in order."""
    array = np.asarray(value).reshape(-1)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise InvalidIndexError(f"Expected argument `{name}` to hold integer indices, but got {array.dtype}.")
    if array.size and (array.min() < 0 or array.max() >= n_points):
        raise InvalidIndexError(
            f"Expected argument `{name}` between 0 and {n_points - 1}, but got {array.min()} to {array.max()}."
        )
    return np.unique(array.astype(np.int64))


def check_steps(n_steps: int) -> None:
    """Refuse a diffusion of no steps."""
    if n_steps < 1:
        raise ConfigurationError(f"Expected argument `n_steps` to be at least 1, but got {n_steps}.")
