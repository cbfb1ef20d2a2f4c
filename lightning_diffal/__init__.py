"""Active learning for PyTorch Lightning by diffusion on the graph of features.

Names resolve when they are first used, so that the samplers, the graph and the diffusion work without importing
Lightning, and so that the Lightning package in use is known by then.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_diffal._namespace import for_lightning

if TYPE_CHECKING:
    from lightning_diffal import (
        comparison,
        data,
        datasets,
        diffusion,
        exceptions,
        features,
        fresh_trainers,
        graph,
        history,
        labels,
        metrics,
        neighbors,
        oracle,
        pseudo_labels,
        report,
        samplers,
        selection,
        statistics,
        stopping,
        view,
    )
    from lightning_diffal.callback import ActiveLearning
    from lightning_diffal.data.datamodule import ActiveDataModule
    from lightning_diffal.loop import ActiveLearningLoop
    from lightning_diffal.pseudo_labels import PseudoLabels
    from lightning_diffal.samplers import DiffusionSampler, Query, QueryData, QuerySampler

__version__ = "0.2.0"

__all__ = [
    "ActiveDataModule",
    "ActiveLearning",
    "ActiveLearningLoop",
    "DiffusionSampler",
    "PseudoLabels",
    "Query",
    "QueryData",
    "QuerySampler",
    "comparison",
    "data",
    "datasets",
    "diffusion",
    "exceptions",
    "features",
    "for_lightning",
    "fresh_trainers",
    "graph",
    "history",
    "labels",
    "metrics",
    "neighbors",
    "oracle",
    "pseudo_labels",
    "report",
    "samplers",
    "selection",
    "statistics",
    "stopping",
    "view",
]

_HOME = {
    "ActiveDataModule": "data.datamodule",
    "ActiveLearning": "callback",
    "ActiveLearningLoop": "loop",
    "DiffusionSampler": "samplers",
    "PseudoLabels": "pseudo_labels",
    "Query": "samplers",
    "QueryData": "samplers",
    "QuerySampler": "samplers",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
