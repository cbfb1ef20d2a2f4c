"""The greedy choice against a naive one, and how little of the kernel it reads."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from lightning_diffal.samplers.greedy import greedy_cover
from tests.samplers.diffusion_cases import naive_cover, random_kernel


@pytest.mark.parametrize(("rows", "held"), [(1, 2**24), (3, 0), (7, 100), (7, 300), (1024, 2**24)])
@pytest.mark.parametrize("seed", range(4))
def test_greedy_equals_the_naive_choice(rows, held, seed, monkeypatch):
    monkeypatch.setattr("lightning_diffal.samplers.greedy._ROWS", rows)
    monkeypatch.setattr("lightning_diffal.samplers.greedy._HELD_VALUES", held)
    monkeypatch.setattr("lightning_diffal.samplers.greedy._OF_GRAPH", 0)
    generator = np.random.default_rng(seed)
    kernel, weights = random_kernel(seed=seed), generator.random(80).astype(np.float32)
    covered = (0.3 * generator.random(80)).astype(np.float32)
    nodes = generator.permutation(80)[:60]
    before = covered.copy()
    found = greedy_cover(sp.csr_matrix(kernel), weights, covered, nodes, 60)
    positions, gain, at_pick = naive_cover(kernel, weights, covered, nodes, 60)
    np.testing.assert_array_equal(covered, before)
    np.testing.assert_array_equal(found.positions[:40], positions[:40])  # later ones gain next to nothing
    np.testing.assert_allclose(found.gains, gain, atol=1e-5)
    np.testing.assert_allclose(found.covered[:40], at_pick[:40], atol=1e-6)
    assert sorted(found.positions) == list(range(60))


def test_equal_gains_go_to_the_earlier_node():
    kernel = sp.identity(6, np.float32, format="csr")
    ones, nodes = np.ones(6, np.float32), np.array([4, 1, 5, 0])
    assert greedy_cover(kernel, ones, 0 * ones, nodes, 4).positions.tolist() == [0, 1, 2, 3]


class Counted:
    """A kernel that counts the rows that are read of it."""

    def __init__(self, matrix):
        self.matrix, self.shape, self.read = matrix, matrix.shape, 0

    def __getitem__(self, nodes):
        self.read += len(nodes)
        return self.matrix[nodes]

    def __matmul__(self, vector):
        return self.matrix @ vector


def test_rows_of_unpromising_nodes_are_not_read():
    # forty groups of fifty, each wholly covered by any of its members; larger numbers count more
    groups = sp.block_diag([np.ones((50, 50), np.float32)] * 40, format="csr")
    kernel, weights = Counted(groups), np.repeat(np.arange(1, 41, dtype=np.float32), 50)
    found = greedy_cover(kernel, weights, np.zeros(2000, np.float32), np.arange(2000), 10)
    assert (found.positions // 50).tolist() == [39, 38, 37, 36, 35, 34, 33, 32, 31, 30]
    assert kernel.read < 1000


def test_where_room_is_short_the_rows_of_the_best_are_kept(monkeypatch):
    generator = np.random.default_rng(0)
    matrix = sp.csr_matrix(random_kernel(600))
    weights = (generator.random(600) ** 8).astype(np.float32)
    arguments = weights, np.zeros(600, np.float32), np.arange(600), 60
    ample = Counted(matrix)
    expected = greedy_cover(ample, *arguments)
    monkeypatch.setattr("lightning_diffal.samplers.greedy._HELD_VALUES", matrix.nnz // 2)
    monkeypatch.setattr("lightning_diffal.samplers.greedy._OF_GRAPH", 0)
    short = Counted(matrix)
    found = greedy_cover(short, *arguments)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert ample.read < short.read < 4 * ample.read


def test_a_node_whose_bound_is_its_gain_is_not_passed_over(monkeypatch):
    """The first is fetched first, for what it shares with the third; that is covered, and the second gains more."""
    monkeypatch.setattr("lightning_diffal.samplers.greedy._ROWS", 1)
    kernel = sp.csr_matrix(np.float32([[1, 0, 0.5], [0, 1, 0], [0.5, 0, 1]]))
    weights, covered = np.float32([0.99995, 1, 4]), np.float32([0, 0, 0.5])
    assert greedy_cover(kernel, weights, covered, np.array([0, 1]), 2).positions.tolist() == [1, 0]
