"""Features that somebody gives for the map of a report."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError, FeatureError
from lightning_diffal.report.run import RunView
from lightning_diffal.utils.aliases import FloatArray

__all__ = ["checked_features"]


def checked_features(features: npt.ArrayLike, view: RunView) -> FloatArray:
    """Features as a finite matrix with a row for each point of the run.

    Args:
        features: `(N, D)`.
        view: the run.

    Raises:
        ConfigurationError: not a matrix of numbers, or another number of rows than there are points.
        FeatureError: numbers that are not finite.
    """
    matrix = np.asarray(features)
    if matrix.ndim != 2 or matrix.dtype.kind not in "iufb" or 0 in matrix.shape:
        raise ConfigurationError(
            f"Expected argument `features` to be a matrix of numbers `(N, D)`, but got {matrix.dtype} of shape "
            f"{matrix.shape}."
        )
    rows = matrix.astype(np.float32)
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise FeatureError(f"Features have to be finite, but those of points {broken[:5].tolist()} are not.")
    if view.n_points is not None and len(rows) != view.n_points:
        raise ConfigurationError(
            f"Expected argument `features` to have a row for each of the {view.n_points} points of the training data "
            f"set, but got {len(rows)}."
        )
    most = max([*view.arrived, *view.pending, *view.skipped], default=-1)
    if most >= len(rows):
        raise ConfigurationError(
            f"Expected argument `features` to have a row for each point, but got {len(rows)}, and point "
            f"{most} was asked."
        )
    return rows
