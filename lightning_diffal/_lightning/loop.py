"""The fit loop: a fresh one for each round, how far it is, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lightning_diffal._lightning.names import FitLoop, pl

__all__ = [
    "LoopLimits",
    "continue_steps",
    "fresh_fit_loop",
    "global_batches",
    "is_complete",
    "plain_view",
    "stopped_inside_epoch",
]


class LoopLimits(NamedTuple):
    """How one round trains, as the Trainer was told. Read before training: callbacks such as SWA change it."""

    min_epochs: int | None
    max_epochs: int | None
    min_steps: int | None
    max_steps: int
    accumulate_grad_batches: int

    @classmethod
    def of(cls, loop: FitLoop) -> LoopLimits:
        """The limits that `loop` holds now."""
        return cls(
            loop.min_epochs, loop.max_epochs, loop.min_steps, loop.max_steps, loop.trainer.accumulate_grad_batches
        )

    def put_back(self, trainer: pl.Trainer) -> None:
        """Leave the Trainer as configured, for its next fit."""
        loop = trainer.fit_loop
        loop.min_epochs, loop.max_epochs = self.min_epochs, self.max_epochs
        loop.epoch_loop.min_steps, loop.epoch_loop.max_steps = self.min_steps, self.max_steps
        trainer.accumulate_grad_batches = self.accumulate_grad_batches


def plain_view(loop: FitLoop, base: type[FitLoop]) -> FitLoop:
    """A `base` that shares the state of `loop`.

    Progress bars, loggers, checkpointing and resuming all look at `trainer.fit_loop` and expect a plain one.
    """
    view = base.__new__(base)
    view.__dict__ = loop.__dict__
    return view


def fresh_fit_loop(trainer: pl.Trainer, limits: LoopLimits) -> None:
    """Give the Trainer the fit loop that `Trainer.__init__` would have built, on the same data source.

    Resetting the progress of the old loop is not enough: it silently skips the first epoch of every later round.
    """
    old = trainer.fit_loop
    new = type(old)(trainer, min_epochs=limits.min_epochs, max_epochs=limits.max_epochs)
    new.epoch_loop = type(old.epoch_loop)(trainer, min_steps=limits.min_steps, max_steps=limits.max_steps)
    new._data_source = old._data_source
    new.epoch_loop.val_loop._data_source = old.epoch_loop.val_loop._data_source
    new.epoch_loop._batches_that_stepped = old.epoch_loop._batches_that_stepped  # the loggers' step axis goes on
    old.teardown()  # stops the workers of the old loaders
    trainer.fit_loop = new
    trainer.accumulate_grad_batches = limits.accumulate_grad_batches
    trainer.should_stop = False


def continue_steps(trainer: pl.Trainer, steps: int) -> None:
    """Let the loggers' step axis go on from where an earlier process left it; it never goes back."""
    loop = trainer.fit_loop.epoch_loop
    loop._batches_that_stepped = max(loop._batches_that_stepped, steps)


def global_batches(trainer: pl.Trainer) -> int:
    """The step axis of the loggers: batches that stepped, over all rounds."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def stopped_inside_epoch(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was written in the middle of an epoch, where an exact continuation is impossible."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    return bool(progress["ready"] != progress["processed"])


def is_complete(trainer: pl.Trainer, checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was written in the last epoch of its training."""
    processed = int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
    epochs, steps = trainer.max_epochs, trainer.max_steps
    return (epochs is not None and 0 <= epochs <= processed) or 0 <= steps <= int(checkpoint["global_step"])
