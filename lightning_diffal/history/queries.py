"""A query as files hold it: the same four entries in a state, a journal and JSON, each with its own kind of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_diffal.samplers.base import Query
from lightning_diffal.utils.jsonable import to_jsonable
from lightning_diffal.utils.numeric.arrays import array_from_state, array_state

__all__ = ["IN_JOURNAL", "IN_JSON", "IN_STATE", "QueryCodec"]


@dataclass(frozen=True)
class QueryCodec:
    """How one kind of file writes what a query is made of, and reads it back.

    Args:
        write: indices or scores.
        read: what `write` gave.
        write_detail: an array of details, whose type counts.
        read_detail: what `write_detail` gave.
        write_figure: a number of the summary.
        read_figure: what `write_figure` gave.

    Example:
        >>> query = Query([4], [0.5], {"margin": np.array([0.25], np.float32)}, {"recall": 0.5})
        >>> IN_JOURNAL.encode(query)["details"]
        {'margin': {'dtype': '<f4', 'values': [0.25]}}
        >>> IN_JOURNAL.decode(IN_JOURNAL.encode(query)).details["margin"]
        array([0.25], dtype=float32)
    """

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    write_detail: Callable[[Any], Any]
    read_detail: Callable[[Any], Any]
    write_figure: Callable[[Any], Any] = float
    read_figure: Callable[[Any], Any] = float

    def encode(self, query: Query) -> dict[str, Any]:
        """The entries of a query.

        Args:
            query: what was asked.
        """
        return {
            "indices": self.write(query.indices),
            "scores": self.write(query.scores),
            "details": {str(name): self.write_detail(values) for name, values in query.details.items()},
            "summary": {str(name): self.write_figure(value) for name, value in query.summary.items()},
        }

    def decode(self, entries: Mapping[str, Any]) -> Query:
        """The query whose entries these are.

        Args:
            entries: what `encode` gave, perhaps among others.
        """
        return Query(
            self.read(entries["indices"]),
            self.read(entries["scores"]),
            {name: self.read_detail(values) for name, values in entries["details"].items()},
            {name: self.read_figure(value) for name, value in entries["summary"].items()},
        )


def _typed(values: Any) -> dict[str, Any]:
    return {"dtype": values.dtype.str, "values": values.tolist()}


def _of_type(saved: Mapping[str, Any]) -> Any:
    return np.array(saved["values"], dtype=np.dtype(saved["dtype"]))


def _not_null(values: Any) -> Any:
    """JSON has no numbers that are not finite: they were written as null."""
    return [_not_null(v) for v in values] if isinstance(values, list) else math.nan if values is None else values


def _array(values: Any) -> Any:
    return np.array(_not_null(values))


IN_STATE = QueryCodec(array_state, array_from_state, array_state, array_from_state)
"""Tensors, which `torch.load(weights_only=True)` accepts."""
IN_JOURNAL = QueryCodec(np.ndarray.tolist, list, _typed, _of_type)
"""Lists; details with their types."""
IN_JSON = QueryCodec(to_jsonable, _not_null, to_jsonable, _array, to_jsonable, lambda value: float(_not_null(value)))
"""Lists in which null stands for what is not finite; for other programs, which know no types."""
