"""Graphs that are used again: by a second sampler of the same settings, in the next round, and after a resume."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from lightning_diffal.graph.point_graph import PointGraph
from lightning_diffal.utils.storage.files import replacing

__all__ = ["graph_of", "keeping_graphs"]

_VERSION = 2
_KEPT_FROM = 10_000  # nodes: a smaller graph takes no time

_folder: ContextVar[Path | None] = ContextVar("graph_folder", default=None)
_alive: weakref.WeakValueDictionary[str, PointGraph] = weakref.WeakValueDictionary()


@contextmanager
def keeping_graphs(folder: str | Path | None) -> Iterator[None]:
    """Within the block, graphs are kept in a folder, and read from it where features and settings are the same.

    Args:
        folder: is made when something is kept. It holds one graph, the last. `None`: none is kept.
    """
    token = _folder.set(None if folder is None else Path(folder))
    try:
        yield
    finally:
        _folder.reset(token)


def graph_of(source: str, build: Callable[[], PointGraph]) -> PointGraph:
    """The graph made of something: one that is in use already, or kept in the folder, else a new one.

    Args:
        source: says what it is made of, a digest of the features and every setting.
        build: makes it.

    Example:
        >>> made = PointGraph(np.zeros(1, np.int64), sp.csr_matrix(np.eye(1)), np.ones(1))
        >>> graph_of("a", lambda: made) is made
        True
    """
    found = _alive.get(source)
    folder = _folder.get()
    if found is None and folder is not None:
        found = _read(folder, source)
    if found is None:
        found = build()
        if folder is not None and found.n_nodes >= _KEPT_FROM:
            _write(folder, source, found)
    if found.n_nodes >= _KEPT_FROM:
        _alive[source] = found
    return found


_ARRAYS = ("indptr", "indices", "data", "degree", "inverse")


def _write(folder: Path, source: str, graph: PointGraph) -> None:
    if not isinstance(graph.transition, sp.csr_matrix):
        return  # other processes hold parts of it
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "graph.json"
    table.unlink(missing_ok=True)  # the arrays are those of no graph while they are written
    parts = (*(getattr(graph.transition, name) for name in _ARRAYS[:3]), graph.degree, graph.inverse)
    for name, array in zip(_ARRAYS, parts, strict=True):
        with replacing(folder / f"graph-{name}.npy") as temporary:
            np.save(temporary, array, allow_pickle=False)
    facts = {"version": _VERSION, "source": source, "recall": graph.recall}
    with replacing(table) as temporary:
        temporary.write_text(json.dumps(facts), encoding="utf-8")


def _read(folder: Path, source: str) -> PointGraph | None:
    """The graph in the folder, where it is this one. What cannot be read is made again."""
    try:
        facts = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
        if (facts["version"], facts["source"]) != (_VERSION, source):
            return None
        pointers, indices, data, degree, inverse = (
            np.load(folder / f"graph-{name}.npy", allow_pickle=False) for name in _ARRAYS
        )
        shape = (len(degree), len(degree))
        transition = sp.csr_matrix((data, indices, pointers), shape=shape)
        transition.check_format(full_check=True)
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return None
    return PointGraph(inverse, transition, degree, facts["recall"])
