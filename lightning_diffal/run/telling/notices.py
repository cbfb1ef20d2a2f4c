"""What a person who runs a cell again should be told, before anything is trained or asked."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from torch import nn

from lightning_diffal._lightning import rank_zero_info, rank_zero_warn
from lightning_diffal.run.context import RunContext
from lightning_diffal.utils.counts import several

__all__ = ["note_trained", "notice_earlier_runs"]

_trained: WeakKeyDictionary[nn.Module, tuple[float, ...]] = WeakKeyDictionary()
"""Models that rounds have trained in this process, with a sum over the weights that they had then."""


def note_trained(module: nn.Module) -> None:
    """Remember that a round has trained this model.

    Args:
        module: as the round left it.
    """
    _trained[module] = _sums(module)


def notice_earlier_runs(context: RunContext, module: nn.Module) -> None:
    """At the start of a new run: say what an earlier one has left in the data and in the model.

    Args:
        context: the run, before its first round.
        module: the model.
    """
    pool, bought = context.data.pool, context.state.bought_before
    if bought:
        rank_zero_info(
            f"The data already hold {several(len(pool.labelled_indices), 'label')}, {bought:,} of them bought by an "
            "earlier run: this run begins with all of them. For a run from the start, make a new data module."
        )
    if module in _trained and _trained[module] == _sums(module):
        rank_zero_warn(
            f"This {type(module).__name__} object was trained by an earlier run, and what each round starts from are "
            "the weights that it left: beside other runs, its results mean nothing. Make a new model for a new run, or "
            "load the weights to start from."
        )


def _sums(module: nn.Module) -> tuple[float, ...]:
    """Changed by any training, and the same while the weights are."""
    values = [parameter.detach() for parameter in module.parameters()]
    local = [value.to_local() if hasattr(value, "to_local") else value for value in values]  # of a model that is split
    return tuple(float(v.float().sum()) for v in local if v.is_floating_point() and v.device.type != "meta")
