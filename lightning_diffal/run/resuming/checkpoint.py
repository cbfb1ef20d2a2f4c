"""A run as a checkpoint holds it, and back: from a checkpoint, a run folder or a process that lived for one fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_diffal._lightning import lives_for_one_fit, pl, rank_zero_warn
from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.labels.class_order import class_moves
from lightning_diffal.run.context import RunContext
from lightning_diffal.run.resuming.class_order import in_class_order
from lightning_diffal.run.resuming.sameness import described
from lightning_diffal.run.state import RunState
from lightning_diffal.utils.environment import environment
from lightning_diffal.utils.modules import gathered, holds_parts
from lightning_diffal.utils.seeding import random_state

__all__ = [
    "KEY",
    "catch_up_in_child",
    "hand_back",
    "restore_run",
    "run_contents",
    "run_for_checkpoint",
    "take_from_child",
]

KEY = "active_learning"
"""Where a checkpoint, or the state in a run folder, holds the run."""


def run_contents(context: RunContext, *, gathers: bool = False) -> dict[str, Any]:
    """The run as a checkpoint holds it.

    Args:
        context: the run, in a fit.
        gathers: what the round started from, where that is in parts; all processes have to call this then. Initial
            weights in parts are gathered only where no folder holds them.
    """
    state = context.state.to_checkpoint()
    if gathers and holds_parts(state["round_weights"]):
        state["round_weights"] = gathered(state["round_weights"], keeps=context.ranks.is_first)
    if gathers and holds_parts(state["initial_weights"]):
        folder = context.folder
        if not context.ranks.decide(lambda: folder is not None and folder.has_initial):
            state["initial_weights"] = gathered(state["initial_weights"], keeps=context.ranks.is_first)
    return {
        **state,
        # only the first process writes, whenever it likes: what the others had, it was told before
        "random_states": [random_state(), *context.random_states[1:]],
        "data": context.data.keep(),
        "outputs": context.data.ordered_names,  # the order in which the weights have learned the classes
        "fingerprint": context.fingerprint,
        "settings": described(context),
        "environment": environment(),
        "journal": None if context.folder is None else context.folder.describe(),
    }


def run_for_checkpoint(context: RunContext, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The run as Lightning's checkpoints hold it: with what lies in the run's folder, or beside it, only once.

    Args:
        context: the run, in a fit.
        checkpoint: as Lightning has it, the state of the data module in it.
    """
    contents = run_contents(context, gathers=True)
    beside = checkpoint.get(type(context.data).__qualname__)
    if isinstance(beside, dict) and beside.get("pool") == contents["data"]["pool"]:
        contents["data"]["pool"] = beside["pool"]  # one object, which is written once
    return contents if context.folder is None else context.folder.without_initial(contents)


def restore_run(context: RunContext, saved: Mapping[str, Any], data: ActiveDataModule | None) -> None:
    """Put labels and state back, whatever kept them.

    Args:
        context: the run.
        saved: what `run_contents` gave.
        data: gets the labels; points are found where they are now. `None`: labels came another way, in the order that
            the state has.

    Raises:
        ResumeError: written in another format, or of another data set.
    """
    position = None
    if data is not None:
        saved = in_class_order(saved, data.ordered_names)
        data.restore(saved["data"])
        position = data.pool.moved(saved["data"]["pool"])
    context.state = RunState.from_checkpoint(saved, position)
    if data is not None and class_moves(saved.get("outputs"), data.ordered_names) is not None:
        _forget_outputs(context.state)


def _forget_outputs(state: RunState) -> None:
    """Weights were kept that have learned the classes in another order: what they would be used for is done again.

    While answers are awaited that is nothing.
    """
    rank_zero_warn(
        "The `class_names` come in another order than when this was kept. Labels moved by name; the weights did not: "
        f"round {state.round} is trained again where they would count."
    )
    if state.phase == "training":
        state.redo()
    elif state.phase == "query" and state.history[-1].n_labelled:
        state.retrain()


def hand_back(context: RunContext, trainer: pl.Trainer) -> None:
    """From a process that ends with this fit, to the one that called it: where the run stands.

    Done whenever something was asked or answered, since a fit that fails takes all its processes with it.

    Args:
        context: the run.
        trainer: in a fit, or at its end.
    """
    if context.has_data and lives_for_one_fit(trainer) and trainer.local_rank == 0:
        contents = run_contents(context)
        contents["data"].pop("wrapped", None)  # another package's, which may hold more than plain types
        context.handback.leave(contents)
        context.data.handback.leave(contents["data"])


def catch_up_in_child(context: RunContext, data: ActiveDataModule) -> None:
    """In a child process: let go of the parent's processes and files, and catch up with an earlier child.

    Args:
        context: the run.
        data: gets the labels.
    """
    if not context.handback.is_away:
        return
    context.forget_trainer()
    left = context.handback.peek()
    if left is not None:
        data.pool.load_state_dict(left["data"]["pool"])
        restore_run(context, left, None)


def take_from_child(context: RunContext) -> None:
    """In the parent: go to where a child process left the run; its data module does the same by itself.

    Args:
        context: the run.
    """
    left = context.handback.take()
    if left is not None:
        restore_run(context, left, None)
