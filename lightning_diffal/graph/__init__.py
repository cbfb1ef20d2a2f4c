"""The graph that labels diffuse on: distinct points, self-tuning weights, transition matrix, centrality.

From neighbour lists to matrices; the search for the neighbours is in `neighbors`, what diffuses over the matrices in
`diffusion`.
"""

from __future__ import annotations

from lightning_diffal.graph.weights import (
    centrality,
    collapse_duplicates,
    self_tuning_weights,
    transition_matrix,
)

__all__ = [
    "centrality",
    "collapse_duplicates",
    "self_tuning_weights",
    "transition_matrix",
]
