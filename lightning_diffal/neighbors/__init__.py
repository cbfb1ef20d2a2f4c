"""Nearest neighbours of every point: exact, approximate, or by any library of yours.

From features to neighbour lists; one file per search. What is made of the lists is in `graph`.
"""

from __future__ import annotations

from lightning_diffal.neighbors.nearest import (
    NeighborBackend,
    auto_backend,
    nearest_neighbors,
    nearest_rows,
)

__all__ = [
    "NeighborBackend",
    "auto_backend",
    "nearest_neighbors",
    "nearest_rows",
]
