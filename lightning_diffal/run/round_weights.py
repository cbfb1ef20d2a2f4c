"""The weights that a round starts from: as before the first round, as the last one left them, or between the two."""

from __future__ import annotations

from lightning_diffal._lightning import pl
from lightning_diffal.run.context import RunContext
from lightning_diffal.utils.modules import Unsaved, put_weights, shrink_towards, weights_of

__all__ = ["remember_start", "reset_weights"]


def remember_start(context: RunContext, module: pl.LightningModule) -> None:
    """What every round starts from, as the hooks that begin a fit left it: some load weights or freeze them.

    Args:
        context: the run; what it remembers already stays.
        module: the model.
    """
    if context.unsaved is None:
        context.unsaved = Unsaved(module)
    if context.state.initial_weights is None:
        context.state.initial_weights = weights_of(module)


def reset_weights(context: RunContext, module: pl.LightningModule) -> None:
    """Give the model the weights that this round starts from; the same ones where it has to be done again.

    Args:
        context: the run, before a round.
        module: the model.
    """
    state, reset = context.state, context.settings.reset
    initial = state.initial_weights or {}
    if context.unsaved is not None:
        context.unsaved.put_back(module)
    if reset != "initial":
        context.ranks.share_buffers(module)  # as a fresh DDP does
    if state.round_weights is not None:
        put_weights(module, state.round_weights)
    elif reset == "initial" or not state.has_trained:
        put_weights(module, initial)
    elif isinstance(reset, float):
        shrink_towards(module, initial, reset)
    if reset != "initial":
        state.round_weights = weights_of(module)
