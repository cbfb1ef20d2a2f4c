"""`ActiveLearningLoop`: takes the place of Lightning's fit loop and runs it once per round."""

from __future__ import annotations

from typing import Any

from lightning_diffal._lightning import FitLoop, callbacks_of, pl, plain_view, restores_late
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.run.context import RunContext
from lightning_diffal.run.rounds import Rounds
from lightning_diffal.run.start import begin_fit

__all__ = ["ActiveCallback", "ActiveLearningLoop"]


class ActiveCallback(pl.Callback):
    """A callback that holds a run: what the loop knows of `ActiveLearning`."""

    _context: RunContext


class ActiveLearningLoop(FitLoop):
    """A fit loop whose `run` trains, asks and trains again.

    It shares its state with the fit loop it replaces, so that resuming finds everything where Lightning put it;
    and while rounds run, `trainer.fit_loop` is a plain fit loop, which is what progress bars, loggers and
    checkpoint callbacks look at.

    Example:
        >>> from lightning_diffal import ActiveLearning
        >>> trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        >>> active = ActiveLearning()
        >>> loop = ActiveLearningLoop.attach(trainer, active)
        >>> trainer.fit_loop is loop, ActiveLearning.from_trainer(trainer) is active
        (True, True)
    """

    __slots__ = ("active", "base")  # beside the state shared with the plain loop, not in it

    active: ActiveCallback
    base: type[FitLoop]

    @classmethod
    def attach(cls, trainer: pl.Trainer, active: ActiveCallback) -> ActiveLearningLoop:
        """Make the Trainer's next fit an active learning run. The callback does this by itself in `setup`.

        Args:
            trainer: any Trainer; `active` is added to its callbacks where it is missing.
            active: the run. Attaching it again changes nothing.

        Returns:
            The loop, now `trainer.fit_loop`.

        Raises:
            InvalidTypeError: `active` is not an `ActiveLearning`.
            ConfigurationError: the Trainer has another `ActiveLearning`.
        """
        if not isinstance(active, ActiveCallback):
            raise InvalidTypeError(f"Expected argument `active` to be an ActiveLearning, but got {active!r}.")
        callbacks = callbacks_of(trainer)
        if any(isinstance(c, ActiveCallback) and c is not active for c in callbacks):
            raise ConfigurationError("The Trainer has another ActiveLearning callback: one run needs exactly one.")
        # First, since it has to see the others before they are set up, and ask for first labels before a
        # learning rate finder trains. Safe while Lightning goes over the list: only entries already visited move.
        if active in callbacks:
            callbacks.remove(active)
        callbacks.insert(0, active)
        old = trainer.fit_loop
        if isinstance(old, ActiveLearningLoop):
            return old
        kind = cls if type(old) is FitLoop else type(cls.__name__, (cls, type(old)), {"__slots__": ()})
        loop: Any = object.__new__(kind)
        loop.__dict__ = old.__dict__
        loop.active, loop.base = active, type(old)
        trainer.fit_loop = loop
        attached: ActiveLearningLoop = loop
        return attached

    def run(self) -> None:
        """Train, ask and train again until the run ends."""
        if self.active not in callbacks_of(self.trainer):  # a learning rate or batch size finder trains by itself
            super().run()
            return
        self.trainer.fit_loop = plain_view(self, self.base)
        if restores_late(self.trainer):
            begin_fit(self.active._context, self.trainer, self.trainer.lightning_module)
        Rounds(self.trainer, self.active._context).run()
