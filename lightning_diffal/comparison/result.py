"""What a comparison found: learning curves, and what they say."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.comparison import pictures, tables
from lightning_diffal.comparison.curves import FloatArray, LearningCurves
from lightning_diffal.comparison.folder import ComparisonFolder
from lightning_diffal.comparison.records import Difference, Reach, Summary, check_metric, check_starts
from lightning_diffal.comparison.tasks.task import title_of
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.metrics import area_under_learning_curve, labels_to_reach
from lightning_diffal.statistics import (
    Interval,
    early_half,
    mean_interval,
    mean_intervals,
    simultaneous_lower_band,
)
from lightning_diffal.utils.aliases import IntArray

__all__ = ["Comparison"]


@dataclass(frozen=True)
class Comparison(LearningCurves):
    """Learning curves of samplers over seeds. `compare_samplers`, `from_results` and `from_folder` make it.

    Args:
        metric: name of the score.
        counts: `(R,)` label counts at which it was measured.
        scores: by sampler and seed, `(R,)`.
        results: what the runs left, as it stands in their files.
        settings: what all runs have in common.
        title: of tables and pictures.

    Example:
        >>> run = {"seed": 0, "start": {}, "n_labelled": [10, 20], "seconds": {}, "sampler": "S()"}
        >>> result = Comparison.from_results([
        ...     {"name": "a", "metrics": {"test_acc": [0.5, 0.9]}, **run},
        ...     {"name": "b", "metrics": {"test_acc": [0.5, 0.7]}, **run},
        ... ])
        >>> round(result.summaries()[0].area.mean, 4), round(result.differences("b")[0].late.mean, 4)
        (0.7, 0.2)
    """

    @classmethod
    def from_results(
        cls,
        results: Sequence[dict[str, Any]],
        *,
        metric: str = "test_acc",
        settings: Mapping[str, Any] | None = None,
        title: str = "",
    ) -> Comparison:
        """From what finished runs left; samplers may have different seeds.

        Args:
            results: of `runs.execute`, or read from files.
            metric: the score to compare by.
            settings: what all have in common.
            title: of tables and pictures.

        Raises:
            ConfigurationError: no result, a metric that one lacks, other label counts or another start than the rest.
        """
        check_starts(results)
        curves = [(result, *_curve(result, metric)) for result in results]
        if not curves:
            raise ConfigurationError("Expected at least one finished run, but got none.")
        counts = curves[0][1]
        scores: dict[str, dict[int, FloatArray]] = {}
        for result, own, values in curves:
            if not np.array_equal(own, counts):
                raise ConfigurationError(
                    f"Expected all runs to be measured at the same label counts, but {result['name']!r}, seed "
                    f"{result['seed']}, has {own.tolist()} and {results[0]['name']!r} has {counts.tolist()}."
                )
            scores.setdefault(result["name"], {})[result["seed"]] = values
        return cls(metric, counts, scores, list(results), dict(settings or {}), title)

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike[str],
        *,
        metric: str = "test_acc",
        samplers: Iterable[str] | None = None,
        seeds: Iterable[int] | None = None,
    ) -> Comparison:
        """From the finished runs of a folder, whether or not others are still under way.

        Args:
            path: the folder that `compare_samplers` was given as `out`.
            metric: the score to compare by.
            samplers: names, in the order wanted. Default: all that are there, by name.
            seeds: default: all that are there.

        Raises:
            ConfigurationError: none of these is there, or as for `from_results`.
        """
        folder = ComparisonFolder(Path(path))
        found = folder.finished()
        names = list(dict.fromkeys(r["name"] for r in found)) if samplers is None else list(samplers)
        wanted = None if seeds is None else set(seeds)
        chosen = [r for name in names for r in found if r["name"] == name and (wanted is None or r["seed"] in wanted)]
        if not chosen:
            there = ", ".join(dict.fromkeys(f"{r['name']} seed {r['seed']}" for r in found)) or "none at all"
            raise ConfigurationError(f"Expected finished runs of these samplers and seeds in {path}, but got {there}.")
        settings = folder.settings() or {}
        return cls.from_results(chosen, metric=metric, settings=settings, title=title_of(settings.get("task")))

    # ------------------------------------------------------------------------------------------------- figures

    def summaries(self, reach: Iterable[float] = ()) -> list[Summary]:
        """Every sampler by itself.

        Args:
            reach: scores to tell the labels needed for.
        """
        targets = tuple(reach)
        found = []
        for name, runs in self.scores.items():
            table = np.array(list(runs.values()))
            mean, low, high = mean_intervals(table)
            own = [result for result in self.results if result["name"] == name]
            reached = tuple(
                Reach(
                    target,
                    labels_to_reach(self.counts, mean, target),
                    tuple(labels_to_reach(self.counts, row, target) for row in table),
                )
                for target in targets
            )
            area = mean_interval([self._area(row) for row in table])
            seconds = _seconds_per_query(own)
            found.append(Summary(name, own[0]["sampler"], tuple(runs), area, mean, low, high, reached, seconds))
        return found

    def differences(self, against: str | None = None) -> list[Difference]:
        """Every other sampler minus the reference, paired by seed.

        Args:
            against: the reference. Default: the first sampler.

        Raises:
            ConfigurationError: there is no such sampler.
        """
        reference = self._reference(against)
        is_early = early_half(self.counts)
        found = []
        for name, runs in self.scores.items():
            shared = [seed for seed in runs if seed in self.scores[reference]]
            if name == reference or not shared:
                continue
            table = np.array([runs[seed] - self.scores[reference][seed] for seed in shared])
            area, early, late = (self._mean_over(table, mask) for mask in (np.ones_like(is_early), is_early, ~is_early))
            bands = simultaneous_lower_band(table), 0.0 - simultaneous_lower_band(-table)
            found.append(Difference(name, reference, tuple(shared), area, early, late, *mean_intervals(table), *bands))
        return found

    def _reference(self, against: str | None) -> str:
        if against is not None and against not in self.scores:
            raise ConfigurationError(
                f"Expected argument `against` to be one of {', '.join(self.names)}, but got {against!r}."
            )
        return self.names[0] if against is None else against

    def _area(self, row: FloatArray) -> float:
        return area_under_learning_curve(self.counts, row, rule="mean")

    def _mean_over(self, table: FloatArray, mask: npt.NDArray[np.bool_]) -> Interval:
        if not mask.any():
            return Interval(float("nan"), float("nan"), float("nan"))
        return mean_interval(table[:, mask].mean(axis=1))

    # ------------------------------------------------------------------------------------------------- output

    def table(self, *, reach: Iterable[float] = (), against: str | None = None, markdown: bool = False) -> str:
        """Everything as text: areas, some scores, differences, labels needed, seconds per query.

        Args:
            reach: scores to tell the labels needed for.
            against: the reference of the differences. Default: the first sampler.
            markdown: as Markdown has tables, rather than aligned by spaces.
        """
        return tables.text(self, self.summaries(reach), self.differences(against), markdown=markdown)

    def to_csv(
        self, folder: str | os.PathLike[str], *, reach: Iterable[float] = (), against: str | None = None
    ) -> None:
        """Write `summary.csv` (a row per sampler), `differences.csv` and `curves.csv` (a row per sampler and count).

        Args:
            folder: where to; made where it is missing.
            reach: as for `table`.
            against: as for `table`.
        """
        tables.write_tables(self, self.summaries(reach), self.differences(against), Path(folder))

    def to_json(self, path: str | os.PathLike[str], *, reach: Iterable[float] = (), against: str | None = None) -> None:
        """Write all figures, and the curve of every seed, as JSON; what is not a number becomes null.

        Args:
            path: file to write.
            reach: as for `table`.
            against: as for `table`.
        """
        tables.write_json(self, self.summaries(reach), self.differences(against), Path(path))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the learning curves: mean over seeds, and its 95 % interval as a band.

        Args:
            path: the picture; its suffix chooses the format.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        pictures.curves(self, path)

    def plot_differences(self, path: str | os.PathLike[str], *, against: str | None = None) -> None:
        """Draw the paired differences, a panel a sampler, with interval and simultaneous lower band.

        Args:
            path: the picture; its suffix chooses the format.
            against: as for `table`.

        Raises:
            ConfigurationError: no sampler besides the reference.
            MissingExtraError: matplotlib is not installed.
        """
        pictures.differences(self, self.differences(against), path)

    def save(
        self, folder: str | os.PathLike[str], *, reach: Iterable[float] = (), against: str | None = None
    ) -> list[Path]:
        """Write all tables, `comparison.json`, `learning_curves.png` and, of two samplers or more, `differences.png`.

        Args:
            folder: where to.
            reach: as for `table`.
            against: as for `table`.

        Returns:
            The pictures.
        """
        target, wanted = Path(folder), tuple(reach)
        self.to_csv(target, reach=wanted, against=against)
        self.to_json(target / "comparison.json", reach=wanted, against=against)
        self.plot(target / "learning_curves.png")
        if not self.differences(against):
            return [target / "learning_curves.png"]
        self.plot_differences(target / "differences.png", against=against)
        return [target / "learning_curves.png", target / "differences.png"]


def _curve(result: Mapping[str, Any], metric: str) -> tuple[IntArray, FloatArray]:
    check_metric(metric, result["metrics"])
    values = result["metrics"].get(metric, [])
    places = [place for place, value in enumerate(values) if value is not None]  # a cold start has no score
    counts = np.array([result["n_labelled"][place] for place in places], dtype=np.int64)
    return counts, np.array([values[place] for place in places], dtype=np.float64)


def _seconds_per_query(results: Sequence[Mapping[str, Any]]) -> float:
    spent = [
        sum(seconds for seconds in parts if seconds is not None)
        for result in results
        for parts in zip(*(result["seconds"].get(name, []) for name in ("features", "select")), strict=False)
        if parts[1] is not None
    ]
    return float(np.mean(spent)) if spent else float("nan")
