"""Batches of which the last one is not too small, without leaving a point out."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import BatchSampler

__all__ = ["LeftOverBatchSampler"]


class LeftOverBatchSampler(BatchSampler):
    """Full batches, but the last ones share what is left over: every point was paid for, so none is dropped.

    A single point left over joins the last batch, since batch norm cannot train on one point. It takes the arguments of
    torch's own `BatchSampler`, so that Lightning can make it again over a share of the points for each process.

    Args:
        sampler: positions in the data set.
        batch_size: of full batches; one of the last batches may hold one point more.
        drop_last: the loader that this stands for would have dropped small batches: the last two are made alike.

    Example:
        >>> [len(batch) for batch in LeftOverBatchSampler(range(9), 4, False)]
        [4, 5]
        >>> [len(batch) for batch in LeftOverBatchSampler(range(11), 4, True)]
        [4, 4, 3]
        >>> [len(batch) for batch in LeftOverBatchSampler(range(10), 4, True)]
        [4, 3, 3]
    """

    def __iter__(self) -> Iterator[list[int]]:
        held: list[int] = []
        full = self.batch_size
        for position in self.sampler:
            held.append(position)
            if len(held) > 2 * full:  # more will follow: the first of them can go
                yield held[:full]
                held = held[full:]
        split = self._split(len(held))
        yield from (part for part in (held[:split], held[split:]) if part)

    def __len__(self) -> int:
        points = len(self.sampler)  # type: ignore[arg-type]
        full, left = divmod(points, self.batch_size)
        return full + (left > 1 or (left == 1 and full == 0))

    def _split(self, held: int) -> int:
        """Where the last points, of at most two batches and at least one, are divided."""
        left = held - self.batch_size
        if left <= 0:
            return held
        if left == 1:
            return held
        return -(-held // 2) if self.drop_last else self.batch_size
