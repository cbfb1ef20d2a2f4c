"""Whether the last round's neighbour lists are a start for this round's: recall and time, beside a new search.

    python tests/benchmarks/last_graph.py BEFORE.npy AFTER.npy

Both files hold features `(N, D)` of the same points, of two rounds. Candidates for a point are its neighbours in the
first and theirs, as NN-descent begins (Dong, Moses and Li, 2011); the nearest of them in the second are taken.
"""

import sys
import time

import numpy as np

from lightning_diffal.neighbors.nearest import find_neighbors
from lightning_diffal.neighbors.refine import nearest_of

K, ROWS = 15, 4096


def improved(points, lists):
    """One step: the nearest among neighbours and their neighbours."""
    found = np.empty_like(lists)
    for start in range(0, len(points), ROWS):
        rows = np.arange(start, min(start + ROWS, len(points)))
        near = lists[rows]
        wide = np.sort(np.concatenate([near, lists[near].reshape(len(rows), -1)], axis=1), axis=1)
        wide[:, 1:][wide[:, 1:] == wide[:, :-1]] = -1  # each once
        found[rows] = nearest_of(points, rows, wide, K)[0]
    return found


def recall(found, true):
    return np.mean([len(np.intersect1d(one, other)) for one, other in zip(found, true, strict=True)]) / K


def main():
    before, after = (np.ascontiguousarray(np.load(path), np.float32) for path in sys.argv[1:])
    lists = find_neighbors(before, K, backend="faiss").indices.astype(np.int64)
    start = time.process_time()
    searched = find_neighbors(after, K, backend="faiss")
    seconds = time.process_time() - start
    rows = np.random.default_rng(0).choice(len(after), 1000, replace=False)
    true = find_neighbors(after, K, backend="exact", rows=rows).indices
    print(f"new search: {seconds:.1f} s of the processor, recall {recall(searched.indices[rows], true):.3f}")
    print(f"last lists as they are: recall {recall(lists[rows], true):.3f}")
    for step in (1, 2):
        start = time.process_time()
        lists = improved(after, lists)
        seconds = time.process_time() - start
        print(f"step {step} from the last lists: {seconds:.1f} s more, recall {recall(lists[rows], true):.3f}")


if __name__ == "__main__":
    main()
