"""Which search is taken, and why."""

from __future__ import annotations

import logging
import sys
from importlib.util import find_spec
from typing import Any

from lightning_diffal.utils.extras import require

__all__ = ["BACKENDS", "auto_backend", "faiss_module", "has_faiss", "log_search"]

BACKENDS = ("auto", "faiss", "exact", "pynndescent")
"""Names that `backend` may take."""

LISTS_FROM = 5_000
"""Points below which `"faiss"` searches exactly: there is nothing to save."""

# Seconds, measured on two cores of a Xeon (torch 2.13, pynndescent 0.7). See `auto_backend`.
_EXACT_PAIR = 1.6e-9
_EXACT_PAIR_DIMENSION = 1.4e-11
_DESCENT_START = 40.0
_DESCENT_POINT = 7.5e-5
_GPU_SPEEDUP = 50.0  # not measured: a cautious guess
_SHORT = 1.5  # seconds of the exact search that are not worth saving
_LOGGED_FROM = 10_000

_log = logging.getLogger(__name__)


def has_faiss() -> bool:
    """Whether faiss can be taken without being asked for.

    On macOS faiss and torch each bring an OpenMP runtime of their own, and two in one process may crash it: there it
    has to be named.

    Example:
        >>> has_faiss() in (True, False)
        True
    """
    return sys.platform != "darwin" and find_spec("faiss") is not None


def faiss_module() -> Any:
    """The module, or an error that says what to install."""
    return require("faiss", extra="faiss")


def auto_backend(n_points: int, n_dimensions: int, *, device: Any = "cpu") -> str:
    """The backend that `backend="auto"` takes.

    Where an exact search would take longer than a second or two: faiss's inverted lists where faiss is installed, else
    the exact search or pynndescent, whichever has the smaller estimated time. Exact search costs `N^2` pairs;
    pynndescent 25 to 40 seconds of compilation in each new process and then little per point, and it finds 85 to 99 %
    of the neighbours (measured on normal clusters of 64 and 32 dimensions). The choice depends on nothing but the
    arguments and what is installed (not on the cores, nor on what was compiled before), so that a resumed run searches
    as the interrupted one did.

    Args:
        n_points: `N`.
        n_dimensions: `D`.
        device: where the exact search would run.

    Returns:
        `"exact"`, `"faiss"` or `"pynndescent"`.

    Example:
        >>> auto_backend(10_000, 64)
        'exact'
    """
    exact = _exact_seconds(n_points, n_dimensions)
    if not str(device).startswith("cpu"):
        exact /= _GPU_SPEEDUP
    if exact <= _SHORT or n_points < LISTS_FROM:
        return "exact"
    if has_faiss():
        return "faiss"
    return "exact" if exact <= _DESCENT_START + _DESCENT_POINT * n_points else "pynndescent"


def _exact_seconds(n_points: int, n_dimensions: int) -> float:
    return float(n_points) ** 2 * (_EXACT_PAIR + _EXACT_PAIR_DIMENSION * n_dimensions)


def log_search(shape: tuple[int, ...], backend: str, asked: str, recall: float | None, seconds: float) -> None:
    """Say which search was taken, why, and what would be faster.

    Args:
        shape: `(N, D)`.
        backend: the one taken.
        asked: the argument.
        recall: share of the true neighbours found; `None` where nobody knows.
        seconds: it took.
    """
    n_points, n_dimensions = shape
    if n_points < _LOGGED_FROM:
        return
    words = {"faiss": "faiss's inverted lists", "exact": "exact search", "pynndescent": "pynndescent"}
    found = "" if recall is None else f", recall {recall:.3f}" + ("" if recall == 1 else " on a sample")
    why = f"backend={asked!r}" if asked != "auto" else "the fastest of what is installed"
    advice = ""
    if not has_faiss() and backend != "faiss" and _exact_seconds(n_points, n_dimensions) > _SHORT:
        advice = '; faster with faiss: pip install "lightning-diffal[faiss]"'
        if sys.platform == "darwin":
            advice += ' and backend="faiss"'
    elif backend != "faiss" and auto_backend(n_points, n_dimensions) == "faiss":
        advice = '; backend="faiss" would be faster'
    _log.info(
        "Neighbours of %s points in %d dimensions: %s (%s) in %.1f s%s%s.",
        f"{n_points:,}",
        n_dimensions,
        words.get(backend, backend),
        why,
        seconds,
        found,
        advice,
    )
