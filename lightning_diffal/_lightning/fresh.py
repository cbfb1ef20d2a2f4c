"""What a fresh fit starts from: metrics, optimizers, and callbacks whose life is one training."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torchmetrics import Metric

from lightning_diffal._lightning.names import pl, pl_callbacks, rank_zero_warn
from lightning_diffal._lightning.trainer import callbacks_of

__all__ = ["Pristine", "configure_optimizers", "pristine_callbacks", "reset_results", "restart_callbacks"]

# Callbacks whose life is one training. WeightAveraging (and EMA with it) came with Lightning 2.6.
_ONE_TRAINING: tuple[type, ...] = tuple(
    getattr(pl_callbacks, name)
    for name in ("EarlyStopping", "StochasticWeightAveraging", "BaseFinetuning", "Timer", "WeightAveraging")
    if hasattr(pl_callbacks, name)
)


# They change the module itself for good, so a second training cannot start from where the first did.
_CANNOT_RESTART: tuple[type, ...] = (pl_callbacks.ModelPruning,)


def reset_results(trainer: pl.Trainer, round_: int) -> None:
    """Empty metrics, as before a fit; the round stands among them so that checkpoint files can name it."""
    for module in trainer.lightning_module.modules():
        if isinstance(module, Metric):
            module.reset()
    trainer._logger_connector.reset_results()
    trainer._logger_connector.reset_metrics()
    trainer.callback_metrics["round"] = torch.tensor(round_)


def configure_optimizers(trainer: pl.Trainer, precision_state: Mapping[str, Any]) -> None:
    """New optimizers and schedulers from the model, and the precision plugin (loss scale) as at the start."""
    trainer.lightning_module.zero_grad()
    trainer.precision_plugin.load_state_dict(copy.deepcopy(dict(precision_state)))
    trainer.strategy.setup_optimizers(trainer)
    trainer.strategy.setup_precision_plugin()


class Pristine(NamedTuple):
    """A callback and its state from before its first `setup`. It is held on to, so that its `id` stays its own."""

    callback: pl.Callback
    state: dict[str, Any]


def pristine_callbacks(trainer: pl.Trainer, known: Mapping[int, Pristine]) -> dict[int, Pristine]:
    """The callbacks that live for one training, by `id`, as they were before their `setup`.

    Args:
        trainer: its callbacks are looked at.
        known: what earlier fits found; it is kept, since the same callbacks have trained meanwhile.
    """
    for callback in callbacks_of(trainer):
        if isinstance(callback, _CANNOT_RESTART):
            rank_zero_warn(
                f"{type(callback).__name__} changes the model for good, so rounds after the first do not start "
                "from the same model. Leave it out while labels are being bought."
            )
    new = [c for c in callbacks_of(trainer) if isinstance(c, _ONE_TRAINING) and id(c) not in known]
    return {**known, **{id(c): Pristine(c, copy.deepcopy(vars(c))) for c in new}}


def restart_callbacks(trainer: pl.Trainer, pristine: Mapping[int, Pristine], hook: str) -> None:
    """Live the beginning of a fit again: `hook="setup"` (with the state put back), then `"on_fit_start"`."""
    module = trainer.lightning_module
    for callback in callbacks_of(trainer):
        if id(callback) not in pristine:
            continue
        if hook == "setup":
            vars(callback).clear()
            vars(callback).update(copy.deepcopy(pristine[id(callback)].state))
            callback.setup(trainer, module, "fit")
        else:
            callback.on_fit_start(trainer, module)
