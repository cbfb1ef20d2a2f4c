"""The graph spread over several processes: each holds the rows of its share of the points, and a product is gathered.

A selection that is shared runs the same code on every process, in step. Before every exchange the processes agree
that none has failed, so that an error on one ends all; what could fail (memory above all) is done before.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import scipy.sparse as sp

from lightning_diffal.exceptions import OtherProcessError
from lightning_diffal.utils.aliases import Array, FloatArray, IntArray

if TYPE_CHECKING:
    import torch.distributed as dist

__all__ = ["ShardedRows", "Shards", "current_shards", "quoted"]

T = TypeVar("T")


class Shards:
    """What the processes of a shared selection exchange by. All methods but `bounds` are called on all, in step.

    Args:
        rank: of this process.
        size: how many there are.
        group: over gloo; `None` is the default group.
    """

    def __init__(self, rank: int, size: int, group: dist.ProcessGroup | None = None) -> None:
        self.rank = rank
        self.size = size
        self._group = group

    def together(self, action: Callable[[], T]) -> T:
        """Run something in which `current_shards` is this; where it fails on one process, all of them raise.

        Args:
            action: exchanges by these methods only.

        Returns:
            What it returned here.

        Raises:
            Exception: what `action` raised here; else an `OtherProcessError` that quotes another process's.
        """
        token = _current.set(self)
        try:
            result = action()
        except OtherProcessError:
            raise
        except BaseException as error:  # whatever it is, the others must not wait for ever
            self._agree(error)
            raise
        finally:
            _current.reset(token)
        self._agree()
        return result

    def any(self, value: bool) -> bool:
        """Whether it is true on some process."""
        return bool(self._counts(int(value)).any())

    def bounds(self, n_rows: int) -> IntArray:
        """`(size + 1,)` where the share of each process starts, and the end.

        Example:
            >>> Shards(0, 3).bounds(10)
            array([ 0,  3,  6, 10])
        """
        return np.arange(self.size + 1, dtype=np.int64) * n_rows // self.size

    def gather_rows(self, own: Array, n_rows: int) -> Array:
        """`(N, ...)` out of what each process has of its share.

        Args:
            own: `(R, ...)` this process's rows.
            n_rows: `N`.
        """
        return self._gather(own, np.diff(self.bounds(n_rows)))

    def gather_lists(self, own: Array) -> Array:
        """What the processes have, one after the other; of any length."""
        return self._gather(own, self._counts(len(own)))

    def exchange(self, parts: list[Array]) -> Array:
        """Send each process its part; what the others sent here, one after the other.

        Args:
            parts: by process, of one type and any length.
        """
        lengths = np.array([len(part) for part in parts])
        import torch
        import torch.distributed as dist

        table = self._gather(lengths, np.full(self.size, self.size)).reshape(self.size, self.size)
        received = table[:, self.rank].tolist()
        sent = torch.from_numpy(np.concatenate(parts))
        result = torch.empty(sum(received), dtype=sent.dtype)
        self._agree()
        dist.all_to_all_single(result, sent, received, lengths.tolist(), group=self._group)
        return result.numpy()

    def from_first(self, array: Array) -> Array:
        """What the first process has, of any shape.

        Args:
            array: the other processes' are of the same type and number of dimensions, and nothing else.
        """
        shape = self._gather(np.array(array.shape, np.int64), np.full(self.size, array.ndim))[: array.ndim]
        flat = np.ascontiguousarray(array).reshape(-1)
        return self.gather_lists(flat if self.rank == 0 else flat[:0]).reshape(shape)

    def _counts(self, value: int) -> IntArray:
        return self._gather(np.array([value], np.int64), np.ones(self.size, np.int64))

    def _gather(self, own: Array, counts: IntArray) -> Array:
        import torch
        import torch.distributed as dist

        padded = np.zeros((int(counts.max()), *own.shape[1:]), own.dtype)  # gloo wants the same length of all
        padded[: len(own)] = own
        sent = torch.from_numpy(padded)
        parts = [torch.empty_like(sent) for _ in range(self.size)]
        result = np.empty((int(counts.sum()), *own.shape[1:]), own.dtype)
        self._agree()
        if padded.size:
            dist.all_gather(parts, sent, group=self._group)
        ends = np.cumsum(counts)
        for part, count, end in zip(parts, counts, ends, strict=True):
            result[end - count : end] = part[: int(count)].numpy()
        return result

    def _agree(self, error: BaseException | None = None) -> None:
        import torch
        import torch.distributed as dist

        failed = torch.tensor([int(error is not None)])
        dist.all_reduce(failed, group=self._group)
        if not failed.item():
            return
        texts: list[Any] = [None] * self.size
        dist.all_gather_object(texts, None if error is None else quoted(error), group=self._group)
        if error is None:
            rank, text = next((rank, text) for rank, text in enumerate(texts) if text is not None)
            raise OtherProcessError(f"Rank {rank} failed, and with it this process: {text}")


_current: ContextVar[Shards | None] = ContextVar("shards", default=None)


def current_shards() -> Shards | None:
    """What a shared selection exchanges by; `None` where one process selects alone."""
    return _current.get()


class ShardedRows:
    """A square sparse matrix of which every process holds the rows of its share.

    It takes part in products, and its rows can be read, as if it were whole; on all processes in step. A row times a
    matrix is summed in the same order as in one process, so the product is the same bit for bit.

    Args:
        rows: `(R, N)` of this process.
        shards: the processes.
    """

    def __init__(self, rows: sp.csr_matrix, shards: Shards) -> None:
        self.rows = rows
        self.shape = (rows.shape[1], rows.shape[1])
        self._shards = shards

    def __matmul__(self, other: FloatArray) -> FloatArray:
        return self._shards.gather_rows(self.rows @ other, self.shape[0])

    def __getitem__(self, points: IntArray) -> sp.csr_matrix:
        """Some rows, on every process."""
        bounds = self._shards.bounds(self.shape[0])
        start, end = bounds[self._shards.rank : self._shards.rank + 2]
        own = self.rows[points[(points >= start) & (points < end)] - start]
        lengths = self._shards.gather_lists(np.diff(own.indptr).astype(np.int64))
        indices = self._shards.gather_lists(own.indices.astype(np.int64))
        values = self._shards.gather_lists(own.data)
        pointers = np.concatenate([[0], np.cumsum(lengths)])
        by_owner = np.argsort(np.searchsorted(bounds, points, side="right"), kind="stable")
        gathered = sp.csr_matrix((values, indices, pointers), shape=(len(points), self.shape[1]))
        return gathered[np.argsort(by_owner, kind="stable")]


def quoted(error: BaseException) -> str:
    """An error in words, for other processes."""
    return f"{type(error).__name__}: {error}"
