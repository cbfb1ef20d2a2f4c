"""Oracles that know the answers: the data set itself, or a function."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning_diffal.exceptions import InvalidLabelError, InvalidTypeError
from lightning_diffal.labels.marks import PENDING
from lightning_diffal.oracle.base import Oracle
from lightning_diffal.utils.aliases import IntArray

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["CallableOracle", "DatasetOracle", "as_oracle"]


class DatasetOracle(Oracle):
    """The labels that the data set holds: simulation, and the default.

    Example:
        >>> import numpy as np
        >>> from lightning_diffal import ActiveDataModule
        >>> data = ActiveDataModule([("a", 0), ("b", 1), ("c", 1)], initial_labels=1)
        >>> DatasetOracle().answer(np.array([2, 0]), data)
        {2: 1, 0: 0}
    """

    def answer(self, indices: IntArray, data: ActiveDataModule) -> Mapping[int, Any]:
        """The data set's own labels of all points."""
        return dict(zip(indices.tolist(), data.own_labels(indices), strict=True))


class CallableOracle(Oracle):
    """A function that labels items.

    Args:
        function: called as `function(indices, items)` with data set positions and the items there; returns one
            label each (a class, a class name, or `PENDING`), or labels by index, or `PENDING` for all of them.

    Example:
        >>> import numpy as np
        >>> from lightning_diffal import ActiveDataModule
        >>> data = ActiveDataModule([4, 7, 10], initial_labels=1)
        >>> oracle = CallableOracle(lambda indices, items: [item % 2 for item in items])
        >>> oracle.answer(np.array([1, 2]), data)
        {1: 1, 2: 0}
    """

    def __init__(self, function: Callable[[list[int], list[Any]], Any]) -> None:
        if not callable(function):
            raise InvalidTypeError(f"Expected argument `function` to be callable, but got {type(function).__name__}.")
        self.function = function

    def answer(self, indices: IntArray, data: ActiveDataModule) -> Mapping[int, Any]:
        """What the function says of the items."""
        positions = indices.tolist()
        labels = self.function(positions, [data.pool_item(index) for index in positions])
        if labels is PENDING:
            return {}
        if isinstance(labels, Mapping):
            return labels
        if hasattr(labels, "tolist"):
            labels = labels.tolist()
        if not isinstance(labels, Sequence) or isinstance(labels, str) or len(labels) != len(positions):
            raise InvalidLabelError(
                f"Expected the oracle function to return one label (or PENDING) for each of {len(positions)} points, "
                f"but got {reprlib.repr(labels)}. Nothing was applied."
            )
        return dict(zip(positions, labels, strict=True))


def as_oracle(oracle: Any) -> Oracle:
    """An oracle from what a user gave: an `Oracle`, a function, or `None` for the data set itself.

    Raises:
        InvalidTypeError: anything else.
    """
    if oracle is None:
        return DatasetOracle()
    if isinstance(oracle, Oracle):
        return oracle
    if callable(oracle) and not isinstance(oracle, type):
        return CallableOracle(oracle)
    raise InvalidTypeError(
        "Expected argument `oracle` to be an Oracle, a function (indices, items) -> labels, or None, "
        f"but got {oracle!r}."
    )
