"""Nearest neighbours against brute force in float64, at every scale, and every malformed backend."""

from __future__ import annotations

import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_diffal.exceptions import ConfigurationError, FeatureError
from lightning_diffal.neighbors.nearest import auto_backend, nearest_neighbors, nearest_rows


def brute_force(features, k, metric="euclidean"):
    points = np.asarray(features, np.float64)
    if metric == "cosine":
        unit = points / np.linalg.norm(points, axis=1, keepdims=True)
        distances = 1 - unit @ unit.T
    else:
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    indices = np.argsort(distances, axis=1)[:, :k]
    return indices, np.take_along_axis(distances, indices, axis=1)


def clusters(n=300, d=8, seed=0):
    generator = np.random.default_rng(seed)
    centres = 5 * generator.normal(size=(6, d))
    return (centres[generator.integers(6, size=n)] + generator.normal(size=(n, d))).astype(np.float32)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("n_neighbors", [1, 7, 299])
def test_equals_brute_force(metric, n_neighbors):
    features = clusters()
    indices, distances = nearest_neighbors(features, n_neighbors, metric=metric)
    expected, lengths = brute_force(features, n_neighbors, metric)
    assert indices.dtype == np.int64
    assert distances.dtype == np.float32
    assert (indices == expected).mean() > 0.9999  # cosine: directions are rounded to float32
    np.testing.assert_allclose(distances, lengths, rtol=1e-5, atol=1e-7)


def test_equals_scikit_learn():
    neighbors = pytest.importorskip("sklearn.neighbors")
    features = clusters(n=2000, d=16)
    lengths, expected = neighbors.NearestNeighbors(n_neighbors=15).fit(features.astype(np.float64)).kneighbors()
    indices, distances = nearest_neighbors(features, 15, backend="exact")
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(distances, lengths, rtol=1e-6)


@pytest.mark.parametrize("exponent", [-125, -60, 0, 60, 120])
def test_powers_of_two_change_nothing(exponent):
    features = clusters()
    indices, distances = nearest_neighbors(features, 5)
    scaled_indices, scaled = nearest_neighbors(np.ldexp(features, exponent), 5)
    np.testing.assert_array_equal(scaled_indices, indices)
    if exponent > -100:  # below, float32 itself runs out of digits
        np.testing.assert_array_equal(scaled, np.ldexp(distances, exponent))


def test_shift_far_from_the_origin_is_harmless():
    generator = np.random.default_rng(0)
    features = (1000 + generator.integers(-1000, 1000, size=(400, 6)) / 1024).astype(np.float32)
    indices, distances = nearest_neighbors(features, 10)
    _, lengths = brute_force(features, 10)
    np.testing.assert_allclose(distances, lengths, rtol=1e-6)
    assert (indices != np.arange(400)[:, None]).all()


@pytest.mark.parametrize("far", [1e3, 1e8, 1e30, 3e38])
def test_an_outlier_at_any_distance_leaves_the_others_exact(far):
    features = clusters()
    features[17] = far
    indices, distances = nearest_neighbors(features, 5, backend="exact")
    others = np.arange(300) != 17
    expected, lengths = brute_force(features, 5)
    np.testing.assert_array_equal(indices[others], expected[others])
    np.testing.assert_allclose(distances[others], lengths[others], rtol=1e-6)
    assert np.isfinite(distances).all()


def test_tight_clusters_far_apart_are_exact():
    """The float32 Gram form is blind here: a spread of 1e-3 at distances of 1e3."""
    generator = np.random.default_rng(0)
    features = np.concatenate([generator.normal(size=(200, 5)) * 1e-3 + shift for shift in (-1000.0, 1000.0)])
    features = features.astype(np.float32)
    _, distances = nearest_neighbors(features, 10)
    _, lengths = brute_force(features, 10)
    np.testing.assert_allclose(distances, lengths, rtol=1e-6)


def test_exact_duplicates_are_at_distance_zero():
    features = np.repeat(clusters(n=40) + 100, 3, axis=0)
    indices, distances = nearest_neighbors(features, 2)
    assert (distances == 0).all()
    assert (indices // 3 == np.arange(120)[:, None] // 3).all()


def test_ties_do_not_follow_the_index():
    features = np.eye(200, dtype=np.float32)  # all equally far apart
    indices, distances = nearest_neighbors(features, 5, generator=np.random.default_rng(1))
    np.testing.assert_allclose(distances, np.sqrt(2), rtol=1e-6)
    other, _ = nearest_neighbors(features, 5, generator=np.random.default_rng(2))
    assert (indices != other).any()
    assert indices.mean() > 50


def test_same_generator_same_answer():
    features = np.round(clusters())
    first = nearest_neighbors(features, 5, generator=np.random.default_rng(1))
    second = nearest_neighbors(features, 5, generator=np.random.default_rng(1))
    np.testing.assert_array_equal(first[0], second[0])


@pytest.mark.parametrize(("n_points", "expected"), [(1, 0), (2, 1), (6, 5)])
@pytest.mark.parametrize("backend", ["auto", "exact"])
def test_too_few_points_for_k(n_points, expected, backend):
    indices, distances = nearest_neighbors(clusters(n=n_points), 15, backend=backend)
    assert indices.shape == distances.shape == (n_points, expected)


def test_one_dimension():
    indices, _ = nearest_neighbors(np.arange(10.0)[:, None] ** 2, 1)
    assert indices.ravel().tolist() == [1, 0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_no_dimension_at_all_is_one_place():
    _, distances = nearest_neighbors(np.empty((5, 0)), 2)
    assert (distances == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_any_floating_type(dtype):
    features = torch.from_numpy(clusters()).to(dtype).requires_grad_()
    indices, _ = nearest_neighbors(features, 5)
    np.testing.assert_array_equal(indices, nearest_neighbors(features.detach().float().numpy(), 5)[0])


def test_read_only_features_are_untouched_and_silent():
    features = clusters()
    features.flags.writeable = False
    before = features.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nearest_neighbors(features, 5)
    np.testing.assert_array_equal(features, before)


def test_precision_settings_of_torch_are_kept_and_not_used():
    features = clusters()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            indices, _ = nearest_neighbors(features, 5)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(indices, brute_force(features, 5)[0])


def test_cosine_sees_the_direction_only():
    features = clusters()
    indices, distances = nearest_neighbors(features, 5, metric="cosine")
    factors = np.random.default_rng(0).uniform(0.01, 100, size=(300, 1))
    scaled_indices, scaled = nearest_neighbors(features * factors, 5, metric="cosine")
    np.testing.assert_array_equal(scaled_indices, indices)
    np.testing.assert_allclose(scaled, distances, atol=1e-6)


def test_cosine_rows_of_zeros_coincide_and_are_orthogonal_to_the_rest():
    features = np.array([[0, 0], [0, 0], [1, 0], [1, 0.1]], np.float32)
    indices, distances = nearest_neighbors(features, 3, metric="cosine")
    assert indices[0, 0] == 1
    np.testing.assert_allclose(distances[0], [0, 1, 1], atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_named(value):
    features = clusters()
    features[[7, 30], 2] = value
    with pytest.raises(FeatureError, match=r"rows \[7, 30\] hold NaN or infinity"):
        nearest_neighbors(features, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_neighbors": 0}, "Expected argument `n_neighbors` to be an integer of at least 1, but got 0."),
        ({"n_neighbors": 2.0}, "Expected argument `n_neighbors` to be an integer of at least 1, but got 2.0."),
        ({"n_neighbors": True}, "Expected argument `n_neighbors` to be an integer of at least 1, but got True."),
        ({"metric": "l1"}, r"Expected argument `metric` to be one of \('euclidean', 'cosine'\), but got 'l1'."),
        ({"backend": "annoy"}, "Expected argument `backend` to be one of .* or a callable, but got 'annoy'."),
        ({"features": np.ones(3)}, r"Expected argument `features` of shape \(N, D\) with N >= 1, but got \(3,\)."),
        ({"features": np.ones((0, 3))}, r"Expected argument `features` of shape .* but got \(0, 3\)."),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        nearest_neighbors(**{"features": clusters(), "n_neighbors": 5, **arguments})


class TestCallable:
    """Any library plugs in with one function; its answer is checked."""

    def test_distances_left_out_are_computed_here(self):
        features = clusters()
        with_self = np.concatenate([np.arange(300)[:, None], brute_force(features, 6)[0]], axis=1)
        indices, distances = nearest_neighbors(features, 5, backend=lambda x, k: (with_self[:, ::-1], None))
        expected = nearest_neighbors(features, 5, backend="exact")
        np.testing.assert_array_equal(indices, expected[0])
        np.testing.assert_array_equal(distances, expected[1])

    def test_gaps_are_searched_exactly_if_the_distances_are_left_out(self):
        features = clusters()
        lists = brute_force(features, 5)[0]
        lists[7] = -1
        lists[9, 3:] = -1
        indices, distances = nearest_neighbors(features, 5, backend=lambda x, k: (lists, None))
        expected = nearest_neighbors(features, 5, backend="exact")
        np.testing.assert_array_equal(indices, expected[0])
        np.testing.assert_array_equal(distances, expected[1])

    def test_scikit_learn_in_one_line(self):
        neighbors = pytest.importorskip("sklearn.neighbors")

        def backend(features, n_neighbors):
            return neighbors.NearestNeighbors(n_neighbors=n_neighbors).fit(features).kneighbors()[::-1]

        features = clusters()
        indices, distances = nearest_neighbors(features, 5, backend=backend)
        expected = brute_force(features, 5)
        np.testing.assert_array_equal(indices, expected[0])
        np.testing.assert_allclose(distances, expected[1], rtol=1e-5)

    def test_its_distances_are_used_and_sorted(self):
        lists = np.array([[1, 2], [2, 0], [0, 1]])
        lengths = np.array([[2.0, 1.0], [1.0, 2.0], [4.0, 3.0]])
        indices, distances = nearest_neighbors(np.eye(3), 2, backend=lambda x, k: (lists, lengths))
        assert indices.tolist() == [[2, 1], [2, 0], [1, 0]]
        assert distances.tolist() == [[1, 2], [1, 2], [3, 4]]

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (np.zeros((3, 2)), r"to return \(indices, distances\), but got ndarray"),
            ((np.zeros((3, 2)), None), "to return integer indices"),
            ((np.zeros((2, 2), int), None), r"indices of shape \(3, 2\), but got int64 of shape \(2, 2\)"),
            (([[1, 3], [0, 2], [0, 1]], None), "indices between 0 and 2, but got 0 to 3"),
            (([[1, -2], [0, 2], [0, 1]], None), "indices between 0 and 2, but got -2 to 2"),
            (([[1, -1], [0, 2], [0, 1]], [[1.0, 1.0]] * 3), "but got -1 to 2. Gaps .* returns None for the distances"),
            (([[1, 1], [0, 2], [0, 1]], None), "each neighbour of a point once"),
            (([[0, 1], [1, 2], [2, 0]], None), "2 neighbours beside the point itself, but got 1. Ask .* one more"),
            (([[1, 2], [0, 2], [0, 1]], [[1.0], [1.0], [1.0]]), r"distances of shape \(3, 2\), but got \(3, 1\)"),
            (([[1, 2], [0, 2], [0, 1]], [[1.0, np.nan]] * 3), "finite distances of at least 0"),
            (([[1, 2], [0, 2], [0, 1]], [[1.0, -1.0]] * 3), "finite distances of at least 0"),
        ],
    )
    def test_malformed_answers(self, answer, message):
        with pytest.raises(ConfigurationError, match=message):
            nearest_neighbors(np.eye(3), 2, backend=lambda x, k: answer)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory in kilobytes")
def test_exact_search_needs_no_quadratic_memory():
    code = """
import resource, numpy as np
from lightning_diffal.neighbors.nearest import nearest_neighbors
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
features = np.random.default_rng(0).random((20_000, 8), dtype=np.float32)
nearest_neighbors(features[:100], 15)
before = peak()
nearest_neighbors(features, 15, backend="exact")
print((peak() - before) // 1024)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 300  # MiB; all distances would be 1,526


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (True, ["exact", "faiss", "faiss", "faiss", "exact"]),
        (False, ["exact", "exact", "pynndescent", "pynndescent", "exact"]),
    ],
)
def test_auto_takes_the_fastest_of_what_is_installed(monkeypatch, installed, expected):
    monkeypatch.setattr("lightning_diffal.neighbors.backends.has_faiss", lambda: installed)
    sizes = [(20_000, 64), (60_000, 64), (60_000, 2048), (500_000, 64)]
    assert [*(auto_backend(*size) for size in sizes), auto_backend(100_000, 64, device="cuda")] == expected


class StubDescent:
    """Stands in for pynndescent's index, with the degenerate rows that it is known to return."""

    def __init__(self, data, metric, n_neighbors, random_state):
        lists = np.concatenate([np.arange(len(data))[:, None], brute_force(data, n_neighbors - 1)[0]], axis=1)
        lists[3, 2:] = -1
        lists[5] = -1
        self.neighbor_graph = (lists.astype(np.int32), np.zeros_like(lists, np.float32))


def test_gaps_of_pynndescent_are_searched_exactly(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=StubDescent))
    features = clusters()
    indices, distances = nearest_neighbors(features, 5, backend="pynndescent")
    expected = brute_force(features, 5)
    np.testing.assert_array_equal(indices, expected[0])
    np.testing.assert_allclose(distances, expected[1], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_recall_of_pynndescent(metric):
    features = clusters(n=5000, d=32)
    expected, lengths = nearest_neighbors(features, 15, metric=metric, backend="exact")
    indices, distances = nearest_neighbors(features, 15, metric=metric, backend="pynndescent")
    again, _ = nearest_neighbors(features, 15, metric=metric, backend="pynndescent")
    recall = np.mean([len(np.intersect1d(a, b)) / 15 for a, b in zip(indices, expected, strict=True)])
    assert recall > 0.95
    np.testing.assert_array_equal(indices, again)
    same = indices == expected
    np.testing.assert_array_equal(distances[same], lengths[same])
    duplicates = np.repeat(features[:20], 50, axis=0)
    assert (nearest_neighbors(duplicates, 15, metric=metric, backend="pynndescent")[1] < 1e-6).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbours_of_some_rows(metric):
    features, rows = clusters(), np.array([250, 3, 4, 17])
    indices, distances = nearest_neighbors(features, 7, metric=metric)
    some = nearest_neighbors(features, 7, metric=metric, rows=rows)
    np.testing.assert_array_equal(some[0], indices[rows])
    np.testing.assert_array_equal(some[1], distances[rows])
    assert nearest_neighbors(features[:1], 7, rows=rows[:0])[0].shape == (0, 0)


def test_some_rows_need_a_search_that_knows_them():
    with pytest.raises(
        ConfigurationError, match="Expected `backend` 'exact' or 'faiss' with argument `rows`, but got 'pynnd"
    ):
        nearest_neighbors(clusters(), 7, backend="pynndescent", rows=np.arange(3))


class TestNearestRows:
    """The nearest labelled point of each pick."""

    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    def test_equals_brute_force(self, metric, monkeypatch):
        monkeypatch.setattr("lightning_diffal.neighbors.nearest._BLOCK_VALUES", 200)
        features = clusters() + 50
        queries, targets = np.array([3, 200, 7, 150]), np.array([250, 1, 88, 17, 40])
        points = features.astype(np.float64)
        if metric == "cosine":
            points /= np.linalg.norm(points, axis=1, keepdims=True)
        distances = np.linalg.norm(points[queries][:, None] - points[targets][None], axis=2)
        expected = targets[distances.argmin(axis=1)]
        np.testing.assert_array_equal(nearest_rows(features, queries, targets, metric=metric), expected)

    def test_nothing_to_find(self):
        assert nearest_rows(clusters(), [4, 5], []).tolist() == [-1, -1]
        assert nearest_rows(clusters(), [], [1]).tolist() == []
