"""The graph against naive dense transcriptions, and what must hold for any data."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightning_diffal import graph
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.graph import weights as graph_weights
from lightning_diffal.neighbors.nearest import nearest_neighbors
from lightning_diffal.utils.numeric.rows import FileRows


def random_graph(n=80, d=4, k=6, seed=0):
    features = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return nearest_neighbors(features, k)


def naive_weights(indices, distances):
    n_points, k = indices.shape
    place = min(7, max(1, k // 2)) - 1
    weights = np.zeros((n_points, n_points))
    for i in range(n_points):
        for j, distance in zip(indices[i], distances[i], strict=True):
            scale = float(distances[i, place]) * float(distances[j, place])
            weights[i, j] = weights[j, i] = max(np.exp(-(float(distance) ** 2) / scale), np.exp(-40))
    return weights


class TestWeights:
    """`self_tuning_weights`."""

    @pytest.mark.parametrize("k", [1, 2, 3, 6, 15, 30])
    def test_equals_naive_transcription(self, k):
        indices, distances = random_graph(k=k)
        weights = graph.self_tuning_weights(indices, distances)
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights.toarray(), naive_weights(indices, distances), atol=1e-6)

    @pytest.mark.parametrize(("rows", "parts"), [(7, 3), (16, 1), (80, 16)])
    def test_parts_change_nothing(self, rows, parts, monkeypatch):
        indices, distances = random_graph()
        whole = graph.self_tuning_weights(indices, distances)
        monkeypatch.setattr(graph_weights, "_ROWS", rows)
        monkeypatch.setattr(graph_weights, "_PARTS", parts)
        weights = graph.self_tuning_weights(indices, distances)
        for name in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(weights, name), getattr(whole, name))

    def test_known_value(self):
        weights = graph.self_tuning_weights([[1], [0], [1]], [[1.0], [1.0], [2.0]])
        np.testing.assert_allclose(weights[1, 2], np.exp(-(2**2) / (1 * 2)), rtol=1e-6)

    def test_exactly_symmetric_without_a_diagonal(self):
        weights = graph.self_tuning_weights(*random_graph())
        assert (weights != weights.T).nnz == 0
        assert not weights.diagonal().any()
        assert weights.has_sorted_indices

    @pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e30])
    def test_scale_of_the_features_cancels(self, factor):
        indices, distances = random_graph()
        scaled = graph.self_tuning_weights(indices, (distances * factor).astype(np.float32))
        np.testing.assert_allclose(scaled.toarray(), graph.self_tuning_weights(indices, distances).toarray(), rtol=1e-4)

    def test_row_of_a_far_outlier_does_not_vanish(self):
        features = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
        features[9] = 1e6
        weights = graph.self_tuning_weights(*nearest_neighbors(features, 5))
        assert weights[9].min() >= 0
        assert weights[9].data.min() >= np.exp(-40) * 0.999
        np.testing.assert_allclose(graph.transition_matrix(weights)[9].sum(), 1, rtol=1e-5)

    def test_coincident_points_take_the_smallest_positive_distance_as_scale(self):
        # under the cosine metric points may coincide without being equal
        weights = graph.self_tuning_weights([[1, 2], [0, 2], [0, 1]], [[0.0, 3.0], [0.0, 3.0], [3.0, 3.0]])
        np.testing.assert_allclose(weights.toarray()[0], [0, 1, np.exp(-1)], rtol=1e-6)

    def test_only_coincident_points(self):
        weights = graph.self_tuning_weights([[1], [0], [0]], [[0.0], [0.0], [2.0]])
        np.testing.assert_allclose(weights.toarray()[0], [0, 1, np.exp(-40)], rtol=1e-5)

    def test_single_point(self):
        weights = graph.self_tuning_weights(np.empty((1, 0)), np.empty((1, 0)))
        assert weights.shape == (1, 1)
        assert graph.transition_matrix(weights).toarray().tolist() == [[1.0]]
        assert graph.centrality(weights).tolist() == [1.0]

    @pytest.mark.parametrize(
        ("indices", "distances", "message"),
        [
            ([[1], [0]], [[1.0, 2.0], [1.0, 2.0]], r"one shape \(N, k\), but got \(2, 1\) and \(2, 2\)"),
            ([1, 0], [1.0, 1.0], "one shape"),
            ([[1], [0]], [[1.0], [np.nan]], "finite and at least 0"),
            ([[1], [0]], [[1.0], [-1.0]], "finite and at least 0"),
            ([[-1], [0]], [[1.0], [1.0]], "positions from 0 to 1, but got some from -1 to 0"),
            ([[1], [2]], [[1.0], [1.0]], "positions from 0 to 1, but got some from 1 to 2"),
        ],
    )
    def test_wrong_arguments(self, indices, distances, message):
        with pytest.raises(ConfigurationError, match=message):
            graph.self_tuning_weights(indices, distances)


class TestTransition:
    """`transition_matrix`."""

    def test_equals_naive_transcription(self):
        weights = graph.self_tuning_weights(*random_graph())
        dense = weights.toarray().astype(np.float64)
        expected = dense / dense.sum(axis=1, keepdims=True)
        transition = graph.transition_matrix(weights)
        assert transition.dtype == np.float32
        np.testing.assert_allclose(transition.toarray(), expected, atol=1e-6)

    def test_isolated_points_stay_where_they_are(self):
        weights = sp.csr_matrix(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], np.float32))
        assert graph.transition_matrix(weights).toarray().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]

    def test_weights_are_untouched(self):
        weights = graph.self_tuning_weights(*random_graph())
        before = weights.copy()
        graph.transition_matrix(weights)
        assert (weights != before).nnz == 0


class TestCentrality:
    """`centrality`."""

    def test_ties_share_their_average_rank(self):
        weights = sp.csr_matrix(np.array([[0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], np.float32))
        assert graph.centrality(weights).tolist() == [3.5 / 4, 3.5 / 4, 1.5 / 4, 1.5 / 4]

    def test_equals_scipy(self):
        stats = pytest.importorskip("scipy.stats")
        weights = graph.self_tuning_weights(*random_graph())
        degree = np.asarray(weights.astype(np.float64).sum(axis=1)).ravel()
        np.testing.assert_allclose(graph.centrality(weights), stats.rankdata(degree) / 80, rtol=1e-6)

    def test_a_hub_takes_one_rank_and_no_more(self):
        """Against the largest degree, one hub would push all others to zero."""
        indices = np.zeros((100, 2), np.int64)
        indices[:, 1] = (np.arange(100) + 1) % 100
        indices[0], indices[99] = (1, 2), (0, 1)
        weights = graph.self_tuning_weights(indices, np.ones((100, 2)))
        values = graph.centrality(weights)
        assert values[0] == 1
        assert np.median(values) > 0.4


class TestDuplicates:
    """`collapse_duplicates`."""

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
    def test_equals_numpy_unique(self, dtype):
        features = np.random.default_rng(0).integers(-2, 3, size=(500, 3)).astype(dtype)
        representatives, inverse, multiplicity = graph.collapse_duplicates(features)
        expected, counts = np.unique(features, axis=0, return_counts=True)
        assert len(representatives) == len(expected)
        np.testing.assert_array_equal(features[representatives][inverse], features)
        np.testing.assert_array_equal(np.bincount(inverse), multiplicity)
        assert sorted(multiplicity) == sorted(counts)
        assert all(inverse[: row + 1].tolist().count(inverse[row]) == 1 for row in representatives)  # the first

    def test_negative_zero_is_zero(self):
        _, inverse, _ = graph.collapse_duplicates(np.array([[0.0, 1], [-0.0, 1], [0, -1]], np.float32))
        assert inverse[0] == inverse[1] != inverse[2]

    def test_copies_in_files_are_the_same_nodes_in_the_order_of_the_files(self):
        features = np.random.default_rng(3).integers(-2, 3, size=(500, 3)).astype(np.float32)
        features[:250][features[:250] == 0] = -0.0
        representatives, inverse, multiplicity = graph.collapse_duplicates(FileRows([features[:200], features[200:]]))
        _, _, at_once = graph.collapse_duplicates(features)
        assert representatives.tolist() == sorted(representatives.tolist())
        np.testing.assert_array_equal(features[representatives][inverse], features)
        np.testing.assert_array_equal(np.bincount(inverse), multiplicity)
        assert sorted(multiplicity) == sorted(at_once) and len(multiplicity) < 130

    def test_order_of_columns_and_values_matters(self):
        representatives, _, _ = graph.collapse_duplicates([[1.0, 2], [2, 1], [1, 1], [2, 2], [0, 3], [3, 0]])
        assert len(representatives) == 6

    def test_order_of_nodes_follows_content_only(self):
        generator = np.random.default_rng(0)
        features = generator.integers(3, size=(100, 4)).astype(np.float32)
        permutation = generator.permutation(100)
        representatives, inverse, multiplicity = graph.collapse_duplicates(features)
        other, permuted_inverse, permuted_multiplicity = graph.collapse_duplicates(features[permutation])
        np.testing.assert_array_equal(features[permutation][other], features[representatives])
        np.testing.assert_array_equal(permuted_inverse, inverse[permutation])
        np.testing.assert_array_equal(permuted_multiplicity, multiplicity)

    def test_a_collision_of_hashes_is_found_and_resolved(self, monkeypatch):
        monkeypatch.setattr(graph_weights, "_row_hashes", lambda matrix: np.zeros(len(matrix), np.uint64))
        features = np.array([[1.0, -0.0], [2, 1], [1, 0]], np.float32)
        representatives, inverse, multiplicity = graph.collapse_duplicates(features)
        np.testing.assert_array_equal(features[representatives][inverse], features)
        assert sorted(multiplicity.tolist()) == [1, 2]

    @pytest.mark.parametrize("features", [np.asfortranarray(np.eye(5)), np.eye(10)[::2, ::2], np.ones((4, 0))])
    def test_any_layout(self, features):
        _, inverse, _ = graph.collapse_duplicates(features)
        assert len(np.unique(inverse)) == (1 if features.shape[1] == 0 else 5)

    def test_blocks(self, monkeypatch):
        features = np.random.default_rng(0).integers(3, size=(100, 4)).astype(np.float32)
        expected = graph.collapse_duplicates(features)
        monkeypatch.setattr(graph_weights, "_BLOCK_VALUES", 28)
        for value, reference in zip(graph.collapse_duplicates(features), expected, strict=True):
            np.testing.assert_array_equal(value, reference)

    def test_rows_of_files_are_read_in_blocks(self, monkeypatch):
        monkeypatch.setattr(graph_weights, "_READ_VALUES", 30)
        monkeypatch.setattr(graph_weights, "_READ_BLOCKS", 4)
        features = np.random.default_rng(0).integers(0, 2, (301, 5)).astype(np.float16)
        first, inverse, counts = graph_weights.collapse_duplicates(FileRows([features[:40], features[40:]]))
        assert len(first) == len(np.unique(features, axis=0)) and (np.diff(first) > 0).all()
        np.testing.assert_array_equal(features[first][inverse], features)
        np.testing.assert_array_equal(counts, np.bincount(inverse))

    def test_not_a_matrix(self):
        with pytest.raises(ConfigurationError, match=r"of shape \(N, D\), but got \(3,\)"):
            graph.collapse_duplicates(np.ones(3))


points = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 25), st.integers(1, 3)),
    elements=st.one_of(st.integers(-3, 3), st.floats(-(2.0**60), 2.0**60, width=32)),
)


@settings(max_examples=60, deadline=None)
@given(points, st.integers(1, 10))
def test_any_data_gives_a_walk(features, k):
    """Duplicates, islands, lattices and magnitudes of all sorts: rows sum to 1, symmetric, finite."""
    representatives, inverse, multiplicity = graph.collapse_duplicates(features)
    assert multiplicity.sum() == len(features) == len(inverse)
    weights = graph.self_tuning_weights(*nearest_neighbors(features[representatives], k))
    assert np.isfinite(weights.data).all()
    assert (weights.data > 0).all()
    assert (weights != weights.T).nnz == 0
    transition = graph.transition_matrix(weights)
    np.testing.assert_allclose(np.asarray(transition.sum(axis=1)).ravel(), 1, atol=1e-5)
    values = graph.centrality(weights)
    assert ((values > 0) & (values <= 1)).all()


@pytest.mark.parametrize("module", ["graph", "diffusion"])
def test_imports_neither_torch_nor_lightning(module):
    code = (
        f"import lightning_diffal.{module}, sys; "
        "print([name for name in ('torch', 'pytorch_lightning', 'lightning') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
