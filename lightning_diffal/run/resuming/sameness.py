"""What has to be the same for a run to go on as it began: its settings, how rounds train, what computes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_diffal._lightning import pl, rank_zero_warn
from lightning_diffal.run.context import RunContext
from lightning_diffal.utils.environment import environment

__all__ = ["described", "warn_of_changes"]


def described(context: RunContext) -> dict[str, str]:
    """The settings of the run and of the training of a round, in words.

    Args:
        context: the run, in a fit.
    """
    return _described(context, context.precision)


def warn_of_changes(context: RunContext, trainer: pl.Trainer, saved: Mapping[str, Any]) -> None:
    """Name every setting that a run goes on with and did not begin with, and what computes its numbers otherwise.

    Args:
        context: the run that goes on.
        trainer: in a fit.
        saved: what `run_contents` gave; earlier versions knew fewer settings, which are passed over.
    """
    before = saved["settings"]
    for name, now in _described(context, trainer.precision_plugin).items():
        if before.get(name, now) != now:
            rank_zero_warn(f"This run began with {name}={before[name]} and goes on with {name}={now}.")
    then, now_with = saved.get("environment") or {}, environment()
    differ = [f"{name} {then[name]} (now {now})" for name, now in now_with.items() if then.get(name, now) != now]
    if differ:
        rank_zero_warn(
            f"This run began with {', '.join(differ)}: it goes on, but its numbers may differ in their last bits from "
            "those of a run that was never interrupted."
        )


def _described(context: RunContext, precision: Any) -> dict[str, str]:
    found = {**context.settings.described(), "batch_size": str(context.data.batch_size)}
    if precision is not None:
        found["precision"] = str(precision.precision)
    limits = getattr(context, "limits", None)
    if limits is not None:
        names = ("max_epochs", "max_steps", "accumulate_grad_batches")
        found |= {name: str(getattr(limits, name)) for name in names}
    return found
