"""Learning curves of several samplers in one picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.history.history import History
from lightning_diffal.history.main_metric import ranked_metrics
from lightning_diffal.history.tables import names_of
from lightning_diffal.metrics.savings import Curve, LabelsSaved
from lightning_diffal.statistics import mean_intervals
from lightning_diffal.utils.extras import require
from lightning_diffal.utils.figures import COLOURS, GRID, INK, MUTED, new_figure
from lightning_diffal.utils.storage.files import replacing

__all__ = ["learning_curves"]

FloatArray = npt.NDArray[np.float64]

_MARKERS = ("o", "s", "^", "D")


def learning_curves(
    curves: Mapping[str, History | Sequence[History | Curve]],
    path: str | os.PathLike[str] | None = None,
    *,
    metric: str | None = None,
    ylabel: str | None = None,
    title: str | None = None,
    band: Literal["range", "std", "interval"] | None = "range",
    saved: LabelsSaved | None = None,
) -> Any:
    """Draw score against labels: for each name the mean over its seeds as a line, their spread as a band.

    Args:
        curves: for each name a history, or one history or curve per seed: a curve is `(R,)` label counts and `(R,)`
            scores. Seeds are averaged at the label counts that all of them share. The first name is drawn on top.
        path: where to write the picture too; its suffix (`.png`, `.svg`, `.pdf`) chooses the format. The file is
            replaced as a whole.
        metric: of the histories. Default: the most telling one that all have.
        ylabel: name of the score. Default: the metric's name, or `"test accuracy"` for curves.
        title: a line above the picture.
        band: `"range"` from the lowest to the highest seed, `"std"` one standard deviation to either side, or
            `"interval"` the 95 % t interval of the mean. `None`: no band.
        saved: marked in the picture as the distance between the first two curves, where it has one.

    Returns:
        The `matplotlib.figure.Figure`, which a notebook shows.

    Raises:
        ConfigurationError: nothing to draw, or curves of one name without a label count in common.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> import tempfile, pathlib
        >>> random = [([10, 20, 30], [0.3, 0.5, 0.6]), ([10, 20, 30], [0.3, 0.4, 0.6])]
        >>> ours = [([10, 20, 30], [0.3, 0.7, 0.8]), ([10, 20, 30], [0.3, 0.6, 0.7])]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     picture = pathlib.Path(folder) / "curves.png"
        ...     _ = learning_curves({"diffusion": ours, "random": random}, picture)
        ...     picture.read_bytes()[1:4]
        b'PNG'
    """
    if not curves:
        raise ConfigurationError("Expected argument `curves` to hold at least one name, but got none.")
    if band not in ("range", "std", "interval", None):
        raise ConfigurationError(
            f"Expected argument `band` to be 'range', 'std', 'interval' or None, but got {band!r}."
        )
    drawn, found = _as_curves(curves, metric)
    summaries = {name: _summary(name, seeds, band) for name, seeds in drawn.items()}
    width = 6.0 + max(1.2, 0.1 * max(map(len, summaries)))  # room for the longest name beside the axes
    height = max(4.5, 1.4 + 0.25 * len(summaries))
    figure = new_figure(width, height)
    axes = figure.add_axes((0.61 / width, 0.145, 5.44 / width, 0.70))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(summaries)}
    markers = {name: _MARKERS[number // len(COLOURS) % len(_MARKERS)] for number, name in enumerate(summaries)}
    crowded = len(summaries) > 4
    for depth, (name, (counts, mean, low, high)) in enumerate(reversed(list(summaries.items()))):
        alpha = 0.08 if crowded else 0.16
        axes.fill_between(counts, low, high, color=colours[name], alpha=alpha, linewidth=0, zorder=2 + depth)
        style = {"solid_capstyle": "round", "marker": markers[name], "clip_on": False}
        style |= {"linewidth": 1.6, "markersize": 3.0} if crowded else {"linewidth": 2.2, "markersize": 3.8}
        axes.plot(counts, mean, color=colours[name], zorder=20 + depth, **style)
    if saved is not None and saved.saved:
        _mark_saving(axes, saved)
    _style_axes(figure, axes, summaries, ylabel or found or "test accuracy", title)
    _name_lines(figure, axes, {name: mean[-1] for name, (_, mean, _, _) in summaries.items()}, colours)
    figure.text(0.61 / width, 0.018, _caption(drawn, band), color=MUTED, fontsize=8)
    if path is not None:
        with replacing(path) as temporary:
            figure.savefig(temporary)
    return figure


def _as_curves(
    curves: Mapping[str, History | Sequence[History | Curve]], metric: str | None
) -> tuple[dict[str, list[Curve]], str | None]:
    """Curves by name, and the metric that they are of where histories were given."""
    seeds = {name: [value] if isinstance(value, History) else list(value) for name, value in curves.items()}
    histories = [seed for group in seeds.values() for seed in group if isinstance(seed, History)]
    if histories and metric is None:
        known = [names_of(history, "metrics") for history in histories]
        shared = [name for name in known[0] if all(name in names for names in known)]
        if not shared:
            raise ConfigurationError("The histories have no metric in common: give curves, or log the same metrics.")
        metric = ranked_metrics(shared)[0]
    found = {
        name: [seed.curve(str(metric)) if isinstance(seed, History) else seed for seed in group]
        for name, group in seeds.items()
    }
    return found, metric


def _summary(
    name: str, seeds: Sequence[Curve], band: str | None
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Label counts that all seeds share, and mean, lower and upper edge of the scores there; `(R,)` each."""
    tables = []
    for counts, scores in seeds:
        counts, scores = np.asarray(counts, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        if counts.ndim != 1 or counts.shape != scores.shape:
            raise ConfigurationError(
                f"Expected curves of {name!r} as two arrays of one shape (R,), "
                f"but got {counts.shape} and {scores.shape}."
            )
        tables.append(dict(zip(counts.tolist(), scores.tolist(), strict=True)))
    shared = sorted(set.intersection(*map(set, tables))) if tables else []
    if not shared:
        raise ConfigurationError(f"Expected curves of {name!r} with a label count in common, but got none.")
    values = np.array([[table[count] for count in shared] for table in tables])
    mean = values.mean(axis=0)
    if band == "std":
        return np.array(shared), mean, mean - values.std(axis=0), mean + values.std(axis=0)
    if band is None:
        return np.array(shared), mean, mean, mean
    if band == "interval":
        _, low, high = mean_intervals(values)
        return np.array(shared), mean, np.fmin(low, mean), np.fmax(high, mean)  # of one seed there is none
    return np.array(shared), mean, values.min(axis=0), values.max(axis=0)


def _style_axes(
    figure: Any, axes: Any, summaries: Mapping[str, Sequence[FloatArray]], ylabel: str, title: str | None
) -> None:
    ticker = require("matplotlib.ticker", extra="report")
    counts = np.concatenate([summary[0] for summary in summaries.values()])
    scores = np.concatenate([summary[1] for summary in summaries.values()])
    if scores.min() >= 0 and scores.max() <= 1:
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
        axes.set_ylim(top=min(1.0, axes.get_ylim()[1]))
    axes.set_xlim(counts.min(), counts.max() if counts.max() > counts.min() else counts.max() + 1)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=9, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#9A9A9A")
    axes.tick_params(length=0, labelsize=9, colors=MUTED, pad=6)
    axes.set_xlabel("labels", color=MUTED, fontsize=9.5, labelpad=5)
    if title is not None:
        figure.text(0.03, 0.945, title, color=INK, fontsize=12.5, fontweight="bold")
    figure.text(0.03, 0.885, ylabel, color=MUTED, fontsize=9.5)  # above the axis: no neck needs turning to read it


def _name_lines(figure: Any, axes: Any, ends: Mapping[str, float], colours: Mapping[str, str]) -> None:
    """Write each name at the end of its line, moved apart where lines end close together."""
    low, high = axes.get_ylim()
    gap = 0.17 / (0.70 * figure.get_figheight()) * (high - low)
    ranked = sorted(ends, key=lambda name: ends[name])
    heights = np.array([ends[name] for name in ranked])
    for _ in range(100):  # push overlapping neighbours apart evenly until none overlap
        short = np.maximum(gap - np.diff(heights), 0)
        if short.max(initial=0) < 1e-3 * gap:
            break
        heights[:-1] -= short / 2
        heights[1:] += short / 2
    heights -= max(0.0, heights[-1] - high)  # beside the axes, not above them
    transform = axes.get_yaxis_transform()
    for name, height in zip(ranked, heights, strict=True):
        style = {"color": colours[name], "fontsize": 10.5, "fontweight": "bold", "va": "center", "clip_on": False}
        axes.text(1.015, height, name, transform=transform, **style)


def _mark_saving(axes: Any, saved: LabelsSaved) -> None:
    """Drop both label counts to the foot of the picture, where no curve is, and name their distance there."""
    ours, baseline = saved.ours or 0.0, saved.baseline or 0.0
    low, high = axes.get_ylim()
    foot = low + 0.07 * (high - low)
    axes.plot([min(ours, baseline), max(ours, baseline)], [saved.target] * 2, color=INK, linewidth=0.9, zorder=10)
    axes.vlines([ours, baseline], low, saved.target, color=INK, linewidth=0.9, linestyle=(0, (1, 2.5)), zorder=10)
    arrow = {"arrowstyle": "<->", "color": INK, "linewidth": 1.0, "shrinkA": 1, "shrinkB": 1}
    axes.annotate("", (ours, foot), (baseline, foot), arrowprops=arrow, zorder=11)
    words = f"{abs(baseline - ours):g} labels {'saved' if ours < baseline else 'more'} at {saved.target:.1%}"
    place = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center", "va": "center"}
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    axes.annotate(words, ((ours + baseline) / 2, foot), **place, color=INK, fontsize=9, bbox=box, zorder=11)
    axes.set_ylim(low, high)


def _caption(curves: Mapping[str, Sequence[Curve]], band: str | None) -> str:
    sizes = sorted({len(seeds) for seeds in curves.values()})
    if sizes == [1]:
        return "One seed."
    number = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    if band is None:
        return f"Line: mean of {number} seeds."
    spread = {
        "range": "lowest to highest seed",
        "std": "one standard deviation to either side",
        "interval": "95 % t interval of the mean",
    }[band]
    return f"Line: mean of {number} seeds. Band: {spread}."
