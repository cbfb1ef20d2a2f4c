"""What goes to the Trainer's loggers, each in the way in which it can draw a curve against labels.

Loggers are told apart by the names of their classes, so that none of their packages is needed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from lightning_diffal._lightning import rank_zero_warn
from lightning_diffal.monitor.rows import PREFIX, ROUND

__all__ = ["AXIS", "RunLoggers"]

AXIS = f"{PREFIX}n_labelled"
"""The labels axis."""

_STEP_IS_LABELS = ("TensorBoardLogger", "MLFlowLogger", "CometLogger")
"""They keep a step for each tag, so these tags have labels for theirs; others find the labels in the row."""


class RunLoggers:
    """Sends a run's own numbers to loggers. On the first process only.

    One of them that fails is named in a warning, once, and left alone: labels are worth more than a curve.
    """

    def __init__(self) -> None:
        self._begun: list[weakref.ref[Any]] = []
        self._failed: list[weakref.ref[Any]] = []

    def begin(self, loggers: Iterable[Any], hyperparameters: Mapping[str, Any]) -> None:
        """Say what the run is, once to each logger.

        Args:
            loggers: of the Trainer.
            hyperparameters: by name, without the prefix.
        """
        for logger in loggers:
            if any(known() is logger for known in self._begun):
                continue
            self._begun.append(weakref.ref(logger))
            values = {f"{PREFIX}{name}": value for name, value in hyperparameters.items()}
            self._send(logger, partial(_introduce, logger, values))

    def row(self, loggers: Iterable[Any], row: Mapping[str, float], step: int) -> None:
        """One row of a round.

        Args:
            loggers: of the Trainer.
            row: numbers by their whole names; with `AXIS` among them, it is put on the labels axis.
            step: of training, over all rounds.
        """
        for logger in loggers:
            labels = row.get(AXIS)
            at = int(labels) if labels is not None and _kind(logger) in _STEP_IS_LABELS else step
            self._send(logger, partial(_write_row, logger, row, at))

    def end(self, loggers: Iterable[Any], reason: str, figure: Callable[[], Any], n_labelled: int) -> None:
        """Say why the run ended, and leave its learning curve where a logger takes figures.

        Args:
            loggers: of the Trainer.
            reason: why it ended.
            figure: draws it; gives `None` where it cannot be drawn.
            n_labelled: labels known.
        """
        for logger in loggers:
            self._send(logger, partial(_finish, logger, reason, figure, n_labelled))

    def _send(self, logger: Any, send: Callable[[], None]) -> None:
        if any(known() is logger for known in self._failed):
            return
        try:
            send()
        except Exception as error:
            self._failed.append(weakref.ref(logger))
            rank_zero_warn(
                f"{type(logger).__name__} did not take the run's own numbers ({type(error).__name__}: {error}), and is "
                "sent no more of them. Training goes on; the history has them all."
            )


def _kind(logger: Any) -> str:
    """The name of Lightning's logger class that this one is or derives from."""
    names = [cls.__name__ for cls in type(logger).__mro__]
    known = (*_STEP_IS_LABELS, "WandbLogger", "CSVLogger")
    return next((name for name in names if name in known), "")


def _introduce(logger: Any, values: dict[str, Any]) -> None:
    kind = _kind(logger)
    if kind == "WandbLogger":
        prefix = f"{logger._prefix}-" if getattr(logger, "_prefix", "") else ""
        logger.experiment.define_metric(f"{prefix}{AXIS}")
        for group in (PREFIX, ROUND):
            logger.experiment.define_metric(f"{prefix}{group}*", step_metric=f"{prefix}{AXIS}")
    if kind == "TensorBoardLogger":
        values = {**logger.hparams, **values}  # the last call is what its page of hyperparameters shows
    if kind == "MLFlowLogger":  # what it holds cannot be changed, as where a run goes on under the same id
        known = logger.experiment.get_run(logger.run_id).data.params
        values = {name: value for name, value in values.items() if name not in known}
    logger.log_hyperparams(values)
    logger.save()


def _write_row(logger: Any, row: Mapping[str, float], step: int) -> None:
    logger.log_metrics(dict(row), step=step)
    logger.save()


def _finish(logger: Any, reason: str, figure: Callable[[], Any], n_labelled: int) -> None:
    kind, name = _kind(logger), f"{PREFIX}stop_reason"
    if kind == "TensorBoardLogger":
        logger.experiment.add_text(name, reason, n_labelled)
        picture = figure()
        if picture is not None:
            logger.experiment.add_figure(f"{PREFIX}learning_curve", picture, n_labelled)
    elif kind == "WandbLogger":
        logger.experiment.summary[name] = reason
        picture = figure()
        if picture is not None:
            logger.log_image(f"{PREFIX}learning_curve", [_image(picture)])
    elif kind == "MLFlowLogger":
        logger.experiment.set_tag(logger.run_id, name, reason)
        picture = figure()
        if picture is not None:
            logger.experiment.log_figure(logger.run_id, picture, "active/learning_curve.png")
    else:
        logger.log_hyperparams({name: reason})
    logger.save()


def _image(figure: Any) -> Any:
    """A figure as pixels `(H, W, 3)`."""
    import numpy as np

    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]
