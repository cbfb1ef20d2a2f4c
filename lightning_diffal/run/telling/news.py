"""What a run is doing now, for the people who label for it."""

from __future__ import annotations

import math
from typing import Any

from lightning_diffal._lightning import pl
from lightning_diffal.oracle.base import Oracle
from lightning_diffal.run.context import RunContext

__all__ = ["run_news", "tell_oracle", "trained_share"]


def tell_oracle(context: RunContext, trainer: pl.Trainer, stage: str) -> None:
    """Tell the oracle what the run is doing, on the first process, where it wants to know.

    Args:
        context: the run.
        trainer: in a fit.
        stage: `"training"`, `"choosing"`, `"waiting"` or `"ended"`.
    """
    oracle = context.settings.oracle
    if trainer.is_global_zero and context.has_data and type(oracle).follow is not Oracle.follow:
        oracle.follow(stage, lambda: run_news(context, trainer, stage))


def run_news(context: RunContext, trainer: pl.Trainer, stage: str) -> dict[str, Any]:
    """Round, how far its training is, labels, and the metrics of all rounds so far; of plain types.

    Args:
        context: the run.
        trainer: in a fit.
        stage: what it is doing.
    """
    history = context.state.history
    return {
        "round": context.state.round,
        "max_rounds": context.settings.max_rounds,
        "fraction": trained_share(trainer) if stage == "training" else None,
        "labelled": len(context.data.labelled_indices),
        "reason": history[-1].stop_reason if stage == "ended" and len(history) else None,
        "curve": [
            {"n": r.n_labelled, "metrics": {k: v for k, v in r.metrics.items() if math.isfinite(v)}}
            for r in history
            if r.metrics
        ],
    }


def trained_share(trainer: pl.Trainer) -> float | None:
    """How much of a round has trained, from 0 to 1; `None` where nothing says how long it is to be."""
    shares = []
    batches = trainer.num_training_batches
    if trainer.max_epochs is not None and trainer.max_epochs > 0 and math.isfinite(batches) and batches > 0:
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        shares.append((trainer.current_epoch + min(done / batches, 1.0)) / trainer.max_epochs)
    if trainer.max_steps > 0:
        shares.append(trainer.fit_loop.epoch_loop.global_step / trainer.max_steps)
    return min(max(shares), 1.0) if shares else None
