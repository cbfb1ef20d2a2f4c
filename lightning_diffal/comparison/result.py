"""What a comparison found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError

__all__ = ["Comparison", "check_starts"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """Learning curves of samplers over seeds. Made by `compare_samplers` or `from_results`."""

    metric: str
    counts: IntArray
    scores: dict[str, dict[int, FloatArray]]
    results: list[dict[str, Any]]
    settings: dict[str, Any]

    @classmethod
    def from_results(
        cls, results: Sequence[dict[str, Any]], *, metric: str = "test_acc", settings: Mapping[str, Any] | None = None
    ) -> Comparison:
        """From what finished runs left."""
        check_starts(results)
        counts: IntArray | None = None
        scores: dict[str, dict[int, FloatArray]] = {}
        for result in results:
            values = result["metrics"].get(metric)
            if values is None:
                raise ConfigurationError(
                    f"Expected argument `metric` to be one of {', '.join(result['metrics'])}, but got {metric!r}."
                )
            has = [place for place, value in enumerate(values) if value is not None]
            own = np.array(result["n_labelled"], dtype=np.int64)[has]
            counts = own if counts is None else counts
            if not np.array_equal(own, counts):
                raise ConfigurationError(
                    f"Expected all runs to be measured at the same label counts, but {result['name']}, seed "
                    f"{result['seed']}, has {own.tolist()} and others {counts.tolist()}."
                )
            curve = np.array([values[place] for place in has], dtype=np.float64)
            scores.setdefault(result["name"], {})[result["seed"]] = curve
        if counts is None:
            raise ConfigurationError("Expected at least one finished run, but got none.")
        return cls(metric, counts, scores, list(results), dict(settings or {}))

    @property
    def names(self) -> list[str]:
        """The samplers, in the order they were given in."""
        return list(self.scores)

    def table(self) -> str:
        """Area and score at the last count, mean over seeds."""
        width = max(len(name) for name in self.names)
        lines = [f"{'':{width}}  seeds    area  at {self.counts[-1]}"]
        for name, curves in self.scores.items():
            values = np.array(list(curves.values()))
            lines.append(f"{name:{width}}  {len(values):5d}  {values.mean():.4f}  {values[:, -1].mean():.4f}")
        return "\n".join(lines)


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
