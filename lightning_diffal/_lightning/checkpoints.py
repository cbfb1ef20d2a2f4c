"""Checkpoint callbacks: best models of each round, names of files, and what a fit resumes from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lightning_diffal._lightning.names import pl, pl_callbacks
from lightning_diffal._lightning.trainer import callbacks_of

__all__ = [
    "ROUND_FILENAME",
    "best_checkpoint",
    "checkpoint_files",
    "monitors",
    "name_rounds",
    "reset_model_checkpoints",
    "rest_monitors",
]

ROUND_FILENAME = "{round}-{epoch}-{step}"


def checkpoint_files(trainer: pl.Trainer) -> list[Path]:
    """The files on this machine that the fit resumes from; of a checkpoint in parts the one that holds the run."""
    path = None if trainer.ckpt_path is None or "://" in str(trainer.ckpt_path) else Path(trainer.ckpt_path)
    if path is None:
        return []
    return [file for file in (path, path / "meta.pt") if file.is_file()]


def reset_model_checkpoints(trainer: pl.Trainer) -> None:
    """Each round has its own best models; files of earlier rounds stay and `last` goes on being replaced."""
    for callback in callbacks_of(trainer):
        if isinstance(callback, pl_callbacks.ModelCheckpoint):
            callback._last_global_step_saved = 0
            callback._last_checkpoint_saved = ""
            callback.best_k_models = {}
            callback.kth_best_model_path = callback.best_model_path = ""
            callback.current_score = callback.best_model_score = None
            callback.kth_value = torch.tensor(torch.inf if callback.mode == "min" else -torch.inf)


@contextmanager
def name_rounds(trainer: pl.Trainer) -> Iterator[None]:
    """Put the round into the names of checkpoints whose name the user left to Lightning."""
    unnamed = [c for c in callbacks_of(trainer) if isinstance(c, pl_callbacks.ModelCheckpoint) and c.filename is None]
    for callback in unnamed:
        callback.filename = ROUND_FILENAME
    try:
        yield
    finally:
        for callback in unnamed:
            callback.filename = None


@contextmanager
def rest_monitors(trainer: Any) -> Iterator[list[str]]:
    """Let whoever waits for a metric of the validation do nothing where it is not there, instead of failing.

    Args:
        trainer: its optimizers are configured, and this training has nothing to validate on.

    Yields:
        Who rests, in words.
    """
    stopping = [c for c in callbacks_of(trainer) if isinstance(c, pl_callbacks.EarlyStopping) and c.strict]
    schedules = [c for c in trainer.lr_scheduler_configs if c.reduce_on_plateau and c.strict]
    keeping = [c for c in callbacks_of(trainer) if isinstance(c, pl_callbacks.ModelCheckpoint) and c.monitor]
    for waiting in (*stopping, *schedules):
        waiting.strict = False
    try:
        with warnings.catch_warnings():
            for said in (
                "ReduceLROnPlateau conditioned on",
                "Early stopping conditioned on",
                "`ModelCheckpoint\\(monitor=",
            ):
                warnings.filterwarnings("ignore", message=said)
            names = [type(c).__name__ for c in (*stopping, *keeping)] + ["ReduceLROnPlateau"] * bool(schedules)
            yield list(dict.fromkeys(names))
    finally:
        for waiting in (*stopping, *schedules):
            waiting.strict = True


def monitors(trainer: pl.Trainer) -> bool:
    """Whether a `ModelCheckpoint` monitors a metric and keeps the best weights by it."""
    return any(
        isinstance(c, pl_callbacks.ModelCheckpoint) and c.monitor and c.save_top_k != 0 for c in callbacks_of(trainer)
    )


def best_checkpoint(trainer: pl.Trainer) -> Path | None:
    """The file of this round's best weights, where a `ModelCheckpoint` monitors a metric."""
    for callback in callbacks_of(trainer):
        if isinstance(callback, pl_callbacks.ModelCheckpoint) and callback.monitor and callback.best_model_path:
            return Path(callback.best_model_path)
    return None
