"""Plug any neighbour library into the sampler: a function from (features, k) to (indices, distances).

    python examples/custom_neighbors.py

Distances may be left out (`None`): they are then computed by the package, so a library's own convention does not
matter. With faiss, for instance, which returns squares and counts a point as its own neighbour:

    def faiss_flat(features, n_neighbors):
        index = faiss.IndexFlatL2(features.shape[1])
        index.add(features)
        return index.search(features, n_neighbors + 1)[1], None

On a machine with a GPU, `functools.partial(nearest_neighbors, backend="exact", device="cuda")` is a backend too.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.neighbors import NearestNeighbors

from lightning_diffal.datasets import blobs
from lightning_diffal.samplers import DiffusionSampler, QueryData


def ball_tree(features: np.ndarray, n_neighbors: int) -> tuple[np.ndarray, None]:
    """Scikit-learn's ball tree; `kneighbors()` without an argument leaves the point itself out."""
    index = NearestNeighbors(n_neighbors=n_neighbors, algorithm="ball_tree").fit(features)
    return index.kneighbors(return_distance=False), None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=5000)
    arguments = parser.parse_args()
    features, labels = blobs(arguments.points, n_classes=10, n_features=8)
    labelled = np.random.default_rng(0).choice(arguments.points, 10, replace=False)
    data = QueryData(features=features, labelled=labelled, labels=labels[labelled], num_classes=10)
    picks = {}
    for backend in ("exact", ball_tree):
        start = time.perf_counter()
        query = DiffusionSampler(backend=backend).select(data, 20, np.random.default_rng(0))
        picks[backend] = query.indices
        name = backend if isinstance(backend, str) else backend.__name__
        print(f"{name:10s} {time.perf_counter() - start:5.2f} s   first picks {query.indices[:8].tolist()}")
    print("same picks:", bool(np.array_equal(picks["exact"], picks[ball_tree])))


if __name__ == "__main__":
    main()
