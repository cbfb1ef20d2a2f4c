"""Several processes: rows gathered by data set index, one decision for all."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from lightning_diffal._lightning import pl

__all__ = ["Ranks"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
T = TypeVar("T")

# Waiting ranks must outlive a long selection or a slow annotator; a process group's own time-out is minutes.
_PATIENCE = datetime.timedelta(days=7)


class Ranks:
    """The processes of a Trainer, seen from one of them. With one process everything is immediate.

    Args:
        trainer: in a fit, with its process group up.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self.size = trainer.world_size
        self.rank = trainer.global_rank
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE) if self.size > 1 else None

    @property
    def is_first(self) -> bool:
        """Whether this process decides, writes files and talks to people."""
        return self.rank == 0

    def shard(self, n_points: int) -> IntArray:
        """This process's positions: every `size`-th, padded with the last so that all have equally many."""
        return self._shard_of(self.rank, n_points)

    def gather(self, rows: FloatArray, n_points: int) -> FloatArray | None:
        """Rows of all shards in the order of positions, each once, on the first process; `None` on others.

        Args:
            rows: `(len(shard), D)` this process's rows.
            n_points: `N`.

        Returns:
            `(N, D)`.
        """
        if self.size == 1:
            return rows
        own = torch.from_numpy(rows)
        parts = [torch.empty_like(own) for _ in range(self.size)] if self.is_first else None
        dist.gather(own, parts, dst=0, group=self._group)
        if parts is None:
            return None
        full = np.empty((n_points, rows.shape[1]), dtype=rows.dtype)
        for rank, part in enumerate(parts):
            full[self._shard_of(rank, n_points)] = part.numpy()
        return full

    def decide(self, choose: Callable[[], T]) -> T:
        """Run something on the first process and give every process its result, or its error.

        Raises:
            Exception: what `choose` raised; on other processes a `RuntimeError` that quotes it.
        """
        if self.size == 1:
            return choose()
        box: list[Any] = [None, None]
        error: BaseException | None = None
        if self.is_first:
            try:
                box[0] = choose()
            except BaseException as caught:  # whatever it is, the others must not wait for ever
                error, box[1] = caught, f"{type(caught).__name__}: {caught}"
        dist.broadcast_object_list(box, src=0, group=self._group)
        if error is not None:
            raise error
        if box[1] is not None:
            raise RuntimeError(f"Rank 0 failed while choosing or labelling points: {box[1]}")
        result: T = box[0]
        return result

    def share_buffers(self, module: torch.nn.Module) -> None:
        """Give every process the first one's buffers: batch norm statistics differ between ranks."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def _shard_of(self, rank: int, n_points: int) -> IntArray:
        padded = -(-n_points // self.size) * self.size
        return np.minimum(np.arange(rank, padded, self.size), n_points - 1)
