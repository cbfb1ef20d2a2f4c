"""What the model that has just trained says of the data set: read once a round, whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_diffal._lightning import pl
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.seeding import generator_of

if TYPE_CHECKING:
    from lightning_diffal.callback import ActiveLearning

__all__ = ["ModelPass"]


_FEATURES = 1  # place in the run that draws random numbers from a generator of its own


class ModelPass:
    """One pass over the data set, made when something of it is first asked for. Every process holds its share.

    Args:
        trainer: in a fit.
        active: the run, after a round.
        timed: measures a part by name.
    """

    def __init__(
        self, trainer: pl.Trainer, active: ActiveLearning, timed: Callable[[str], AbstractContextManager[None]]
    ) -> None:
        self.trainer = trainer
        self.active = active
        self.timed = timed
        self._own: dict[str, FloatArray] | None = None

    def own(self) -> dict[str, FloatArray]:
        """This process's rows of everything that the run reads, by name."""
        if self._own is None:
            self._own = self._read(np.arange(len(self.active.data.pool)), self.active.reads)
        return self._own

    def rows(self, names: frozenset[str], *, everywhere: bool = False) -> dict[str, FloatArray | None]:
        """Rows of all points, gathered on the first process or on all.

        Args:
            names: what is wanted.
            everywhere: on every process.
        """
        n_points, ranks = len(self.active.data.pool), self.active.ranks
        with self.timed("features"):
            own = self.own() if names else {}
            # sorted: every process has to gather in the same order
            return {name: ranks.gather(own[name], n_points, everywhere=everywhere) for name in sorted(names)}

    def predictions(self, positions: IntArray) -> IntArray | None:
        """The class that the model predicts for some points, `(n,)`, on the first process; `None` on others.

        Args:
            positions: `(n,)`. Only they are read where nothing else needs a pass over the data set.
        """
        ranks = self.active.ranks
        with self.timed("features"):
            if self.active.shown or self.active.pseudo_labels is not None:
                own, n_points, chosen = self.own(), len(self.active.data.pool), positions
            else:
                own = self._read(positions, frozenset({"probabilities"}))
                n_points, chosen = len(positions), np.arange(len(positions))
            best = own["probabilities"].argmax(axis=1).astype(np.float32)  # exact, and what processes exchange
            gathered = ranks.gather(best[:, None], n_points)
        return None if gathered is None else gathered[chosen, 0].astype(np.int64)

    def _read(self, positions: IntArray, wanted: frozenset[str]) -> dict[str, Any]:
        active, ranks = self.active, self.active.ranks
        if wanted and ranks.size > 1:
            ranks.share_buffers(self.trainer.lightning_module)
        seed = int(generator_of(active.state.seed, _FEATURES, active.state.round).integers(2**31))
        return ranks.together(
            lambda: active.extractor(
                self.trainer,
                active.data,
                positions[ranks.shard(len(positions))],
                wanted,
                seed,
                mc_passes=active.sampler.mc_passes,
            )
        )
