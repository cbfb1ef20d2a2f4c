"""The kernel of a short lazy walk, against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from lightning_diffal import graph
from lightning_diffal.graph.kernel import walk_kernel
from lightning_diffal.neighbors.nearest import nearest_neighbors


def transition_of(features, k=6):
    return graph.transition_matrix(graph.self_tuning_weights(*nearest_neighbors(features, k)))


def points(n=200, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize(("n_steps", "stay"), [(1, 0.5), (4, 0.5), (3, 0.75)])
def test_equals_the_dense_power(n_steps, stay):
    transition = transition_of(points())
    weights = graph.self_tuning_weights(*nearest_neighbors(points(), 6)).toarray().astype(np.float64)
    degree = weights.sum(axis=1)
    walk = weights / np.sqrt(degree[:, None] * degree)
    dense = np.linalg.matrix_power(stay * np.eye(200) + (1 - stay) * walk, n_steps)
    scale = np.sqrt(np.diag(dense))
    found = walk_kernel(transition, n_steps=n_steps, stay=stay, least=0)
    np.testing.assert_allclose(found.toarray(), dense / scale[:, None] / scale, atol=2e-6)


def test_small_values_are_dropped_and_the_rest_stays_close():
    transition = transition_of(points(600, 8), 15)
    whole, kept = walk_kernel(transition, least=0), walk_kernel(transition)
    assert kept.nnz < 0.7 * whole.nnz
    assert kept.data.min() > 0.005
    assert abs(kept - whole).max() < 0.05
    np.testing.assert_allclose(kept.diagonal(), 1, atol=1e-6)


def test_blocks_of_rows_change_nothing(monkeypatch):
    transition = transition_of(points())
    whole = walk_kernel(transition)
    monkeypatch.setattr("lightning_diffal.graph.kernel._ROWS", 7)
    split = walk_kernel(transition)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(split, name), getattr(whole, name))


def test_many_small_steps_are_the_heat_kernel():
    weights = graph.self_tuning_weights(*nearest_neighbors(points(), 6)).toarray().astype(np.float64)
    degree = weights.sum(axis=1)
    values, vectors = np.linalg.eigh(np.eye(200) - weights / np.sqrt(degree[:, None] * degree))
    heat = (vectors * np.exp(-2 * values)) @ vectors.T
    scale = np.sqrt(np.diag(heat))
    found = walk_kernel(transition_of(points()), n_steps=200, stay=0.99, least=0)
    np.testing.assert_allclose(found.toarray(), heat / scale[:, None] / scale, atol=0.01)


@pytest.mark.parametrize(
    "transition", [sp.identity(3, np.float32, format="csr"), sp.csr_matrix((0, 0), dtype=np.float32)]
)
def test_points_without_edges_cover_themselves(transition):
    np.testing.assert_array_equal(walk_kernel(transition).toarray(), transition.toarray())


def test_rows_are_those_of_plain_products_bit_for_bit(monkeypatch):
    """Whatever order is multiplied in, and however many rows at a time."""
    transition = transition_of(points(700))
    whole = walk_kernel(transition)
    monkeypatch.setattr("lightning_diffal.graph.kernel._ROWS", 64)
    monkeypatch.setattr("lightning_diffal.graph.kernel._ROWS_IN_ORDER", 250)
    in_blocks = walk_kernel(transition)
    monkeypatch.setattr(
        "lightning_diffal.graph.kernel._by_nearness", lambda lazy: (np.arange(lazy.shape[0]), np.arange(lazy.shape[0]))
    )
    for other in (in_blocks, walk_kernel(transition)):
        np.testing.assert_array_equal(whole.indptr, other.indptr)
        np.testing.assert_array_equal(whole.indices, other.indices)
        np.testing.assert_array_equal(whole.data, other.data)
