"""What the model that has just trained says of the data set: read once per round, whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from lightning_diffal._lightning import pl
from lightning_diffal.run.context import RunContext
from lightning_diffal.stopping.base import stop_set_size
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.seeding import generator_of
from lightning_diffal.utils.storage.mapped import room_for

__all__ = ["ModelPass", "outputs_read", "outputs_required", "shown_to_sampler"]


_FEATURES = 1  # place in the run that draws random numbers from a generator of its own


def outputs_read(context: RunContext) -> frozenset[str]:
    """What is read of the model after each round, in one pass: for the sampler, stopping rules, pseudo-labels.

    Args:
        context: the run.
    """
    return shown_to_sampler(context) | _read_by_others(context)


def _read_by_others(context: RunContext) -> frozenset[str]:
    compares = {"probabilities"} if stop_set_size(context.settings.stopping) != 0 else set()
    diffuses = set() if context.settings.pseudo_labels is None else {"features"}
    return frozenset(compares | diffuses)


def shown_to_sampler(context: RunContext) -> frozenset[str]:
    """What the sampler is shown: what it requires, and what it wants besides where the model gives it.

    Args:
        context: the run, its model looked at.
    """
    sampler = context.settings.sampler
    return frozenset(sampler.requires | (sampler.wants(context.settings.query_size) - context.extractor.withheld))


def outputs_required(context: RunContext) -> frozenset[str]:
    """What the run cannot do without: a model that does not give it is refused.

    Args:
        context: the run.
    """
    return frozenset(context.settings.sampler.requires | _read_by_others(context))


class ModelPass:
    """One pass over the data set, made when something of it is first asked for. Every process holds its share.

    Args:
        trainer: in a fit.
        context: the run, after a round.
        timed: measures a part by name.
    """

    def __init__(
        self, trainer: pl.Trainer, context: RunContext, timed: Callable[[str], AbstractContextManager[None]]
    ) -> None:
        self.trainer = trainer
        self.context = context
        self.timed = timed
        self._own: dict[str, FloatArray] | None = None

    def own(self) -> dict[str, FloatArray]:
        """This process's rows of everything that the run reads, by name."""
        if self._own is None:
            self._own = self._read(np.arange(len(self.context.data.pool)), outputs_read(self.context))
        return self._own

    def rows(self, names: frozenset[str], *, everywhere: bool = False) -> dict[str, FloatArray | None]:
        """Rows of all points, gathered on the first process or on all.

        Args:
            names: what is wanted.
            everywhere: on every process.
        """
        n_points, ranks = len(self.context.data.pool), self.context.ranks
        with self.timed("features"):
            own = self.own() if names else {}
            # sorted: every process has to gather in the same order
            return {name: ranks.gather(own[name], n_points, everywhere=everywhere) for name in sorted(names)}

    def predictions(self, positions: IntArray) -> IntArray | None:
        """The class that the model predicts for some points, `(n,)`, on the first process; `None` on others.

        Args:
            positions: `(n,)`. Only they are read where nothing else needs a pass over the data set.
        """
        ranks = self.context.ranks
        with self.timed("features"):
            if shown_to_sampler(self.context) or self.context.settings.pseudo_labels is not None:
                own, n_points, chosen = self.own(), len(self.context.data.pool), positions
            else:
                own = self._read(positions, frozenset({"probabilities"}))
                n_points, chosen = len(positions), np.arange(len(positions))
            best = own["probabilities"].argmax(axis=1).astype(np.float32)  # exact, and what processes exchange
            gathered = ranks.gather(best[:, None], n_points)
        return None if gathered is None else gathered[chosen, 0].astype(np.int64)

    def _read(self, positions: IntArray, wanted: frozenset[str]) -> dict[str, Any]:
        context, ranks = self.context, self.context.ranks
        if wanted and ranks.size > 1:
            ranks.share_buffers(self.trainer.lightning_module)
        seed = int(generator_of(context.state.seed, _FEATURES, context.state.round).integers(2**31))
        return ranks.run_model(
            lambda: context.extractor(
                self.trainer,
                context.data,
                positions[ranks.shard(len(positions))],
                wanted,
                seed,
                mc_passes=context.settings.sampler.mc_passes,
                room=self._room,
            )
        )

    def _room(self, shape: tuple[int, int]) -> FloatArray:
        """Where features are written: a file in the run folder if they are many and no other process gathers them."""
        folder = self.context.folder
        if folder is None or self.context.ranks.size > 1:
            return np.empty(shape, np.float32)
        return room_for(shape, folder.path)
