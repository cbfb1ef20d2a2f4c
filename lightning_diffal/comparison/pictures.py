"""Pictures of a comparison. Needs the extra `report` (matplotlib)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from lightning_diffal.comparison.curves import LearningCurves
from lightning_diffal.comparison.records import Difference
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.report import learning_curves
from lightning_diffal.utils.extras import require
from lightning_diffal.utils.figures import COLOURS, GRID, INK, MUTED, new_figure
from lightning_diffal.utils.storage.files import replacing

__all__ = ["curves", "differences"]

_LINE = COLOURS[0]
_COLUMNS = 3
_BANDS = 6  # samplers whose bands can still be told apart; the panels of differences show them for any number


def curves(comparison: LearningCurves, path: str | os.PathLike[str]) -> None:
    """Draw the learning curves.

    Args:
        comparison: what was found.
        path: the picture.
    """
    title = f"{comparison.title}: samplers compared" if comparison.title else "Samplers compared"
    band: Literal["interval"] | None = "interval" if len(comparison.names) <= _BANDS else None
    learning_curves(comparison.curves, path, ylabel=comparison.metric, title=title, band=band)


def differences(comparison: LearningCurves, found: Sequence[Difference], path: str | os.PathLike[str]) -> None:
    """Draw a panel a sampler: its mean difference to the reference, pointwise interval and simultaneous lower band.

    Args:
        comparison: what was found.
        found: the differences.
        path: the picture.

    Raises:
        ConfigurationError: there is no difference to draw.
    """
    if not found:
        raise ConfigurationError("Expected two samplers with a seed in common at least, but got no difference to draw.")
    n_columns = min(_COLUMNS, len(found))
    n_rows = -(-len(found) // n_columns)
    width, height = max(7.2, 3.2 * n_columns), 2.5 * n_rows + 1.45
    figure = new_figure(width, height)
    panels = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).reshape(-1)
    for panel, difference in zip(panels, found, strict=False):
        _draw(panel, comparison.counts, difference)
    for panel in panels[len(found) :]:
        panel.set_visible(False)
    for panel in panels[max(0, len(found) - n_columns) : len(found)]:
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("labels", color=MUTED, fontsize=9)
    figure.subplots_adjust(
        left=0.75 / width,
        right=1 - 0.2 / width,
        top=1 - 0.95 / height,
        bottom=1.0 / height,
        hspace=0.5,
        wspace=0.12,
    )
    title = f"{comparison.title}: " if comparison.title else ""
    heading = f"{title}difference to {found[0].against}"
    figure.text(0.2 / width, 1 - 0.35 / height, heading, color=INK, fontsize=12.5, weight="bold")
    figure.text(0.2 / width, 0.15 / height, _caption(comparison, found), color=MUTED, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary)


def _draw(panel: Any, counts: Any, difference: Difference) -> None:
    ticker = require("matplotlib.ticker", extra="report")
    panel.axhline(0, color=INK, linewidth=0.9)
    if len(difference.seeds) > 1:
        panel.fill_between(counts, difference.low, difference.high, color=_LINE, alpha=0.18, linewidth=0)
        panel.plot(counts, difference.band_low, color=_LINE, linewidth=0.9, linestyle=(0, (4, 2)))
    panel.plot(counts, difference.mean, color=_LINE, linewidth=1.8, marker="o", markersize=2.6)
    panel.set_title(difference.name, loc="left", color=INK, fontsize=9.5, weight="bold", pad=18)
    words = f"area {difference.area.mean:+.4f}"
    if np.isfinite(difference.area.low):
        words += f"  [{difference.area.low:+.4f}, {difference.area.high:+.4f}]"
    panel.text(0, 1.04, words, transform=panel.transAxes, color=MUTED, fontsize=7.5, va="bottom")
    panel.grid(axis="y", color=GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.xaxis.set_major_locator(ticker.MaxNLocator(nbins=6, integer=True))
    panel.yaxis.set_major_formatter(ticker.FormatStrFormatter("%+.2f"))
    panel.tick_params(length=0, labelsize=8, colors=MUTED)
    for side in panel.spines.values():
        side.set_visible(False)


def _caption(comparison: LearningCurves, found: Sequence[Difference]) -> str:
    sizes = sorted({len(difference.seeds) for difference in found})
    if sizes == [1]:
        return f"{comparison.metric}, one seed."
    number = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return (
        f"{comparison.metric}, paired by seed. Line: mean of {number} seeds.\n"
        "Band: 95 % t interval at each count. Dashed: 95 % simultaneous lower band."
    )
