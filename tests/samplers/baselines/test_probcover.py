"""ProbCover against a naive transcription that holds the whole graph."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers import ProbCoverSampler, QueryData
from lightning_diffal.samplers.baselines import probcover
from lightning_diffal.samplers.baselines.kmeans import kmeans
from lightning_diffal.samplers.baselines.probcover import pure_radius


def points(n=120, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def distances_of(features):
    return np.linalg.norm(features[:, None].astype(float) - features[None], axis=2)


def naive_cover(features, delta, held, candidates, size):
    """Algorithm 1: edges to all points of a ball; edges into covered points are removed. Ties: the first."""
    edges = distances_of(features) <= delta
    for i in held:
        edges[:, edges[i].copy()] = False
    balls = distances_of(features) <= delta
    chosen, gains = [], []
    for _ in range(size):
        left = [i for i in candidates if i not in chosen]
        best = max(left, key=lambda i: edges[i].sum())  # the first of equals
        chosen.append(best)
        gains.append(edges[best].sum())
        edges[:, balls[best]] = False
    return chosen, gains


@pytest.mark.parametrize("delta", [0.3, 0.9, 2.0])
@pytest.mark.parametrize("held", [[], [101, 4, 60]])
@pytest.mark.parametrize("offset", [0, 1000])
def test_equals_naive_transcription(delta, held, offset):
    features = points() + np.float32(offset)
    candidates = np.setdiff1d(np.arange(120), held)[::-2]
    data = QueryData(
        features=features,
        labelled=held[:2],
        labels=np.zeros(len(held[:2]), int),
        pending=held[2:],
        candidates=candidates,
    )
    query = ProbCoverSampler(delta).select(data, 15, np.random.default_rng(3))
    order = np.argsort(np.random.default_rng(3).random(120))  # ties: by key
    by_key = [i for i in order if i in set(candidates.tolist())]
    chosen, gains = naive_cover(features, delta, held, by_key, 15)
    assert query.indices.tolist() == chosen
    np.testing.assert_allclose(query.scores, np.array(gains) / 120, rtol=1e-6)
    balls = distances_of(features) <= delta
    assert query.summary["covered"] == pytest.approx(balls[held + chosen].any(axis=0).mean())
    assert query.summary["delta"] == pytest.approx(delta)


@pytest.mark.parametrize("purity", [0.5, 0.9, 0.95])
def test_radius_is_the_largest_pure_one(purity):
    features = points()
    clusters = kmeans(features, 4, np.random.default_rng(0))
    distances = distances_of(features)

    def share(delta):
        return np.mean([len(set(clusters[row <= delta])) == 1 for row in distances])

    found = np.sqrt(pure_radius(features, 4, purity, np.random.default_rng(0)))
    assert share(found) >= purity > share(found * 1.05)


def test_balls_are_as_pure_as_was_asked_where_many_touch_at_once():
    features = np.array([[0], [7], [1], [8], [2], [9]], np.float32)
    delta = ProbCoverSampler().select(QueryData(features=features), 1, np.random.default_rng(0)).summary["delta"]
    sides = features[:, 0] > 5
    assert all(len(set(sides[row <= delta])) == 1 for row in distances_of(features))
    assert 4.9 < delta < 5


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_one_radius_for_a_run(metric):
    """Whatever the seed, the round and the order of the data set, as long as the features are the same."""
    features = points(300, 5)
    order = np.random.default_rng(1).permutation(300)
    sampler = ProbCoverSampler(metric=metric)
    radii = {
        sampler.select(QueryData(features=rows, labelled=held, labels=held % 3, num_classes=3), 5, generator).summary[
            "delta"
        ]
        for rows, held, generator in [
            (features, np.array([], int), np.random.default_rng(0)),
            (features, np.array([250, 3, 41]), np.random.default_rng(1)),
            (features[order], np.array([7, 8]), np.random.default_rng(2)),
        ]
    }
    assert len(radii) == 1


def test_agrees_with_scikit_activeml():
    pool = pytest.importorskip("skactiveml.pool")
    features = points(90, 2)
    labels = np.full(90, np.nan)
    labels[[70, 4]] = 0
    theirs = pool.ProbCover(n_classes=3, deltas=[0.6], random_state=0)
    _, utilities = theirs.query(features.astype(float), labels, batch_size=6, return_utilities=True)
    gains = np.nanmax(utilities, axis=1)
    query = ProbCoverSampler(0.6).select(
        QueryData(features=features, labelled=[70, 4], labels=[0, 0]), 6, np.random.default_rng(0)
    )
    np.testing.assert_allclose(query.scores * 90, gains, atol=1e-3)  # which of equally good ones is chance


def test_radius_looks_at_a_sample_of_many(monkeypatch):
    features = points(400)
    exact = pure_radius(features, 3, 0.9, np.random.default_rng(0))
    monkeypatch.setattr(probcover, "_PURITY_SAMPLE", 200)
    assert pure_radius(features, 3, 0.9, np.random.default_rng(0)) == pytest.approx(exact, rel=0.5)


def test_default_radius_covers_separate_blobs_one_by_one():
    generator = np.random.default_rng(0)
    y = np.arange(90) % 3
    features = (20 * np.eye(3)[y] + generator.uniform(-1, 1, (90, 3))).astype(np.float32)
    data = QueryData(features=features, num_classes=3)
    query = ProbCoverSampler().select(data, 3, np.random.default_rng(0))
    assert set(y[query.indices]) == {0, 1, 2}
    assert query.summary["covered"] == 1
    rest = ProbCoverSampler().select(data, 10, np.random.default_rng(0))
    assert (rest.scores[3:] == 0).all()  # everything is covered: random ones


def test_one_ball_covers_equal_points():
    query = ProbCoverSampler().select(QueryData(features=np.ones((40, 2))), 3, np.random.default_rng(0))
    assert query.scores.tolist() == [1, 0, 0] and query.summary["covered"] == 1


def test_coverage_on_a_sample_is_close():
    features = points(2000, 2)
    data = QueryData(features=features)
    distances = distances_of(features)
    shares = []
    for max_covered in (50_000, 500):
        query = ProbCoverSampler(0.5, max_covered=max_covered).select(data, 8, np.random.default_rng(0))
        shares.append((distances[query.indices] <= 0.5).any(axis=0).mean())
    assert shares[1] > 0.95 * shares[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"delta": 0}, "`delta` to be a number above 0, or None, but got 0"),
        ({"delta": True}, "`delta` to be a number above 0, or None, but got True"),
        ({"delta": "1"}, "`delta` to be a number above 0, or None, but got '1'"),
        ({"purity": 1.0}, "`purity` to be a number between 0 and 1, but got 1.0"),
        ({"purity": None}, "`purity` to be a number between 0 and 1, but got None"),
        ({"max_covered": 0}, "`max_covered` to be an integer of at least 1, but got 0"),
        ({"metric": "l1"}, "`metric` to be one of"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        ProbCoverSampler(**arguments)
