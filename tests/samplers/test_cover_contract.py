"""What holds of coverage whatever it is given: weights above zero, gains that never rise, memory that grows with N."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from lightning_diffal import diffusion
from lightning_diffal.samplers import DiffusionSampler, QueryData
from lightning_diffal.samplers.cover_batch import aims_of
from lightning_diffal.samplers.network import network_view
from tests.samplers.diffusion_cases import clouds

N, C = 120, 4


def probabilities_of(kind):
    generator = np.random.default_rng(1)
    if kind == "none":
        return None
    if kind == "even":
        return np.full((N, C), 1 / C, np.float32)
    if kind == "sure":
        return np.eye(C, dtype=np.float32)[generator.integers(C, size=N)]
    if kind == "of one class":
        return np.tile(np.eye(C, dtype=np.float32)[2], (N, 1))
    if kind == "tiny":  # a softmax that has underflown but for one class
        return np.tile(np.float32([1, 1e-38, 0, 0]), (N, 1))
    return generator.dirichlet(np.ones(C), size=N).astype(np.float32)


def features_of(kind):
    if kind == "equal":
        return np.ones((N, 3), np.float32)
    if kind == "two places":
        return np.repeat(np.float32([[0, 0], [9, 9]]), N // 2, axis=0)
    return clouds(N, 3)[0]


PROBABILITIES = ("none", "even", "sure", "of one class", "tiny", "mixed")


@pytest.mark.parametrize("labels", [(), (2,), (2, 2, 2), (0, 1, 2)])
@pytest.mark.parametrize("probabilities", PROBABILITIES)
@pytest.mark.parametrize("features", ["clouds", "two places", "equal"])
def test_any_answer_of_a_network(features, probabilities, labels):
    data = QueryData(
        features=features_of(features),
        probabilities=probabilities_of(probabilities),
        labelled=np.arange(len(labels)) * 7,
        labels=np.array(labels, np.int64),
        pending=np.array([100, 101]),
        num_classes=C,
    )
    sampler = DiffusionSampler()
    query = sampler.select(data, 30, np.random.default_rng(0))
    assert len(np.unique(query.indices)) == 30 and np.isin(query.indices, data.candidates).all()
    assert np.isfinite(query.scores).all() and (query.scores >= 0).all()
    fresh = query.details["covered"] < 1  # copies of known points are asked when nothing else is left
    assert (np.diff(query.scores[fresh]) <= 1e-5 * N).all()
    again = DiffusionSampler().select(data, 30, np.random.default_rng(0))
    np.testing.assert_array_equal(query.indices, again.indices)


@pytest.mark.parametrize("probabilities", PROBABILITIES)
def test_doubt_is_above_zero_and_knowledge_between_zero_and_one(probabilities):
    data = QueryData(
        features=features_of("clouds"),
        probabilities=probabilities_of(probabilities),
        labelled=[0, 7, 14],
        labels=[0, 1, 1],
        num_classes=C,
    )
    sampler = DiffusionSampler()
    space = sampler._graph(data.features)
    summary = diffusion.label_summary(space.transition, space.inverse[data.labelled], data.labels, C, 10)
    network = None if data.probabilities is None else network_view(space.inverse, data)
    aims = aims_of(space, sampler._kernel(space), data, summary, network)
    assert np.isfinite(aims.weights).all() and (aims.weights > 0).all()
    assert (aims.known >= 0).all() and (aims.known <= 1).all()


def test_an_even_network_leaves_coverage_alone():
    """All doubt alike: what is picked is what covers most, whatever the height of the doubt."""
    features, _ = clouds(N, 3)
    picks = [
        DiffusionSampler()
        .select(
            QueryData(features=features, probabilities=given, labelled=[0], labels=[0], num_classes=C),
            10,
            np.random.default_rng(0),
        )
        .indices
        for given in (probabilities_of("even"), np.tile(np.float32([0.4, 0.4, 0.1, 0.1]), (N, 1)))
    ]
    np.testing.assert_array_equal(*picks)


def peak_of(n_points, size):
    generator = np.random.default_rng(0)
    data = QueryData(
        features=generator.normal(size=(n_points, 8)).astype(np.float32),
        probabilities=generator.dirichlet(np.ones(C), size=n_points).astype(np.float32),
        labelled=np.arange(10),
        labels=np.arange(10) % C,
        num_classes=C,
    )
    sampler = DiffusionSampler(backend="exact")
    tracemalloc.start()
    try:
        sampler.select(data, size, np.random.default_rng(0))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_with_the_points_and_not_with_their_square():
    peak_of(500, 10)  # what is imported on first use
    small, large = peak_of(4_000, 20), peak_of(16_000, 20)
    assert large < 6 * small  # sixteen times as much, were anything of N x N held
    assert large < 16_000**2  # a quarter of a float32 kernel in full
