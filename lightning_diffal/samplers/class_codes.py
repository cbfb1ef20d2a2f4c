"""Classes that are codes: numbers of ten digits would count as many classes, and cost memory and time for each."""

from __future__ import annotations

import dataclasses

import numpy as np

from lightning_diffal.samplers.base import Query
from lightning_diffal.samplers.query_data import QueryData
from lightning_diffal.utils.aliases import IntArray

__all__ = ["compact_classes", "with_codes"]

_CODES = 10_000  # beyond it, and beyond the number of points, a class is a code and not a position


def compact_classes(data: QueryData) -> tuple[QueryData, IntArray] | None:
    """The same data with its classes numbered from 0, and their codes; `None` where they are numbered already.

    Args:
        data: where it holds probabilities, the model has an output per class, so that nothing has to be done.

    Example:
        >>> data = QueryData(features=np.eye(3), labelled=[0, 1], labels=[4006381333948, 4006381333931])
        >>> inner, codes = compact_classes(data)
        >>> inner.labels, inner.num_classes, codes
        (array([1, 0]), 2, array([4006381333931, 4006381333948]))
    """
    reads_outputs = data.probabilities is not None or data.mc_probabilities is not None
    if reads_outputs or data.labels.ndim != 1 or data.num_classes <= max(_CODES, data.num_points):
        return None
    codes, labels = np.unique(data.labels, return_inverse=True)
    return dataclasses.replace(data, labels=labels.astype(np.int64), num_classes=max(len(codes), 2)), codes


def with_codes(query: Query, codes: IntArray) -> Query:
    """What was chosen, its predicted classes as codes again.

    Args:
        query: of data that `compact_classes` gave.
        codes: of the classes.
    """
    predicted = query.details.get("predicted")
    if predicted is None:
        return query
    named = np.where(predicted >= 0, codes[np.clip(predicted, 0, len(codes) - 1)], predicted).astype(np.int64)
    return Query(query.indices, query.scores, {**query.details, "predicted": named}, query.summary)
