"""What a run is, as loggers and reports list it."""

from __future__ import annotations

from typing import Any

from lightning_diffal.monitor.monitor import versions
from lightning_diffal.monitor.rows import describe_sampler
from lightning_diffal.run.context import RunContext
from lightning_diffal.utils.jsonable import stable_repr

__all__ = ["hyperparameters"]


def hyperparameters(context: RunContext) -> dict[str, Any]:
    """Settings, data set, seed, run id and versions: what is needed to do it again.

    Args:
        context: the run, before its first round or after.

    Returns:
        Numbers and strings by name.
    """
    settings, data, history = context.settings, context.data, context.state.history
    initial = history[0].n_labelled if len(history) else len(data.labelled_indices)
    return {
        "run": None if context.folder is None else context.folder.journal.run,
        **describe_sampler(settings.sampler),
        "query_size": settings.query_size,
        "max_rounds": settings.max_rounds,
        "budget": settings.budget,
        "initial_labels": initial,
        "n_points": len(data.pool),
        "num_classes": data.num_classes,
        "seed": context.state.seed,
        "oracle": type(settings.oracle).__name__,
        "features": settings.features,
        "reset": settings.reset,
        "weights": settings.weights,
        "pseudo_labels": settings.pseudo_labels is not None,
        "stopping": ", ".join(stable_repr(rule) for rule in settings.stopping) or None,
        **{f"version/{package}": number for package, number in versions().items()},
    }
