"""Learning curves of one run as a figure."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.history.main_metric import ranked_metrics
from lightning_diffal.history.record import RoundRecord
from lightning_diffal.history.tables import names_of
from lightning_diffal.utils.extras import require
from lightning_diffal.utils.figures import COLOURS, new_figure, plain_axes
from lightning_diffal.utils.storage.files import replacing

__all__ = ["plot_history"]

_PANELS = 4


def plot_history(
    history: Sequence[RoundRecord], metrics: Sequence[str] | None, path: str | os.PathLike[str] | None
) -> Any:
    """One panel per metric, against the number of labels.

    Args:
        history: of a run.
        metrics: their names. Default: the most telling ones.
        path: where to write the picture too.

    Raises:
        ConfigurationError: nothing to draw.
        MissingExtraError: matplotlib is not installed.
    """
    names = list(metrics) if metrics is not None else ranked_metrics(names_of(history, "metrics"))[:_PANELS]
    if not names:
        raise ConfigurationError("The history has no metric to draw: log some in `validation_step` or `test_step`.")
    known = names_of(history, "metrics")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigurationError(f"Expected metrics out of {', '.join(known) or 'none'}, but got {unknown[0]!r}.")
    found = {name: [(r.n_labelled, r.metrics[name]) for r in history if name in r.metrics] for name in names}
    columns = min(2, len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(3.6 * columns + (1.2 if columns == 1 else 0.0), 2.6 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    locator = require("matplotlib.ticker", extra="report").MaxNLocator
    for panel, name, colour in zip(panels, names, COLOURS * len(names), strict=False):
        counts, values = zip(*found[name], strict=True)
        panel.plot(counts, values, color=colour, linewidth=1.8, marker="o", markersize=3.2)
        plain_axes(panel, name, "labels")
        panel.xaxis.set_major_locator(locator(nbins=6, integer=True))
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    figure.tight_layout()
    if path is not None:
        with replacing(path) as temporary:
            figure.savefig(temporary)
    return figure
