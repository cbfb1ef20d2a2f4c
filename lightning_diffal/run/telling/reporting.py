"""What a run keeps for its report as it goes, and the report that it writes after each round."""

from __future__ import annotations

import time

import numpy as np

from lightning_diffal._lightning import pl, rank_zero_warn
from lightning_diffal.exceptions import ConfigurationError, DiffalError
from lightning_diffal.report.kept import keep_facts, keep_items, keep_projection
from lightning_diffal.report.page import html_report
from lightning_diffal.run.context import RunContext
from lightning_diffal.run.telling.hyperparameters import hyperparameters
from lightning_diffal.samplers.base import Query, QueryData
from lightning_diffal.utils.phases import announce

__all__ = ["describe_run", "keep_for_report", "write_report"]

REPORT = "report.html"
_SAMPLE = 300  # points that were not asked and are shown on the map all the same


def describe_run(context: RunContext, module: pl.LightningModule) -> None:
    """Write down what the run is, when it begins.

    Args:
        context: the run, its folder open.
        module: the model.

    Raises:
        ConfigurationError: a report is wanted of a run that writes nothing.
    """
    if context.settings.report and context.settings.run_dir is False:
        raise ConfigurationError(
            "ActiveLearning(report=True) writes report.html into the run's folder, but run_dir=False keeps none: leave "
            "run_dir out, or write one yourself: lightning_diffal.report.html_report(active.history, path, data=data)."
        )
    if context.folder is None:
        return
    data = context.data
    source = data.pool_dataset or data.train_dataset
    limits = {name: value for name, value in context.limits._asdict().items() if value not in (None, -1)}
    about = {
        "started": time.strftime("%Y-%m-%d %H:%M"),
        "model": type(module).__name__,
        "data": type(source).__name__,
        "trained": ", ".join(f"{name}={value}" for name, value in limits.items()),
    }
    keep_facts(context.folder.path, {**about, **hyperparameters(context)})


def keep_for_report(context: RunContext, known: QueryData, query: Query) -> None:
    """Keep a small projection of the features that a query went by, and with `report=True` how its points look.

    Args:
        context: the run.
        known: what the sampler was shown.
        query: what it chose.
    """
    folder, data = context.folder, context.data
    rows = known.features if known.features is not None else known.probabilities
    if folder is None:
        return
    try:
        if rows is not None and len(rows) > 2:
            asked = np.concatenate([known.labelled, known.pending, query.indices])
            keep_projection(folder.path, rows, asked, context.state.round)
        if context.settings.report:
            announce("keeping pictures for the report")
            spread = np.unique(np.linspace(0, len(data.pool) - 1, min(_SAMPLE, len(data.pool))).astype(np.int64))
            shown = [*query.indices.tolist(), *known.labelled[:_SAMPLE].tolist(), *spread.tolist()]
            keep_items(folder.path, data, shown)
    except OSError as error:
        rank_zero_warn(f"What the report needs could not be kept ({error}): the run goes on without it.")


def write_report(context: RunContext) -> None:
    """Write the report, where the user wants one. Whatever is wrong with it, the run goes on.

    Args:
        context: the run.
    """
    if not context.settings.report or context.folder is None:
        return
    announce("writing the report")
    try:
        html_report(context.folder.path, context.folder.path / REPORT)
    except (OSError, DiffalError) as error:
        rank_zero_warn(f"The report could not be written ({error}): the run goes on. Later: diffal report")
