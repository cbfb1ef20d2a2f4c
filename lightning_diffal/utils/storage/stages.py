"""Long work in stages, with arrays that may be larger than memory: it can be killed, and goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.utils.numeric.threads import each, slices
from lightning_diffal.utils.phases import announce
from lightning_diffal.utils.storage.files import replacing

__all__ = ["Stages", "counted", "current_stages", "each_counted"]

_FORMAT = 2  # of what the searches keep; a folder in another one is begun anew


class Stages:
    """What is finished of a long piece of work, and its arrays; in memory only, or in a folder.

    Args:
        folder: is made. `None`: arrays lie in memory, and nothing outlives the process.
        source: what the work is about; a folder of anything else is begun anew.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     stages = Stages(folder, source="a")
        ...     stages.array("squares", (3,), np.int64)[:] = [0, 1, 4]
        ...     stages.finish("squared", largest=4)
        ...     again, other = Stages(folder, source="a"), Stages(folder, source="b")
        ...     found = again.facts("squared"), again.array("squares", (3,), np.int64).tolist(), other.facts("squared")
        >>> found
        ({'largest': 4}, [0, 1, 4], None)
    """

    def __init__(self, folder: str | Path | None = None, *, source: str = "") -> None:
        self._folder = None if folder is None else Path(folder)
        self._source = source
        self._facts: dict[str, dict[str, Any]] = {}
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            kept = json.loads(self._table.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            kept = {}
        if (kept.get("source"), kept.get("format")) == (source, _FORMAT):
            self._facts = kept["stages"]

    @property
    def outlives(self) -> bool:
        """Whether stages are kept in a folder."""
        return self._folder is not None

    @property
    def _table(self) -> Path:
        assert self._folder is not None
        return self._folder / "stages.json"

    def facts(self, stage: str) -> Mapping[str, Any] | None:
        """What a finished stage said; `None` where it has not ended.

        Args:
            stage: its name.
        """
        return self._facts.get(stage)

    def finish(self, stage: str, **facts: Any) -> None:
        """Remember that a stage has ended, or a part of it: all arrays are on disk then.

        Args:
            stage: its name.
            **facts: numbers and strings that later stages need.
        """
        self._facts[stage] = facts
        if self._folder is not None:
            for array in self._arrays.values():
                array.flush()  # type: ignore[attr-defined]
            with replacing(self._table) as temporary:
                said = {"format": _FORMAT, "source": self._source, "stages": self._facts}
                temporary.write_text(json.dumps(said), encoding="utf-8")

    def forget(self, *stages: str) -> None:
        """Take some stages as not done.

        Args:
            *stages: their names.
        """
        for stage in stages:
            self._facts.pop(stage, None)

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array to write to, as it was left where it is there already.

        Args:
            name: of the array.
            shape: of the array.
            dtype: of the array.
        """
        kept = self._arrays.get(name)
        if kept is not None and kept.shape == shape and kept.dtype == np.dtype(dtype):
            return kept
        if self._folder is None:
            self._arrays[name] = np.empty(shape, dtype)
            return self._arrays[name]
        path = self._folder / f"{name}.npy"
        if path.exists():
            try:
                kept = np.load(path, mmap_mode="r+", allow_pickle=False)
            except (OSError, ValueError, EOFError):
                kept = None  # killed while it was made
            if kept is not None and kept.shape == shape and kept.dtype == np.dtype(dtype):
                self._arrays[name] = kept
                return self._arrays[name]
        self._arrays[name] = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
        return self._arrays[name]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let searches within the block take these stages: see `current_stages`."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


_current: ContextVar[Stages | None] = ContextVar("stages", default=None)


def current_stages() -> Stages | None:
    """The stages that a search takes; `None` where nobody keeps any."""
    return _current.get()


def counted(words: str, parts: Sequence[slice], total: int) -> Iterator[slice]:
    """The parts of a piece of work; whoever listens is told how far it is, where there are several.

    Args:
        words: what is being done.
        parts: slices of points.
        total: how many points there are.

    Example:
        >>> from lightning_diffal.utils.phases import listening
        >>> with listening(lambda words, done, total: print(words, done, total)):
        ...     _ = list(counted("counting", [slice(0, 2), slice(2, 3)], 3))
        counting 0 3
        counting 2 3
        counting 3 3
    """
    if len(parts) > 1:
        announce(words, parts[0].start, total)
    for part in parts:
        yield part
        if len(parts) > 1:
            announce(words, part.stop, total)


def each_counted(words: str, action: Callable[[slice], None], size: int, block: int, *, at_once: int) -> None:
    """`each` over the blocks of a range, told like `counted`, some blocks at a time.

    Args:
        words: what is being done.
        action: as of `lightning_diffal.utils.numeric.threads.each`.
        size: of the range.
        block: length of each slice but the last.
        at_once: blocks between two of which nothing is told.

    Example:
        >>> import numpy as np
        >>> squares = np.zeros(5)
        >>> def square(part): squares[part] = np.arange(5)[part] ** 2
        >>> each_counted("squaring", square, 5, 2, at_once=2)
        >>> squares
        array([ 0.,  1.,  4.,  9., 16.])
    """
    for several in counted(words, slices(size, block * at_once), size):
        each(
            action,
            (
                slice(several.start + own.start, several.start + own.stop)
                for own in slices(several.stop - several.start, block)
            ),
        )
