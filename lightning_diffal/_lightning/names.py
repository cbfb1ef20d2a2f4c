"""Lightning itself: the package in use, of the two that there are, and the names of it that others take from here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lightning_diffal._namespace import choose_namespace

NAMESPACE = choose_namespace()

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from lightning_fabric.utilities.exceptions import MisconfigurationException
    from pytorch_lightning import callbacks as pl_callbacks
    from pytorch_lightning.cli import LightningCLI
    from pytorch_lightning.loops.fit_loop import _FitLoop as FitLoop
    from pytorch_lightning.strategies.launchers.multiprocessing import (
        _MultiProcessingLauncher as MultiProcessingLauncher,
    )
    from pytorch_lightning.trainer.states import TrainerFn
    from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
    from pytorch_lightning.utilities.model_helpers import is_overridden
else:
    pl = importlib.import_module(NAMESPACE)
    pl_callbacks = importlib.import_module(f"{NAMESPACE}.callbacks")
    FitLoop = importlib.import_module(f"{NAMESPACE}.loops.fit_loop")._FitLoop
    _launchers = importlib.import_module(f"{NAMESPACE}.strategies.launchers.multiprocessing")
    MultiProcessingLauncher = _launchers._MultiProcessingLauncher
    TrainerFn = importlib.import_module(f"{NAMESPACE}.trainer.states").TrainerFn
    _utilities = importlib.import_module(f"{NAMESPACE}.utilities")
    rank_zero_info, rank_zero_warn = _utilities.rank_zero_info, _utilities.rank_zero_warn
    MisconfigurationException = importlib.import_module(f"{NAMESPACE}.utilities.exceptions").MisconfigurationException
    is_overridden = importlib.import_module(f"{NAMESPACE}.utilities.model_helpers").is_overridden

__all__ = [
    "NAMESPACE",
    "FitLoop",
    "LightningCLI",
    "MisconfigurationException",
    "MultiProcessingLauncher",
    "TrainerFn",
    "is_overridden",
    "pl",
    "pl_callbacks",
    "rank_zero_info",
    "rank_zero_warn",
]


def __getattr__(name: str) -> Any:
    if name == "LightningCLI":  # imports the optional jsonargparse
        return importlib.import_module(f"{NAMESPACE}.cli").LightningCLI
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
