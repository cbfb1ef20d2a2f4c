"""`Monitor`: the one object that a run tells what it does, so that people see it."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from lightning_diffal import _lightning as lightning
from lightning_diffal._lightning import pl
from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.history.history import History
from lightning_diffal.history.main_metric import ranked_metrics
from lightning_diffal.history.tables import names_of
from lightning_diffal.monitor.loggers import RunLoggers
from lightning_diffal.monitor.rows import PREFIX, round_row
from lightning_diffal.monitor.status import Status

__all__ = ["Monitor", "versions"]


class Monitor:
    """Status on the screen and numbers in the loggers, of one run over any number of fits.

    Made before there is a Trainer: until `attach` it shows and logs nothing.
    """

    def __init__(self) -> None:
        self._place: Callable[[], tuple[int, int | None, int]] = lambda: (0, None, 0)
        self._trainer: Any = None
        self.status = Status(lambda: self._place())
        self.loggers = RunLoggers()

    def __reduce__(self) -> tuple[type[Monitor], tuple[()]]:
        return Monitor, ()  # what belongs to one Trainer in one process stays there

    def attach(
        self,
        trainer: pl.Trainer,
        place: Callable[[], tuple[int, int | None, int]],
        hyperparameters: Mapping[str, Any],
        steps: int,
    ) -> None:
        """Begin to show and to log a fit.

        Args:
            trainer: in a fit.
            place: gives the round, the last round (or `None`) and the number of labels.
            hyperparameters: of the run, for loggers that have not heard of it.
            steps: of training that the run had made when it was left: the loggers' step axis goes on from there.
        """
        self._trainer, self._place = trainer, place
        lightning.continue_steps(trainer, steps)
        self.status.attach(trainer)
        if trainer.is_global_zero:
            self.loggers.begin(trainer.loggers, hyperparameters)

    @property
    def steps(self) -> int:
        """Of training, over all rounds."""
        return 0 if self._trainer is None else lightning.global_batches(self._trainer)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Show what is announced inside, and nothing when it is over."""
        with self.status.hearing():
            yield

    def round_ended(self, history: History, data: ActiveDataModule) -> None:
        """Log the row of the round that has just trained.

        Args:
            history: its record is the last.
            data: who is labelled.
        """
        asked = next((record for record in history[-2:-1] if record.query is not None), None)
        row = round_row(history[-1], asked, data.pool, data.num_classes, data.class_names)
        self._row(row)

    def log(self, values: Mapping[str, float]) -> None:
        """Log further numbers of the round.

        Args:
            values: by name, without the prefix.
        """
        self._row({f"{PREFIX}{name}": float(value) for name, value in values.items()})

    def _row(self, row: Mapping[str, float]) -> None:
        if row and self._trainer is not None and self._trainer.is_global_zero:
            self.loggers.row(self._trainer.loggers, row, self.steps)

    def ended(self, history: History, reason: str) -> None:
        """Log why the run ended, and its learning curve.

        Args:
            history: of the run.
            reason: why it ended.
        """
        trainer = self._trainer
        if trainer is not None and trainer.is_global_zero:
            self.loggers.end(trainer.loggers, reason, lambda: _curve(history), history[-1].n_labelled)


def _curve(history: History) -> Any:
    """The learning curve as a figure; `None` without matplotlib, and where there is no curve yet."""
    names = [name for name in ranked_metrics(names_of(history, "metrics")) if len(history.curve(name)[0]) > 1]
    if not names or importlib.util.find_spec("matplotlib") is None:
        return None
    return history.plot(names[:1])


def versions() -> dict[str, str]:
    """What a run depends on, for whoever wants to repeat it.

    Example:
        >>> sorted(versions())
        ['lightning', 'lightning_diffal', 'numpy', 'python', 'torch']
    """
    import numpy as np

    try:
        own = version("lightning-diffal")
    except PackageNotFoundError:  # run from a checkout
        own = "unknown"
    return {
        "lightning_diffal": own,
        "lightning": f"{lightning.NAMESPACE} {version(lightning.NAMESPACE.partition('.')[0])}",
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
