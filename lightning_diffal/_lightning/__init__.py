"""The only place that imports Lightning or touches a private name of it.

A round is one fresh fit. What "fresh" means inside Lightning is written down here, a function a fact;
`tests/test_lightning_names.py` asserts each private name, so that a new Lightning says what it broke.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_diffal._lightning import names
from lightning_diffal._lightning.checkpoints import (
    best_checkpoint,
    checkpoint_files,
    monitors,
    name_rounds,
    reset_model_checkpoints,
    rest_monitors,
)
from lightning_diffal._lightning.fresh import (
    Pristine,
    configure_optimizers,
    pristine_callbacks,
    reset_results,
    restart_callbacks,
)
from lightning_diffal._lightning.loaders import (
    discard_train_loader,
    loader_state,
    look_at_validation,
    reloads_loaders,
    resume_loaders,
)
from lightning_diffal._lightning.loop import (
    LoopLimits,
    continue_steps,
    fresh_fit_loop,
    global_batches,
    is_complete,
    plain_view,
    stopped_inside_epoch,
)
from lightning_diffal._lightning.names import (
    NAMESPACE,
    FitLoop,
    MisconfigurationException,
    MultiProcessingLauncher,
    TrainerFn,
    is_overridden,
    pl,
    pl_callbacks,
    rank_zero_info,
    rank_zero_warn,
)
from lightning_diffal._lightning.passes import batch_to_device, evaluate, feature_pass, muted_steps, running_eagerly
from lightning_diffal._lightning.trainer import (
    callbacks_of,
    datamodule_of,
    ends_with_more,
    finds_settings,
    is_rehearsal,
    is_supported,
    lives_for_one_fit,
    never_trains,
    other_namespace_hint,
    received_sigterm,
    rest_finders,
    restores_late,
    share_hyperparameters,
    share_of_data,
    user_sampler,
    wake_finders,
    was_interrupted,
)

if TYPE_CHECKING:
    from lightning_diffal._lightning.names import LightningCLI

__all__ = [
    "NAMESPACE",
    "FitLoop",
    "LightningCLI",
    "LoopLimits",
    "MisconfigurationException",
    "MultiProcessingLauncher",
    "Pristine",
    "TrainerFn",
    "batch_to_device",
    "best_checkpoint",
    "callbacks_of",
    "checkpoint_files",
    "configure_optimizers",
    "continue_steps",
    "datamodule_of",
    "discard_train_loader",
    "ends_with_more",
    "evaluate",
    "feature_pass",
    "finds_settings",
    "fresh_fit_loop",
    "global_batches",
    "is_complete",
    "is_overridden",
    "is_rehearsal",
    "is_supported",
    "lives_for_one_fit",
    "loader_state",
    "look_at_validation",
    "monitors",
    "muted_steps",
    "name_rounds",
    "never_trains",
    "other_namespace_hint",
    "pl",
    "pl_callbacks",
    "plain_view",
    "pristine_callbacks",
    "rank_zero_info",
    "rank_zero_warn",
    "received_sigterm",
    "reloads_loaders",
    "reset_model_checkpoints",
    "reset_results",
    "rest_finders",
    "rest_monitors",
    "restart_callbacks",
    "restores_late",
    "resume_loaders",
    "running_eagerly",
    "share_hyperparameters",
    "share_of_data",
    "stopped_inside_epoch",
    "user_sampler",
    "wake_finders",
    "was_interrupted",
]


def __getattr__(name: str) -> Any:
    if name == "LightningCLI":  # imports the optional jsonargparse
        return names.LightningCLI
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
