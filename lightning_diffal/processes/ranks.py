"""Several processes: rows gathered by data set index, one decision for all, and no process left waiting for a dead one.

Every exchange goes over a process group of its own, with a time-out of days: a selection or a slow annotator may take
longer than the minutes after which the Trainer's own group gives up. So nobody may be left waiting in it: what can
fail on one process runs inside `decide` or `together`, which tell the others.
"""

from __future__ import annotations

import atexit
import datetime
import pickle
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from lightning_diffal._lightning import pl, restores_late, share_of_data
from lightning_diffal.exceptions import ConfigurationError, FeatureError, OtherProcessError
from lightning_diffal.processes.shards import Shards, quoted
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["Ranks"]

T = TypeVar("T")

_PATIENCE = datetime.timedelta(days=7)
_OPEN: weakref.WeakSet[Ranks] = weakref.WeakSet()  # those that hold a process group


class Ranks:
    """The processes of a Trainer, seen from one of them. With one process everything is immediate.

    All methods but `shard` have to be called on every process, in the same order.

    Args:
        trainer: in a fit, with its process group up.

    Raises:
        ConfigurationError: several processes that do not talk through torch.distributed.

    Example:
        >>> ranks = Ranks(pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))
        >>> ranks.is_first, ranks.shard(3), ranks.decide(lambda: 7), ranks.everyone(7)
        (True, array([0, 1, 2]), 7, [7])
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self.size = trainer.world_size
        self.rank = trainer.global_rank
        self._share, self._n_shares = share_of_data(trainer)
        self._shares: list[int] | None = None  # of each process, once they were exchanged
        self._runs_together = restores_late(trainer)
        self._group: dist.ProcessGroup | None = None
        self._world: dist.ProcessGroup | None = None
        if self.size > 1:
            if not (dist.is_available() and dist.is_initialized()):
                raise ConfigurationError(
                    f"{type(trainer.strategy).__name__} runs {self.size} processes without torch.distributed, over "
                    "which ActiveLearning shares features and labels: use `strategy='ddp'`."
                )
            self._world = dist.group.WORLD
            # gloo everywhere: what is sent lies in main memory, and a process that dies is noticed at once
            self._group = dist.new_group(backend="gloo", timeout=_PATIENCE)
            self._shards = Shards(self.rank, self.size, self._group)
            _OPEN.add(self)
            atexit.unregister(_leave)
            atexit.register(_leave)

    def serves(self, trainer: pl.Trainer) -> bool:
        """Whether this is still how the Trainer's processes can talk: false in a new process group."""
        same = (self.size, self.rank) == (trainer.world_size, trainer.global_rank)
        return same and (self.size == 1 or self._world is dist.group.WORLD)

    @property
    def is_first(self) -> bool:
        """Whether this process decides, writes files and talks to people."""
        return self.rank == 0

    # ------------------------------------------------------------------------------------------------ agreement

    def decide(self, choose: Callable[[], T]) -> T:
        """Run something on the first process and give every process its result, or its error.

        Args:
            choose: its result is pickled.

        Raises:
            Exception: what `choose` raised, or pickling its result; on other processes an `OtherProcessError` that
                quotes it.
        """
        if self.size == 1:
            return choose()
        box: list[Any] = [None, None]  # the result as bytes, and what went wrong
        error: BaseException | None = None
        if self.is_first:
            try:
                result = choose()
                box[0] = pickle.dumps(result)
            except BaseException as caught:  # whatever it is, the others must not wait for ever
                error, box[1] = caught, quoted(caught)
        dist.broadcast_object_list(box, src=0, group=self._group)
        if error is not None:
            raise error
        if box[1] is not None:
            raise OtherProcessError(f"Rank 0 failed, and with it this process: {box[1]}")
        return result if self.is_first else pickle.loads(box[0])  # noqa: S301  # from a process of this job

    def decide_together(self, choose: Callable[[], T]) -> T:
        """Run something on every process that exchanges by `current_shards`; all get the first one's result.

        Args:
            choose: its result is pickled.

        Raises:
            Exception: what `choose` raised here; else an `OtherProcessError` that quotes another process's.
        """
        if self.size == 1:
            return choose()
        result = self._shards.together(choose)
        return self.decide(lambda: result)

    def together(self, action: Callable[[], T]) -> T:
        """Run something on every process; where it fails on one, all of them raise.

        Args:
            action: exchanges nothing with other processes.

        Returns:
            What it returned here.

        Raises:
            Exception: what `action` raised here; else an `OtherProcessError` that quotes the first other process's.
        """
        if self.size == 1:
            return action()
        error: BaseException | None = None
        try:
            result = action()
        except BaseException as caught:
            error = caught
        errors = self.everyone(None if error is None else quoted(error))
        if error is not None:
            raise error
        for rank, text in enumerate(errors):
            if text is not None:
                raise OtherProcessError(f"Rank {rank} failed, and with it this process: {text}")
        return result

    def run_model(self, action: Callable[[], T]) -> T:
        """Run something that calls the model, on every process; where it fails on one, all of them end.

        Where the model is split, to call it is to exchange. A process that fails in the middle cannot tell the others,
        which wait for it there: it ends, and they notice that.

        Args:
            action: exchanges nothing with other processes but what the model does.

        Raises:
            Exception: what `action` raised here; else an `OtherProcessError`, or what torch makes of a lost process.
        """
        return action() if self._runs_together else self.together(action)

    def everyone(self, value: T) -> list[T]:
        """What each process has, by rank; everyone gets all of it.

        Raises:
            Exception: what pickling `value` raised here; else an `OtherProcessError` that quotes another process's.
        """
        if self.size == 1:
            return [value]
        error: BaseException | None = None
        sent: tuple[bytes, str | None]
        try:
            sent = pickle.dumps(value), None
        except Exception as caught:  # the others must not wait for ever
            error, sent = caught, (b"", quoted(caught))
        received: list[Any] = [None] * self.size
        dist.all_gather_object(received, sent, group=self._group)
        if error is not None:
            raise error
        for rank, (_, text) in enumerate(received):
            if text is not None:
                raise OtherProcessError(f"Rank {rank} failed, and with it this process: {text}")
        return [pickle.loads(data) for data, _ in received]  # noqa: S301  # from processes of this job

    def wait(self) -> None:
        """Until every process is here, however long it takes."""
        self.everyone(None)

    # ------------------------------------------------------------------------------------------------- features

    def shard(self, n_points: int) -> IntArray:
        """This process's positions: every n-th of n shares, padded with the last so that all have equally many.

        Processes that hold parts of the same layers have the same share.
        """
        return self._shard_of(self._share, n_points)

    def gather(self, rows: FloatArray, n_points: int, *, everywhere: bool = False) -> FloatArray | None:
        """Rows of all shards in the order of positions, each once, on the first process; `None` on others.

        Args:
            rows: `(len(shard), D)` this process's rows.
            n_points: `N`.
            everywhere: on every process.

        Returns:
            `(N, D)`.

        Raises:
            FeatureError: `D` differs between processes; on all of them.
        """
        if self.size == 1:
            return rows
        if self._shares is None:
            self._shares = self.everyone(self._share)
        widths = self.everyone(rows.shape[1])
        if len(set(widths)) > 1:  # gloo would read past the end of the shorter rows
            raise FeatureError(f"Expected features of the same length on every process, but got {widths} by rank.")
        own = torch.from_numpy(rows)
        receives = self.is_first or everywhere
        parts = self.together(lambda: [torch.empty_like(own) for _ in range(self.size)] if receives else None)
        if everywhere:
            dist.all_gather(parts, own, group=self._group)
        else:
            dist.gather(own, parts, dst=0, group=self._group)
        if parts is None:
            return None
        full = np.empty((n_points, rows.shape[1]), dtype=rows.dtype)
        for share, part in reversed(list(zip(self._shares, parts, strict=True))):  # of several alike, the first
            full[self._shard_of(share, n_points)] = part.numpy()
        return full

    def share_buffers(self, module: torch.nn.Module) -> None:
        """Give every process the first one's buffers: batch norm statistics differ between ranks."""
        if self.size == 1:
            return
        first = self.decide(lambda: [buffer.detach().cpu() for buffer in module.buffers()])
        with torch.no_grad():
            for buffer, value in zip(module.buffers(), first, strict=True):
                buffer.copy_(value)

    def save_parts(self, tensors: dict[str, torch.Tensor], folder: Path) -> None:
        """Write tensors that are split over the processes, each its own parts.

        Args:
            tensors: by name, on every process.
            folder: a new one, which all processes see.
        """
        save(tensors, checkpoint_id=folder, process_group=self._group)

    def load_parts(self, tensors: dict[str, torch.Tensor], folder: Path) -> None:
        """Read what `save_parts` wrote, split as these tensors are.

        Args:
            tensors: by name, on every process; they are filled.
            folder: where it was written.
        """
        load(tensors, checkpoint_id=folder, process_group=self._group)

    def forget(self) -> None:
        """Hold no process group any longer: the threads of one end only when nobody does. Of no use afterwards."""
        del self._group, self._world, self._shards

    def _shard_of(self, share: int, n_points: int) -> IntArray:
        padded = -(-n_points // self._n_shares) * self._n_shares
        return np.minimum(np.arange(share, padded, self._n_shares), n_points - 1)


def _leave() -> None:
    """End the threads of all groups before the interpreter goes: a gloo thread that outlives it may abort the process.

    It does so when it drops the tensors of the last exchange only then (pytorch/pytorch#190489), and the process ends
    with SIGABRT after all its work was done.
    """
    # before torch 2.8 a group goes with the interpreter locked (pytorch/pytorch#154976), and waits for its threads, one
    # of which may wait for the interpreter; a backend that is held here goes last, and unlocks it
    backends = [_backend(group) for group in (dist.group.WORLD, *(ranks._group for ranks in _OPEN))]
    while _OPEN:
        _OPEN.pop().forget()
    if dist.is_initialized():
        dist.destroy_process_group()
    del backends


def _backend(group: dist.ProcessGroup | None) -> object:
    """What talks for a group between main memories; None where nothing does."""
    with suppress(AttributeError, RuntimeError):
        return group._get_backend(torch.device("cpu"))  # type: ignore[union-attr]
    return None
