"""TypiClust against a naive transcription, and the k-means under it."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers import QueryData, TypiClustSampler
from lightning_diffal.samplers.baselines import typiclust
from lightning_diffal.samplers.baselines.kmeans import _means, draw_by_weight, kmeans
from lightning_diffal.samplers.baselines.typiclust import mean_neighbor_distances

CENTRES = np.array([[0, 0], [12, 0], [0, 12], [12, 12], [24, 0]])


def blobs(sizes, seed=0, spread=1.0):
    generator = np.random.default_rng(seed)
    y = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (CENTRES[y] + spread * generator.normal(size=(len(y), 2))).astype(np.float32), y


def naive_mean_distances(points, n_neighbors):
    k = max(1, min(n_neighbors, len(points) // 2))
    distances = np.linalg.norm(points[:, None].astype(float) - points[None], axis=2)
    return np.array(
        [np.sort(np.delete(row, i))[:k].mean() if len(points) > 1 else 0 for i, row in enumerate(distances)]
    )


def naive_typiclust(features, clusters, held, candidates, size, n_neighbors):
    """Fewest held or picked points first, then the largest; small clusters last; each time the most typical one."""
    held, picked = list(held), []
    for _ in range(size):
        best = None
        for cluster in np.unique(clusters):
            members = np.flatnonzero(clusters == cluster)
            left = [i for i in members if i in candidates and i not in picked]
            if not left:
                continue
            count = len(set(members) & set(held + picked))
            key = (len(members) <= 5, count, -len(members))
            if best is None or key < best[0]:
                best = key, members, left
        _, members, left = best
        typicality = dict(zip(members, naive_mean_distances(features[members], n_neighbors), strict=True))
        picked.append(min(left, key=typicality.get))
    return picked


@pytest.mark.parametrize("n_neighbors", [3, 20])
@pytest.mark.parametrize("query_size", [2, 30])
def test_equals_naive_transcription(monkeypatch, n_neighbors, query_size):
    features, _ = blobs([40, 31, 23, 14, 3])
    seen = []
    monkeypatch.setattr(typiclust, "kmeans", lambda *args: seen.append(kmeans(*args)) or seen[-1])
    labelled, pending = [100, 7, 55], [20]
    candidates = np.setdiff1d(np.arange(111), labelled + pending)[3:-4]
    data = QueryData(features=features, labelled=labelled, labels=[0, 1, 2], pending=pending, candidates=candidates)
    query = TypiClustSampler(n_neighbors, max_clusters=7).select(data, query_size, np.random.default_rng(2))
    clusters = np.empty(111, int)
    clusters[np.argsort(np.random.default_rng(2).random(111))] = seen[0]
    assert clusters.max() == min(4 + query_size, 7) - 1
    sizes = np.bincount(clusters)
    assert len(set(sizes)) == len(sizes)  # else ties, which keys break
    expected = naive_typiclust(features, clusters, labelled + pending, set(candidates), query_size, n_neighbors)
    assert query.indices.tolist() == expected
    lengths = [naive_mean_distances(features[clusters == clusters[i]], n_neighbors) for i in expected]
    rank = [np.flatnonzero(np.flatnonzero(clusters == clusters[i]) == i)[0] for i in expected]
    np.testing.assert_allclose(query.scores, [1 / v[r] for v, r in zip(lengths, rank, strict=True)], rtol=1e-4)
    np.testing.assert_array_equal(query.details["cluster_size"], sizes[clusters[expected]])


def test_covers_new_blobs_by_size():
    features, y = blobs([50, 40, 30, 20, 10])
    labelled = [int(np.flatnonzero(y == 1)[4]), int(np.flatnonzero(y == 3)[0])]
    data = QueryData(features=features, labelled=labelled, labels=[1, 3])
    query = TypiClustSampler().select(data, 3, np.random.default_rng(0))
    assert y[query.indices].tolist() == [0, 2, 4]
    to_centre = np.linalg.norm(features - CENTRES[y], axis=1)
    assert to_centre[query.indices].max() < 1


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_mean_neighbor_distances(n):
    points = np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)
    np.testing.assert_allclose(mean_neighbor_distances(points, 20), naive_mean_distances(points, 20), rtol=1e-5)


def test_scores_are_finite_for_copies():
    data = QueryData(features=np.repeat(np.float32([[1e-30], [5e-30]]), 30, axis=0))
    assert np.isfinite(TypiClustSampler().select(data, 10, np.random.default_rng(0)).scores).all()


class TestKMeans:
    def test_finds_separate_blobs(self):
        points, y = blobs([300, 200, 100, 400, 50], spread=0.5)
        clusters = kmeans(points, 5, np.random.default_rng(0))
        assert len({(a, b) for a, b in zip(clusters, y, strict=True)}) == 5

    def test_is_a_fixed_point_of_lloyds_iteration(self):
        points = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
        clusters = kmeans(points, 4, np.random.default_rng(1))
        means = np.stack([points[clusters == c].mean(axis=0) for c in range(4)])
        nearest = np.linalg.norm(points[:, None] - means, axis=2).argmin(axis=1)
        assert (nearest == clusters).mean() > 0.99  # 25 iterations may not be the last

    def test_fits_a_sample_and_assigns_all(self):
        points, y = blobs([500, 400, 300, 200, 100], spread=0.5)
        clusters = kmeans(np.concatenate([points] * 3), 5, np.random.default_rng(0))
        assert len(clusters) == 4500 and len(set(zip(clusters, np.tile(y, 3), strict=True))) == 5

    @pytest.mark.parametrize("points", [np.ones((9, 2)), np.zeros((1, 3)), np.repeat([[0.0], [1.0]], 6, axis=0)])
    def test_few_distinct_points(self, points):
        clusters = kmeans(points.astype(np.float32), 5, np.random.default_rng(0))
        assert len(np.unique(clusters)) == len(np.unique(points, axis=0)) == clusters.max() + 1

    def test_empty_cluster_keeps_its_centre(self):
        centres = _means(np.float32([[1.0], [3.0]]), np.array([0, 0]), np.float32([[9.0], [7.0]]))
        assert centres.tolist() == [[2.0], [7.0]]

    def test_draws_by_weight(self):
        generator = np.random.default_rng(0)
        drawn = [draw_by_weight(np.array([0.0, 1.0, 0.0, 3.0, 0.0]), generator) for _ in range(4000)]
        np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 4000, [0, 0.25, 0, 0.75, 0], atol=0.03)
        assert draw_by_weight(np.zeros(3), generator) == 0


def test_bad_input():
    for name in ("n_neighbors", "max_clusters"):
        with pytest.raises(ConfigurationError, match=f"`{name}` to be an integer of at least 1, but got 0"):
            TypiClustSampler(**{name: 0})
    with pytest.raises(ConfigurationError, match="`metric` to be one of"):
        TypiClustSampler(metric="l1")
