"""What a Trainer was told, who takes part in it, and how its processes are laid out."""

from __future__ import annotations

import importlib
from typing import Any

from torch.utils.data import DistributedSampler

from lightning_diffal._lightning.names import NAMESPACE, MultiProcessingLauncher, is_overridden, pl, pl_callbacks

__all__ = [
    "callbacks_of",
    "datamodule_of",
    "ends_with_more",
    "finds_settings",
    "is_rehearsal",
    "is_supported",
    "lives_for_one_fit",
    "never_trains",
    "other_namespace_hint",
    "received_sigterm",
    "rest_finders",
    "restores_late",
    "share_hyperparameters",
    "share_of_data",
    "user_sampler",
    "wake_finders",
    "was_interrupted",
]


def callbacks_of(trainer: Any) -> list[pl.Callback]:
    """The Trainer's own list of callbacks (set by a connector, where type checkers do not see it)."""
    callbacks: list[pl.Callback] = trainer.callbacks
    return callbacks


def datamodule_of(trainer: Any) -> pl.LightningDataModule | None:
    """The data module given to this call of the Trainer, if any."""
    datamodule: pl.LightningDataModule | None = getattr(trainer, "datamodule", None)
    return datamodule


def ends_with_more(trainer: Any) -> bool:
    """Whether somebody does something when a training ends, other than to write files or to show it."""
    shows = (pl_callbacks.Checkpoint, pl_callbacks.ProgressBar, pl_callbacks.Timer)
    package = __name__.partition(".")[0]  # what this package does at the end of a round changes no weights
    callbacks = [
        c for c in callbacks_of(trainer) if not isinstance(c, shows) and type(c).__module__.partition(".")[0] != package
    ]
    return is_overridden("on_train_end", trainer.lightning_module) or any(
        is_overridden("on_train_end", callback, parent=pl.Callback) for callback in callbacks
    )


_FINDERS = (pl_callbacks.LearningRateFinder, pl_callbacks.BatchSizeFinder)


def finds_settings(trainer: pl.Trainer) -> bool:
    """Whether a callback trains for itself before the fit does, to find a learning rate or a batch size."""
    return not is_rehearsal(trainer) and any(isinstance(c, _FINDERS) for c in callbacks_of(trainer))


def rest_finders(trainer: pl.Trainer) -> None:
    """Keep callbacks that search for a setting from training in this fit, where there is nothing to train on yet."""
    for callback in callbacks_of(trainer):
        if isinstance(callback, _FINDERS):
            vars(callback)["on_fit_start"] = _do_nothing


def wake_finders(trainer: pl.Trainer) -> None:
    """Let callbacks that search for a setting do so again."""
    for callback in callbacks_of(trainer):
        if vars(callback).get("on_fit_start") is _do_nothing:
            del vars(callback)["on_fit_start"]


def _do_nothing(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """In place of a hook."""


def is_rehearsal(trainer: Any) -> bool:
    """Whether the Trainer only tries things out: `fast_dev_run` or `overfit_batches`."""
    return bool(trainer.fast_dev_run or trainer.overfit_batches)


def was_interrupted(trainer: Any) -> bool:
    """Whether Ctrl-C ended what the Trainer did last."""
    return str(getattr(trainer.state.status, "value", trainer.state.status)) == "interrupted"


def received_sigterm(trainer: Any) -> bool:
    """Whether the process was told to end; Lightning takes note of the signal, and its loops look for it."""
    return bool(trainer.received_sigterm)


def other_namespace_hint(thing: Any) -> str:
    """What to write instead, where something is of the other Lightning package than the one in use.

    Args:
        thing: a data module or a model that is not of this package's classes.
    """
    for namespace in ("pytorch_lightning", "lightning.pytorch"):
        modules = (kind.__module__ for kind in type(thing).__mro__)
        if namespace != NAMESPACE and any(f"{module}.".startswith(f"{namespace}.") for module in modules):
            return (
                f" It is made for {namespace}, and the classes of the two packages do not mix: call "
                f'`lightning_diffal.for_lightning("{namespace}")` before any other name of lightning_diffal is used '
                f"(or set LIGHTNING_DIFFAL_NAMESPACE={namespace}), and take Trainer and model from {namespace} too."
            )
    return ""


def share_hyperparameters(source: pl.LightningDataModule, taker: pl.LightningDataModule) -> None:
    """Let `taker.hparams` be those of `source`, where it saved any.

    Args:
        source: an existing data module.
        taker: the one around it.
    """
    names = ("_hparams", "_hparams_initial", "_hparams_name", "_log_hyperparams")
    vars(taker).update({name: vars(source)[name] for name in names if name in vars(source)})


def restores_late(trainer: pl.Trainer) -> bool:
    """Whether the strategy restores a checkpoint after `on_fit_start`: those that split the model over processes."""
    return bool(getattr(trainer.strategy, "restore_checkpoint_after_setup", False))


def is_supported(trainer: pl.Trainer) -> bool:
    """Whether the strategy leaves the model whole, or splits it in the one way that is known to work: FSDP2."""
    kind = getattr(importlib.import_module(f"{NAMESPACE}.strategies"), "ModelParallelStrategy", None)  # of 2.4
    return not restores_late(trainer) or (kind is not None and isinstance(trainer.strategy, kind))


def share_of_data(trainer: pl.Trainer) -> tuple[int, int]:
    """Which share of the data this process reads, and how many shares there are.

    Processes that hold parts of the same layers (tensor parallelism) read the same one.
    """
    settings = getattr(trainer.strategy, "distributed_sampler_kwargs", None)
    if not settings:
        return trainer.global_rank, trainer.world_size
    return int(settings["rank"]), int(settings["num_replicas"])


def lives_for_one_fit(trainer: pl.Trainer) -> bool:
    """Whether fits run in child processes of the one that called the Trainer: spawned, or forked in a notebook."""
    return isinstance(trainer.strategy.launcher, MultiProcessingLauncher)


def user_sampler(sampler: Any) -> Any:
    """The sampler that a loader was given, where Lightning put another around it to share it out over processes."""
    if not isinstance(sampler, DistributedSampler):
        return sampler
    return getattr(sampler.dataset, "_sampler", sampler)


def never_trains(trainer: Any) -> str | None:
    """The setting with which a Trainer trains nothing at all, if it has one."""
    if trainer.limit_train_batches == 0:
        return f"limit_train_batches={trainer.limit_train_batches}"
    if trainer.max_epochs == 0:
        return "max_epochs=0"
    return "max_steps=0" if trainer.max_steps == 0 else None
