"""A fit that goes on from a checkpoint of Lightning's."""

from __future__ import annotations

from typing import Any

from lightning_diffal._lightning import checkpoint_files, is_complete, pl, rank_zero_warn, stopped_inside_epoch
from lightning_diffal.history.folder import check_archive
from lightning_diffal.run.asking.pseudo_labels import join_pseudo_labels
from lightning_diffal.run.context import Resumed, RunContext
from lightning_diffal.run.resuming.checkpoint import KEY, restore_run
from lightning_diffal.run.resuming.sameness import warn_of_changes
from lightning_diffal.utils.seeding import restore_random_state

__all__ = ["put_random_state_back", "resume_checkpoint"]


def resume_checkpoint(context: RunContext, trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Go to where a checkpoint left the run.

    Args:
        context: the run, its data taken in.
        trainer: in a fit that resumes the checkpoint.
        checkpoint: as Lightning loaded it.

    Raises:
        ResumeError: a damaged file, another format, another data set.
    """
    for file in checkpoint_files(trainer):
        check_archive(file, "Give an earlier checkpoint: what was asked and answered since then is replayed.")
    saved = checkpoint[KEY]
    restore_run(context, saved, context.data)
    context.resumed = Resumed(saved)
    warn_of_changes(context, trainer, saved)
    if context.state.phase != "training":
        return
    join_pseudo_labels(context)  # the training loader may be built before the round goes on
    inside_epoch = stopped_inside_epoch(checkpoint)
    keeps_workers = saved.get("loaders", {}).get("keeps_workers", False)  # nobody knows their random states
    inexact = inside_epoch or (keeps_workers and not (saved["stopped"] or is_complete(trainer, checkpoint)))
    if inexact and context.settings.on_interrupted_round == "redo":
        context.state.redo()  # exact only from the start of the round
        return
    states = saved["random_states"]
    context.resumed.random_state = states[trainer.global_rank % len(states)]
    context.resumed.continues_epoch = inside_epoch
    if inexact:
        place = "from the middle of an epoch" if inside_epoch else "with new workers in place of persistent ones"
        rank_zero_warn(
            f"Round {context.state.round} goes on {place} (`on_interrupted_round='continue'`): "
            "its weights will not be exactly those of an uninterrupted run."
        )


def put_random_state_back(context: RunContext) -> bool:
    """Put back the random state of the checkpoint that the fit resumes, once.

    Args:
        context: the run, at the start of an epoch.

    Returns:
        Whether there was one.
    """
    resumed = context.resumed
    if resumed is None or resumed.random_state is None:
        return False
    restore_random_state(resumed.random_state)
    resumed.forget_round()
    return True
