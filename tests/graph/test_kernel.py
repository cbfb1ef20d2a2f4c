"""The kernel of a short lazy walk, against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from lightning_diffal import graph
from lightning_diffal.graph.kernel import WalkKernel
from lightning_diffal.graph.weights import weighted_degree
from lightning_diffal.neighbors.nearest import nearest_neighbors


def points(n=200, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def weights_of(features, k=6):
    return graph.self_tuning_weights(*nearest_neighbors(features, k))


def kernel_of(weights, **options):
    return WalkKernel(graph.transition_matrix(weights), weighted_degree(weights), **options)


def dense(kernel):
    return kernel[np.arange(kernel.shape[0])].toarray()


@pytest.mark.parametrize("stay", [0, 0.3, 0.5])
def test_equals_the_dense_square(stay):
    weights = weights_of(points())
    walk = weights.toarray().astype(np.float64)
    walk /= np.sqrt(np.outer(walk.sum(axis=1), walk.sum(axis=1)))
    lazy = stay * np.eye(200) + (1 - stay) * walk
    scale = np.sqrt(np.diag(lazy @ lazy))
    expected = lazy @ lazy / scale[:, None] / scale
    kernel = kernel_of(weights, stay=stay)
    np.testing.assert_allclose(dense(kernel), expected, atol=2e-6)
    vector = np.random.default_rng(1).random(200).astype(np.float32)
    np.testing.assert_allclose(kernel @ vector, expected @ vector, rtol=1e-5)


def test_diagonal_is_one_nothing_is_larger_and_no_eigenvalue_negative():
    kernel = dense(kernel_of(weights_of(points(300, 8), 15)))
    assert (kernel.diagonal() == 1).all()
    assert kernel.max() <= 1
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-6)
    assert np.linalg.eigvalsh(kernel.astype(np.float64)).min() > -1e-5


def test_rows_are_read_in_any_order_and_number_bit_for_bit(monkeypatch):
    kernel = kernel_of(weights_of(points()))
    nodes = np.array([150, 3, 3, 77, *range(40)])
    rows = kernel[nodes]
    monkeypatch.setattr("lightning_diffal.graph.kernel._FEWEST", 1)
    monkeypatch.setattr("lightning_diffal.graph.kernel.number_of_threads", lambda: 3)
    np.testing.assert_array_equal(kernel[nodes].toarray(), rows.toarray())
    np.testing.assert_array_equal(dense(kernel)[nodes], rows.toarray())
    assert kernel[nodes[:0]].shape == (0, 200)


def test_made_in_parts_it_is_the_same_bit_for_bit(monkeypatch):
    weights = sp.block_diag([weights_of(points(), 6), sp.csr_matrix((3, 3))], format="csr")  # and some without edges
    whole = kernel_of(weights)
    monkeypatch.setattr("lightning_diffal.graph.kernel._MADE", 7)
    np.testing.assert_array_equal(dense(kernel_of(weights)), dense(whole))
    assert dense(whole)[202, 202] == 1 and dense(whole)[202].sum() == 1


@pytest.mark.parametrize("n_points", [3, 0])
def test_points_without_edges_cover_themselves(n_points):
    kernel = kernel_of(sp.csr_matrix((n_points, n_points), dtype=np.float32))
    np.testing.assert_array_equal(dense(kernel), np.eye(n_points, dtype=np.float32))
    vector = np.arange(n_points, dtype=np.float32)
    np.testing.assert_allclose(kernel @ vector, vector, rtol=1e-6)
