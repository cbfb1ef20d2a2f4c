"""Greedy k-centre against a naive transcription of the paper's algorithm 1."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers import CoreSetSampler, QueryData
from lightning_diffal.samplers.points import keyed_points, nearest_squared, squared_distances


def points(n=80, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def naive_k_center(features, centres, candidates, size):
    chosen, scores = [], []
    centres = list(centres)
    for _ in range(size):
        best, radius = None, -1.0
        for i in candidates:
            if i in chosen:
                continue
            nearest = min(np.linalg.norm(features[i].astype(float) - features[j]) for j in centres)
            if nearest > radius:
                best, radius = i, nearest
        chosen.append(best)
        scores.append(radius)
        centres.append(best)
    return chosen, scores


@pytest.mark.parametrize("pending", [[], [5, 44]])
@pytest.mark.parametrize("offset", [0, 1000])
def test_equals_naive_transcription(pending, offset):
    features = points() + np.float32(offset)
    labelled = [71, 3, 30]
    candidates = np.setdiff1d(np.arange(80), labelled + pending)[::2]
    data = QueryData(
        features=features, labelled=labelled, labels=[0, 1, 1], pending=pending, candidates=candidates, num_classes=2
    )
    query = CoreSetSampler().select(data, 12, np.random.default_rng(1))
    chosen, scores = naive_k_center(features, labelled + pending, candidates, 12)
    assert query.indices.tolist() == chosen
    np.testing.assert_allclose(query.scores, scores, rtol=1e-5)


def test_cosine_equals_euclidean_on_directions():
    features = points() * np.random.default_rng(3).uniform(0.1, 10, (80, 1)).astype(np.float32)
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    queries = [
        CoreSetSampler(metric=metric).select(
            QueryData(features=x, labelled=[9], labels=[0]), 10, np.random.default_rng(0)
        )
        for metric, x in (("cosine", features), ("euclidean", directions))
    ]
    np.testing.assert_array_equal(queries[0].indices, queries[1].indices)
    np.testing.assert_allclose(queries[0].scores, queries[1].scores, rtol=1e-5)


def test_cold_start_begins_anywhere_and_then_covers():
    features = points()
    firsts = set()
    for seed in range(20):
        query = CoreSetSampler().select(QueryData(features=features), 4, np.random.default_rng(seed))
        chosen, scores = naive_k_center(features, query.indices[:1], range(80), 3)
        assert query.indices[1:].tolist() == chosen
        np.testing.assert_allclose(query.scores, [scores[0], *scores], rtol=1e-5)
        firsts.add(int(query.indices[0]))
    assert len(firsts) > 10


def test_copies_of_labelled_points_come_last():
    features = np.concatenate([points(30)] * 2)
    data = QueryData(features=features, labelled=np.arange(30, 40), labels=np.zeros(10, int))
    query = CoreSetSampler().select(data, 50, np.random.default_rng(0))
    assert (query.scores[:20] > 0).all() and (query.scores[20:] == 0).all()
    assert len(set(query.indices[:20] % 30)) == 20 and min(query.indices[:20] % 30) >= 10


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_magnitudes_do_not_overflow(scale):
    data = [QueryData(features=points() * np.float32(s), labelled=[9], labels=[0]) for s in (1, scale)]
    plain, scaled = (CoreSetSampler().select(d, 10, np.random.default_rng(0)) for d in data)
    np.testing.assert_array_equal(plain.indices, scaled.indices)
    np.testing.assert_allclose(scaled.scores / np.float32(scale), plain.scores, rtol=1e-5)


def test_distances_are_exact_between_copies():
    features = points(200, 7) + 100
    assert squared_distances(features, features[17])[17] == 0
    np.testing.assert_array_equal(nearest_squared(features, features[[150, 3, 3]])[[3, 150]], 0)
    assert np.isinf(nearest_squared(features, features[:0])).all()


def test_points_stand_in_the_order_of_the_keys():
    data = QueryData(features=points(), labelled=[70, 2], labels=[0, 0], pending=[11])
    space = keyed_points(data, "euclidean", np.random.default_rng(4))
    np.testing.assert_array_equal(space.order, np.argsort(np.random.default_rng(4).random(80)))
    assert set(space.order[space.held]) == {70, 2, 11}
    assert set(space.order[space.candidates]) == set(data.candidates)
    distances = squared_distances(space.points, space.points[5])
    expected = np.linalg.norm(data.features[space.order] - data.features[space.order[5]], axis=1)
    np.testing.assert_allclose(space.true_lengths(distances), expected, rtol=1e-4, atol=1e-6)


def test_bad_input():
    with pytest.raises(ConfigurationError, match=r"`metric` to be one of .* but got 'l1'"):
        CoreSetSampler(metric="l1")
    with pytest.raises(ConfigurationError, match="`data` to hold `features`, but got None"):
        CoreSetSampler().select(QueryData(num_points=3), 1, np.random.default_rng(0))
    with pytest.raises(ConfigurationError, match="`query_size` to be an integer of at least 1, but got 0"):
        CoreSetSampler().select(QueryData(features=points()), 0, np.random.default_rng(0))
