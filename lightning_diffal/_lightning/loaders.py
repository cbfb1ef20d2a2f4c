"""The loaders of a fit loop: built anew, built again on resume, and tried before a round trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_diffal._lightning.names import pl

__all__ = ["discard_train_loader", "loader_state", "look_at_validation", "reloads_loaders", "resume_loaders"]


def discard_train_loader(trainer: pl.Trainer) -> None:
    """Have the training loader built anew: it may be older than the labels restored from a checkpoint."""
    trainer.fit_loop._combined_loader = None


def reloads_loaders(trainer: Any) -> bool:
    """Whether loaders are built again during a training: `reload_dataloaders_every_n_epochs`."""
    return bool(trainer.reload_dataloaders_every_n_epochs)


def loader_state(trainer: pl.Trainer) -> dict[str, Any]:
    """What a checkpoint has to know of the loaders, so that a round goes on with the same draws."""
    fit, validation = trainer.fit_loop, trainer.fit_loop.epoch_loop.val_loop
    return {
        "train_loaded": float(fit._last_train_dl_reload_epoch),
        "val_loaded": float(validation._last_val_dl_reload_epoch),
        "keeps_workers": any(_keeps_workers(loop._combined_loader) for loop in (fit, validation)),
    }


def resume_loaders(trainer: pl.Trainer, saved: Mapping[str, Any] | None) -> None:
    """Build the loaders in this epoch if the interrupted fit had, which draws random numbers; then their iterators.

    Args:
        trainer: at the start of the epoch that a checkpoint goes on with, its random state restored.
        saved: of `loader_state`; `None` in checkpoints of earlier versions.
    """
    fit = trainer.fit_loop
    if saved is not None and reloads_loaders(trainer):
        fit._last_train_dl_reload_epoch = saved["train_loaded"]
        fit.epoch_loop.val_loop._last_val_dl_reload_epoch = saved["val_loaded"]
        if fit._should_reload_train_dl:
            fit.setup_data()
            for loader in () if fit._combined_loader is None else fit._combined_loader.flattened:
                _set_sampler_epoch(loader, trainer.current_epoch)
    _resume_iterator(trainer)


def _set_sampler_epoch(loader: Any, epoch: int) -> None:
    for sampler in (getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None)):
        set_epoch = getattr(sampler, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)


def _keeps_workers(combined_loader: Any) -> bool:
    """Whether a loader keeps its workers from one epoch to the next, with random states that nobody else knows."""
    loaders = () if combined_loader is None else combined_loader.flattened
    return any(bool(getattr(loader, "persistent_workers", False) and loader.num_workers) for loader in loaders)


def look_at_validation(trainer: pl.Trainer) -> None:
    """What a fit does before it trains: build the validation loaders, and try a few batches where that leaves a trace.

    A round builds them with the generators put back afterwards, as a fit does. The batches are tried only where a
    loader keeps its workers: they have been started then, and draw no seed in the first validation.
    """
    loop = trainer.fit_loop.epoch_loop.val_loop
    if not (trainer.enable_validation and trainer.num_sanity_val_steps > 0):
        return
    stage = trainer.state.stage
    trainer.sanity_checking = True
    try:
        loop.setup_data()
        if _keeps_workers(loop._combined_loader):
            trainer._run_sanity_check()
    finally:
        trainer.state.stage = stage


def _resume_iterator(trainer: pl.Trainer) -> None:
    """Draw the loader's seed again after the random state was restored (Lightning 2.5.1 and later skips it)."""
    if getattr(trainer.fit_loop, "is_resuming", False):
        fetcher: Any = trainer.fit_loop._data_fetcher
        iter(fetcher)
