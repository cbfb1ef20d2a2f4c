"""The figures of a comparison, and what has to hold of runs that are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.statistics import Interval

__all__ = ["Difference", "Reach", "Summary", "check_metric", "check_starts"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reach:
    """The labels that one score took.

    Args:
        target: the score.
        by_mean: labels with which the mean curve first reaches it; `None` where it never does.
        by_seed: the same of each seed's own curve.
    """

    target: float
    by_mean: float | None
    by_seed: tuple[float | None, ...]


@dataclass(frozen=True)
class Summary:
    """One sampler.

    Args:
        name: of the sampler in the comparison.
        sampler: its representation.
        seeds: `S` of them.
        area: mean score over all label counts (`area_under_learning_curve(..., rule="mean")`), a number per seed.
        mean: `(R,)` mean curve.
        low: `(R,)` lower end of the 95 % interval of the mean, at each count by itself; `nan` for one seed.
        high: `(R,)` upper end.
        reach: labels needed for the scores asked about.
        seconds_per_query: features and selection, mean over all queries.
    """

    name: str
    sampler: str
    seeds: tuple[int, ...]
    area: Interval
    mean: FloatArray
    low: FloatArray
    high: FloatArray
    reach: tuple[Reach, ...]
    seconds_per_query: float


@dataclass(frozen=True)
class Difference:
    """One sampler minus another, paired by seed; all intervals are of 95 %.

    Args:
        name: of the sampler.
        against: of the reference, which is subtracted.
        seeds: that both have.
        area: over all label counts.
        early: over the first half of the labels, see `early_half`.
        late: over the rest; `nan` where there is only one count.
        mean: `(R,)` mean difference.
        low: `(R,)` lower end of its interval, at each count by itself.
        high: `(R,)` upper end.
        band_low: `(R,)` below the whole curve of true differences, with 95 %; see `simultaneous_lower_band`.
        band_high: `(R,)` above the whole curve, with 95 %.
    """

    name: str
    against: str
    seeds: tuple[int, ...]
    area: Interval
    early: Interval
    late: Interval
    mean: FloatArray
    low: FloatArray
    high: FloatArray
    band_low: FloatArray
    band_high: FloatArray


def check_starts(runs: Iterable[Mapping[str, Any]]) -> None:
    """Refuse runs of one seed that began differently.

    Args:
        runs: each with `name`, `seed` and `start`.

    Raises:
        ConfigurationError: another start, and what differs in it.

    Example:
        >>> check_starts([{"name": "a", "seed": 0, "start": {"labels": "x"}}] * 2)
    """
    first: dict[int, Mapping[str, Any]] = {}
    for run in runs:
        other = first.setdefault(run["seed"], run)
        differing = [key for key, value in run["start"].items() if other["start"].get(key) != value]
        if differing:
            raise ConfigurationError(
                f"The runs of {other['name']!r} and {run['name']!r} on seed {run['seed']} began with different "
                f"{' and '.join(differing)}. A task has to depend on its seed only: draw from generators made from it, "
                "or from torch's global one, which is seeded."
            )


def check_metric(metric: str, logged: Mapping[str, Any] | None) -> None:
    """Refuse a metric that nobody logged.

    Args:
        metric: the name wanted.
        logged: what was, by name; nothing where there has been no training yet.

    Raises:
        ConfigurationError: it is not among them.

    Example:
        >>> check_metric("test_acc", {"test_acc": 0.5})
    """
    if logged and metric not in logged:
        raise ConfigurationError(f"Expected argument `metric` to be one of {', '.join(logged)}, but got {metric!r}.")
