"""A comparison as text, as Markdown, as CSV and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightning_diffal.comparison.curves import LearningCurves
from lightning_diffal.comparison.records import Difference, Reach, Summary
from lightning_diffal.statistics import Interval
from lightning_diffal.utils.jsonable import to_jsonable
from lightning_diffal.utils.storage.files import replacing, write_csv

__all__ = ["text", "write_json", "write_tables"]

Layout = Callable[[Sequence[Sequence[str]]], str]
"""Makes a table of rows of cells; the first row is its head."""


def text(
    comparison: LearningCurves,
    summaries: Sequence[Summary],
    differences: Sequence[Difference],
    *,
    markdown: bool = False,
) -> str:
    """All tables, for people.

    Args:
        comparison: what was found.
        summaries: of each sampler.
        differences: to the reference.
        markdown: as Markdown has them, rather than aligned by spaces.
    """
    layout = _piped if markdown else _aligned
    sections = [_headline(comparison, summaries), layout(_areas(comparison, summaries))]
    if differences:
        sections += [_about_differences(comparison, differences), layout(_differences(comparison, differences))]
    if any(summary.reach for summary in summaries):
        sections += [_about_reached(comparison, summaries), layout(_reached(comparison, summaries))]
    return "\n\n".join(sections)


def _headline(comparison: LearningCurves, summaries: Sequence[Summary]) -> str:
    sizes = sorted({len(summary.seeds) for summary in summaries})
    number = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    title = f"{comparison.title}: " if comparison.title else ""
    spread = "one seed, so no intervals" if sizes == [1] else f"mean of {number} seeds ± 95 % t interval"
    return f"{title}{comparison.metric}, {spread}. Area: mean over {_range(comparison)}."


def _range(comparison: LearningCurves) -> str:
    counts = comparison.counts
    return f"{counts[0]} labels" if len(counts) == 1 else f"{len(counts)} counts of {counts[0]} to {counts[-1]} labels"


def _areas(comparison: LearningCurves, summaries: Sequence[Summary]) -> list[list[str]]:
    last = len(comparison.counts) - 1
    places = sorted({last // 4, last // 2, last})
    single = all(len(summary.seeds) == 1 for summary in summaries)
    unequal = len({summary.seeds for summary in summaries}) > 1
    head = ["", *(["seeds"] if unequal else []), "area", *(f"at {comparison.counts[p]}" for p in places), "s/query"]
    rows = []
    for summary in summaries:
        cells = [_plus_minus(summary.area.mean, summary.area.margin, single)]
        cells += [_plus_minus(summary.mean[p], (summary.high[p] - summary.low[p]) / 2, single) for p in places]
        number = [str(len(summary.seeds))] if unequal else []
        rows.append([summary.name, *number, *cells, _number(summary.seconds_per_query, ".2f")])
    return [head, *rows]


def _about_differences(comparison: LearningCurves, differences: Sequence[Difference]) -> str:
    words = f"Minus {differences[0].against}, paired by seed"
    if _several(differences):
        words += " [95 % t interval; * clear of zero].\nBand: the lowest point of the 95 % simultaneous lower band"
    return f"{words}."


def _differences(comparison: LearningCurves, differences: Sequence[Difference]) -> list[list[str]]:
    several = _several(differences)
    middle = comparison.counts[np.flatnonzero(comparison.counts <= comparison.counts[[0, -1]].mean())[-1]]
    head = ["", "area", f"up to {middle} labels", f"beyond {middle}", *(["band"] if several else [])]
    rows = []
    for difference in differences:
        cells = [_signed(interval) for interval in (difference.area, difference.early, difference.late)]
        rows.append([difference.name, *cells, *([_lowest(comparison, difference)] if several else [])])
    return [head, *rows]


def _several(found: Sequence[Summary] | Sequence[Difference]) -> bool:
    return any(len(one.seeds) > 1 for one in found)


def _lowest(comparison: LearningCurves, difference: Difference) -> str:
    if np.isnan(difference.band_low).any():
        return "-"
    place = int(difference.band_low.argmin())
    return f"{difference.band_low[place]:+.4f} at {comparison.counts[place]}"


def _about_reached(comparison: LearningCurves, summaries: Sequence[Summary]) -> str:
    how = ", by the mean curve (lowest to highest seed)" if _several(summaries) else ""
    return f"Labels needed{how}; >{comparison.counts[-1]}: not reached."


def _reached(comparison: LearningCurves, summaries: Sequence[Summary]) -> list[list[str]]:
    last, several = comparison.counts[-1], _several(summaries)
    head = ["", *(f"{comparison.metric} {reach.target:g}" for reach in summaries[0].reach)]
    rows = [[summary.name, *(_needed(reach, last, several) for reach in summary.reach)] for summary in summaries]
    return [head, *rows]


def _needed(reach: Reach, last: int, several: bool) -> str:
    def shown(count: float | None) -> str:
        return f">{last}" if count is None else f"{count:g}"

    if not several:
        return shown(reach.by_mean)
    ranked = sorted(reach.by_seed, key=lambda count: math.inf if count is None else count)
    if ranked[0] == ranked[-1] == reach.by_mean:
        return shown(reach.by_mean)
    return f"{shown(reach.by_mean)} ({shown(ranked[0])} to {shown(ranked[-1])})"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("   ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows)
    return "\n".join(lines)


def _piped(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [[cell.strip().replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plus_minus(mean: float, margin: float, single: bool) -> str:
    return f"{mean:.4f}" if single else f"{mean:.4f} ± {_number(margin, '.4f')}"


def _signed(interval: Interval) -> str:
    if math.isnan(interval.mean):
        return "-"
    if math.isnan(interval.low):
        return f"{interval.mean:+.4f}"
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]{'*' if interval.excludes_zero else ' '}"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


# --------------------------------------------------------------------------------------------------------- files


def write_tables(
    comparison: LearningCurves, summaries: Sequence[Summary], differences: Sequence[Difference], folder: Path
) -> None:
    """Write `summary.csv`, `differences.csv` and `curves.csv`.

    Args:
        comparison: what was found.
        summaries: of each sampler.
        differences: to the reference.
        folder: where to.
    """
    targets = [reach.target for reach in summaries[0].reach]
    header = ["sampler", "made_by", "n_seeds", "area", "area_low", "area_high", "last", "last_low", "last_high"]
    header += [f"labels_to_{t:g}{part}" for t in targets for part in ("", "_by_seed")] + ["seconds_per_query"]
    write_csv(folder / "summary.csv", header, [_summary_row(summary) for summary in summaries])
    parts = ("area", "early", "late")
    header = ["sampler", "against", "n_seeds", *(f"{part}{end}" for part in parts for end in ("", "_low", "_high"))]
    header += ["band_lowest", "band_lowest_at"]
    write_csv(folder / "differences.csv", header, [_difference_row(comparison, d) for d in differences])
    write_csv(folder / "curves.csv", _CURVES, _curve_rows(comparison, summaries, differences))


def _summary_row(summary: Summary) -> list[Any]:
    reached = [
        cell
        for reach in summary.reach
        for cell in (_cell(reach.by_mean), " ".join("never" if n is None else f"{n:g}" for n in reach.by_seed))
    ]
    figures = _cells(*summary.area, summary.mean[-1], summary.low[-1], summary.high[-1])
    made_by, n_seeds = summary.sampler, len(summary.seeds)
    return [summary.name, made_by, n_seeds, *figures, *reached, _cell(summary.seconds_per_query)]


def _difference_row(comparison: LearningCurves, difference: Difference) -> list[Any]:
    d = difference
    lowest = _cells(d.band_low.min(), comparison.counts[d.band_low.argmin()])
    return [d.name, d.against, len(d.seeds), *_cells(*d.area, *d.early, *d.late), *lowest]


_CURVES = ["sampler", "n_labelled", "n_seeds", "mean", "low", "high", "lowest_seed", "highest_seed"]
_CURVES += [f"difference{part}" for part in ("", "_low", "_high", "_band_low", "_band_high")]


def _curve_rows(
    comparison: LearningCurves, summaries: Sequence[Summary], differences: Sequence[Difference]
) -> list[list[Any]]:
    rows = []
    for s in summaries:
        seeds = np.array(list(comparison.scores[s.name].values()))
        own = [d for d in differences if d.name == s.name]
        columns = [s.mean, s.low, s.high, seeds.min(axis=0), seeds.max(axis=0)]
        columns += [values for d in own for values in (d.mean, d.low, d.high, d.band_low, d.band_high)]
        for count, *values in zip(comparison.counts, *columns, strict=True):
            cells = [s.name, int(count), len(s.seeds), *_cells(*values)]
            rows.append(cells + [""] * (len(_CURVES) - len(cells)))
    return rows


def write_json(
    comparison: LearningCurves, summaries: Sequence[Summary], differences: Sequence[Difference], path: Path
) -> None:
    """Write all figures as JSON.

    Args:
        comparison: what was found.
        summaries: of each sampler.
        differences: to the reference.
        path: the file.
    """
    content = {
        "title": comparison.title,
        "metric": comparison.metric,
        "settings": comparison.settings,
        "n_labelled": comparison.counts.tolist(),
        "samplers": {s.name: {**to_jsonable(s), "scores": to_jsonable(comparison.scores[s.name])} for s in summaries},
        "differences": [to_jsonable(d) for d in differences],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def _cells(*values: Any) -> list[float | str]:
    return [_cell(value) for value in values]


def _cell(value: float | None) -> float | str:
    """A number of six digits; empty where there is none."""
    return "" if value is None or not math.isfinite(value) else float(f"{value:.6g}")
