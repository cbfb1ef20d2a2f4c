"""Small data sets and calls that the tests of the diffusion sampler share."""

from __future__ import annotations

import numpy as np

from lightning_diffal.samplers import DiffusionSampler, QueryData

NO_LABELS = {"labelled": np.empty(0, np.int64), "labels": np.empty(0, np.int64)}


def ask(features, labelled=(), labels=(), size=5, *, seed=0, num_classes=3, sampler=None, **fields):
    data = QueryData(
        features=np.asarray(features, np.float32),
        labelled=np.asarray(labelled, np.int64),
        labels=np.asarray(labels, np.int64),
        num_classes=num_classes,
        **fields,
    )
    return (sampler or DiffusionSampler()).select(data, size, np.random.default_rng(seed))


def clouds(n=300, n_clouds=3, d=4, seed=0, spread=8.0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(n_clouds, size=n)
    centres = spread * generator.normal(size=(n_clouds, d))
    return (centres[labels] + generator.normal(size=(n, d))).astype(np.float32), labels


def play(features, truth, sampler, *, rounds, size, start=(), seed=0):
    """Rounds of an ideal annotator; the queries."""
    labelled = np.asarray(start, np.int64)
    queries = []
    for number in range(rounds):
        query = ask(
            features,
            labelled,
            truth[labelled],
            size,
            seed=[seed, number],
            num_classes=int(truth.max()) + 1,
            sampler=sampler,
        )
        queries.append(query)
        labelled = np.concatenate([labelled, query.indices])
    return queries


def random_kernel(n=80, seed=0):
    generator = np.random.default_rng(seed)
    dense = generator.random((n, n)) * (generator.random((n, n)) < 0.1)
    dense = np.maximum(dense, dense.T)
    np.fill_diagonal(dense, 1)
    return dense.astype(np.float32)


def naive_cover(kernel, weights, covered, nodes, size):
    covered, left, chosen = covered.astype(np.float64), list(range(len(nodes))), []
    for _ in range(size):
        gain = [weights @ np.maximum(kernel[nodes[i]] - covered, 0) for i in left]
        best = left.pop(int(np.argmax(gain)))
        chosen.append((best, max(gain), covered[nodes[best]]))
        covered = np.maximum(covered, kernel[nodes[best]])
    return [np.array(column) for column in zip(*chosen, strict=True)]
