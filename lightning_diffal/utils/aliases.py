"""Names for the kinds of arrays that the whole package passes around."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "BoolArray", "FloatArray", "IntArray"]

Array = npt.NDArray[Any]
"""Of any type."""

BoolArray = npt.NDArray[np.bool_]
"""Masks."""

FloatArray = npt.NDArray[np.float32]
"""Features, probabilities, scores: single precision, as models give them."""

IntArray = npt.NDArray[np.int64]
"""Positions in the training data set, classes, counts."""
