"""The pictures of a report, each from what a run kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lightning_diffal.exceptions import ConfigurationError, FeatureError
from lightning_diffal.history.tables import names_of
from lightning_diffal.report.run import RunView
from lightning_diffal.utils.aliases import FloatArray
from lightning_diffal.utils.extras import require
from lightning_diffal.utils.figures import COLOURS, INK, MUTED, new_figure, plain_axes
from lightning_diffal.utils.seeding import isolated_random_state

__all__ = ["class_balance", "exploration", "metric_curves", "pool_map", "projected"]


_CLASSES = 30  # rows of the picture of classes
_PANELS = 8
_EXACT_DIMENSIONS = 2048  # of features; above, the matrix of covariances costs more than the picture is worth
_SHOWN_POOL = 20_000  # more points of the pool on the map than this are a sample


def metric_curves(view: RunView, metrics: Sequence[str] | None = None) -> Any:
    """One panel a metric, against the number of labels; `None` where no round has one.

    Args:
        view: the run.
        metrics: their names. Default: the first eight.
    """
    known = names_of(view.history, "metrics")
    unknown = [name for name in metrics or () if name not in known]
    if unknown:
        raise ConfigurationError(
            f"Expected argument `metrics` to name some of {', '.join(known) or 'none'}, but got {unknown[0]!r}."
        )
    names = list(metrics or known[:_PANELS])
    if not names:
        return None
    columns = 1 if len(names) == 1 else 2
    rows = math.ceil(len(names) / columns)
    figure = new_figure(7.2, 0.5 + (3.2 if columns == 1 else 2.1) * rows)
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for panel, name, colour in zip(panels, names, COLOURS * len(names), strict=False):
        counts, values = view.history.curve(name)
        panel.plot(counts, values, color=colour, linewidth=1.8, marker="o", markersize=3.2)
        plain_axes(panel, name, "labels")
        _whole_numbers(panel.xaxis)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    figure.tight_layout()
    return figure


def class_balance(view: RunView) -> Any:
    """How many labels of each class were held in each round; `None` where no label is known."""
    counts: list[Counter[int]] = [
        Counter(c for index in record.labelled.tolist() for c in view.classes_of(index)) for record in view.history
    ]
    total = sum(counts, Counter())
    if not total:
        return None
    classes = sorted(c for c, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:_CLASSES])
    table = np.array([[count[c] for count in counts] for c in classes])
    figure = new_figure(7.2, 1.1 + 0.24 * len(classes))
    axes = figure.add_subplot()
    shares = table / np.maximum(table.sum(axis=0), 1)
    axes.imshow(shares, aspect="auto", cmap="Blues", vmin=0, vmax=max(shares.max(), 1e-9) * 1.25)
    if len(counts) <= 30:
        for (row, column), value in np.ndenumerate(table):
            dark = shares[row, column] > 0.7 * shares.max()
            axes.text(column, row, str(value), ha="center", va="center", fontsize=7, color="white" if dark else INK)
    plain_axes(axes, "Labels of each class, by round; the darker, the larger its share", "round")
    axes.grid(visible=False)
    axes.set_yticks(range(len(classes)))
    axes.set_yticklabels([_short(view.class_name(c)) for c in classes], parse_math=False)
    rounds = [record.round for record in view.history]
    _whole_numbers(axes.xaxis)
    axes.xaxis.set_major_formatter(lambda x, _: str(rounds[int(x)]) if 0 <= x < len(rounds) else "")
    figure.tight_layout()
    return figure


def exploration(view: RunView) -> Any:
    """Share of each query that explored, and labels that reach a point of the pool; `None` without diffusion."""
    found = [(r.n_labelled, r.query.summary) for r in view.history if r.query is not None]
    found = [(n, summary) for n, summary in found if "exploration_share" in summary]
    if not found:
        return None
    figure = new_figure(7.2, 2.6)
    left, right = figure.subplots(1, 2)
    counts = [n for n, _ in found]
    left.plot(counts, [s["exploration_share"] for _, s in found], color=COLOURS[0], marker="o", markersize=3.2)
    plain_axes(left, "Share of each query that explored", "labels when it was asked")
    left.set_ylim(-0.03, 1.03)
    left.yaxis.set_major_formatter(require("matplotlib.ticker", extra="report").PercentFormatter(1.0, decimals=0))
    reached = [(n, s["mean_label_equivalents"]) for n, s in found if "mean_label_equivalents" in s]
    right.plot([n for n, _ in reached], [e for _, e in reached], color=COLOURS[1], marker="o", markersize=3.2)
    right.axhline(3, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
    plain_axes(right, "Labels that reach a point (3: explored)", "labels when it was asked")
    for axes in (left, right):
        _whole_numbers(axes.xaxis)
    figure.tight_layout()
    return figure


def pool_map(view: RunView, features: npt.ArrayLike) -> Any:
    """All points in the plane in which their features spread most, coloured by whether and when they were labelled.

    Args:
        view: the run.
        features: `(N, D)`, one row a point of the training data set.
    """
    points = projected(features)
    if view.n_points is not None and len(points) != view.n_points:
        raise ConfigurationError(
            f"Expected argument `features` to have a row for each of the {view.n_points} points of the training data "
            f"set, but got {len(points)}."
        )
    labelled = np.array(sorted(view.arrived), dtype=np.int64)
    pending, skipped = (np.array(sorted(chosen), dtype=np.int64) for chosen in (view.pending, view.skipped))
    most = max((int(part.max()) for part in (labelled, pending, skipped) if len(part)), default=-1)
    if most >= len(points):
        raise ConfigurationError(
            f"Expected argument `features` to have a row for each point, but got {len(points)} and point {most} was "
            "asked."
        )
    pool = np.setdiff1d(np.arange(len(points)), np.concatenate([labelled, pending, skipped]))
    name = f"pool ({len(pool):,})"
    if len(pool) > _SHOWN_POOL:
        name = f"pool ({_SHOWN_POOL:,} of {len(pool):,})"
        pool = np.sort(np.random.default_rng(0).choice(pool, _SHOWN_POOL, replace=False))
    figure = new_figure(7.2, 5.2)
    axes = figure.add_subplot()
    axes.scatter(*points[pool].T, s=5, color="#D0D0D0", linewidths=0, label=name, zorder=1)
    rounds = np.array([view.arrived[i] for i in labelled.tolist()], dtype=np.int64)
    first = labelled[rounds == 0]
    axes.scatter(*points[first].T, s=26, marker="D", color=INK, linewidths=0, label="labelled at the start", zorder=3)
    later = labelled[rounds > 0]
    if len(later):
        drawn = axes.scatter(*points[later].T, s=18, c=rounds[rounds > 0], cmap="plasma", linewidths=0, zorder=4)
        bar = figure.colorbar(drawn, ax=axes, fraction=0.03, pad=0.02)
        bar.set_label("labelled for round", color=MUTED, fontsize=8.5)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=8, colors=MUTED)
        _whole_numbers(bar.ax.yaxis)
    for part, name, marker, colour in (
        (pending, "asked, no answer yet", "o", "#D55E00"),
        (skipped, "skipped", "x", INK),
    ):
        if len(part):
            style = {"facecolors": "none", "edgecolors": colour} if marker == "o" else {"color": colour}
            axes.scatter(*points[part].T, s=24, marker=marker, linewidths=1.1, label=name, zorder=5, **style)
    plain_axes(axes)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(loc="upper left", fontsize=8, frameon=True, framealpha=0.8, edgecolor="none")
    figure.tight_layout()
    return figure


def projected(features: npt.ArrayLike) -> FloatArray:
    """The first two principal components of the points.

    Args:
        features: `(N, D)` finite numbers.

    Returns:
        `(N, 2)`; zeros in the second column where the points lie on a line.

    Raises:
        ConfigurationError: not a matrix of numbers with at least one row.
        FeatureError: numbers that are not finite.

    Example:
        >>> projected([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]).round(3)[:, 0]
        array([-1.414,  0.   ,  1.414], dtype=float32)
    """
    matrix = np.asarray(features)
    if matrix.ndim != 2 or matrix.dtype.kind not in "iufb" or 0 in matrix.shape:
        raise ConfigurationError(
            f"Expected argument `features` to be a matrix of numbers `(N, D)`, but got {matrix.dtype} of shape "
            f"{matrix.shape}."
        )
    rows = torch.from_numpy(np.array(matrix, dtype=np.float32))
    broken = torch.nonzero(~torch.isfinite(rows).all(dim=1)).flatten()
    if len(broken):
        raise FeatureError(f"Features have to be finite, but those of points {broken[:5].tolist()} are not.")
    rows = rows - rows.mean(dim=0)
    rank = min(2, *rows.shape)
    if rows.shape[1] <= _EXACT_DIMENSIONS:
        wide = rows.double()
        axes = torch.linalg.eigh(wide.T @ wide).eigenvectors.float().flip(1)
    else:
        with isolated_random_state(0):  # the search for the subspace begins at random
            axes = torch.pca_lowrank(rows, q=min(16, *rows.shape), center=False, niter=8)[2]
    axes = axes[:, :rank]
    largest = axes.abs().argmax(dim=0)
    axes = axes * torch.sign(axes[largest, torch.arange(rank)])  # one of the two directions, always the same
    found = np.zeros((len(rows), 2), dtype=np.float32)
    found[:, :rank] = (rows @ axes).numpy()
    return found


def _whole_numbers(axis: Any) -> None:
    axis.set_major_locator(
        require("matplotlib.ticker", extra="report").MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10])
    )


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
