"""Weighted coverage: the pure functions, and the sampler's default criterion, against naive transcriptions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from lightning_diffal import diffusion, graph
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.graph.kernel import WalkKernel
from lightning_diffal.graph.weights import weighted_degree
from lightning_diffal.neighbors.nearest import nearest_neighbors
from lightning_diffal.samplers import DiffusionSampler, QueryData
from lightning_diffal.samplers.covering import (
    agreeing_cover,
    contested_cover,
    contested_labels_cover,
    covered_by,
    gains,
)
from tests.samplers.diffusion_cases import ask, clouds, naive_cover, random_kernel


def test_gains_of_blocks_and_empty_rows(monkeypatch):
    kernel = random_kernel()
    kernel[[3, 79]] = 0
    generator = np.random.default_rng(1)
    weights, covered = generator.random((2, 80)).astype(np.float32)
    expected = np.maximum(kernel - covered, 0) @ weights
    expected[[3, 79]] = 0
    nodes = generator.permutation(80)
    whole = gains(sp.csr_matrix(kernel), weights, covered, nodes)
    monkeypatch.setattr("lightning_diffal.samplers.covering._BLOCK_ROWS", 7)
    np.testing.assert_allclose(whole, expected[nodes], atol=1e-5)
    np.testing.assert_array_equal(gains(sp.csr_matrix(kernel), weights, covered, nodes), whole)


@pytest.mark.parametrize("block", [1, 2, 3, 1024])  # so that labels of one class come in several blocks
def test_cover_by_labels(block, monkeypatch):
    monkeypatch.setattr("lightning_diffal.samplers.covering._BLOCK_ROWS", block)
    dense, generator = random_kernel(), np.random.default_rng(2)
    kernel = sp.csr_matrix(dense)
    nodes = np.concatenate([[5, 9, 9, 40, 70, 12, 33], generator.permutation(80)[:40]])
    labels = np.concatenate([[0, 2, 1, 1, 2, 0, 2], generator.integers(3, size=40)])
    predicted = generator.integers(3, size=80)
    masses = np.stack([np.where(labels[:, None] == c, dense[nodes], 0).max(axis=0) for c in range(3)], axis=1)
    ordered = np.sort(masses, axis=1)
    np.testing.assert_array_equal(contested_cover(kernel, nodes, labels, 3), ordered[:, -1] - ordered[:, -2])
    np.testing.assert_array_equal(contested_cover(kernel, nodes, labels, 1000), ordered[:, -1] - ordered[:, -2])
    np.testing.assert_array_equal(agreeing_cover(kernel, nodes, labels, predicted), masses[np.arange(80), predicted])
    np.testing.assert_array_equal(covered_by(kernel, nodes), masses.max(axis=1))
    assert not contested_cover(kernel, nodes[:0], labels[:0], 3).any()
    assert not agreeing_cover(kernel, nodes[:0], labels[:0], predicted).any()


def test_cover_by_several_labels_is_that_of_each(monkeypatch):
    monkeypatch.setattr("lightning_diffal.samplers.covering._BLOCK_ROWS", 3)
    kernel, generator = sp.csr_matrix(random_kernel()), np.random.default_rng(3)
    nodes, labels, predicted = generator.permutation(80)[:20], *generator.integers(2, size=(2, 80, 4))
    labels = labels[:20]
    found = agreeing_cover(kernel, nodes, labels, predicted), contested_labels_cover(kernel, nodes, labels)
    for label in range(4):
        one = agreeing_cover(kernel, nodes, labels[:, label], predicted[:, label])
        np.testing.assert_array_equal(found[0][:, label], one)
        np.testing.assert_array_equal(found[1][:, label], contested_cover(kernel, nodes, labels[:, label], 2))


def probabilities_of(n, n_classes, seed=0):
    logits = 2 * np.random.default_rng(seed).normal(size=(n, n_classes))
    values = np.exp(logits)
    return (values / values.sum(axis=1, keepdims=True)).astype(np.float32)


def dense_kernel(features, k=15):
    weights = graph.self_tuning_weights(*nearest_neighbors(features, k))
    kernel = WalkKernel(graph.transition_matrix(weights), weighted_degree(weights))
    return kernel[np.arange(len(features))].toarray()


@pytest.mark.parametrize("n_labelled", [6, 24, 25, 40])  # a network is trusted in full from five per class on
@pytest.mark.parametrize("size", [1, 12])
def test_with_a_network_equals_a_naive_transcription(size, n_labelled):
    features, truth = clouds(400, 5, spread=2.0)
    probabilities = probabilities_of(400, 5)
    labelled = np.random.default_rng(0).choice(400, n_labelled + 2, replace=False)
    labelled, pending = labelled[2:], labelled[:2]
    kernel = dense_kernel(features)
    trust = min(1, n_labelled / 25)
    ordered = np.sort(probabilities, axis=1)
    weights = 1 - trust * (ordered[:, -1] - ordered[:, -2])
    weights *= 1 - trust + trust * (probabilities @ (1 / (5 * probabilities.mean(axis=0))))
    agrees = truth[labelled][:, None] == probabilities.argmax(axis=1)
    known = trust * np.where(agrees, kernel[labelled], 0).max(axis=0) + (1 - trust) * kernel[labelled].max(axis=0)
    known = np.maximum(known, kernel[pending].max(axis=0))
    nodes = np.setdiff1d(np.arange(400), np.concatenate([labelled, pending]))
    positions, gain, covered = naive_cover(kernel, weights, known, nodes, size)
    query = ask(features, labelled, truth[labelled], size, num_classes=5, pending=pending, probabilities=probabilities)
    np.testing.assert_array_equal(query.indices, nodes[positions])
    np.testing.assert_allclose(query.scores, gain, rtol=1e-4)
    np.testing.assert_allclose(query.details["covered"], covered, atol=1e-5)
    np.testing.assert_allclose(query.details["network_margin"], (ordered[:, -1] - ordered[:, -2])[query.indices])
    np.testing.assert_allclose(query.summary["mean_covered"], known[nodes].mean(), rtol=1e-5)


def test_without_a_network_equals_a_naive_transcription():
    features, truth = clouds(400, 5, spread=2.0)
    labelled = np.array([17, 250, 3, 111, 380, 42, 9, 77])
    labels = truth[labelled]
    walk = graph.transition_matrix(graph.self_tuning_weights(*nearest_neighbors(features, 15)))
    kernel, chi = dense_kernel(features), diffusion.diffuse_labels(walk, labelled, labels, 5, 10)
    weights = 1 - diffusion.label_margin(chi)
    predicted, present = chi.argmax(axis=1), np.unique(labels)
    counts = np.array([np.sum((predicted == c) & chi.any(axis=1)) for c in range(5)])
    shares = (len(present) + 1) * counts / counts.sum()
    weights = weights * np.where(chi.any(axis=1), 1 / np.maximum(shares, 0.1)[predicted], 1)
    masses = np.stack([np.where((labels == c)[:, None], kernel[labelled], 0).max(axis=0) for c in range(5)], axis=1)
    ordered = np.sort(masses, axis=1)
    nodes = np.setdiff1d(np.arange(400), labelled)
    positions, gain, _ = naive_cover(kernel, weights, ordered[:, -1] - ordered[:, -2], nodes, 15)
    query = ask(features, labelled, labels, 15, num_classes=5)
    np.testing.assert_array_equal(query.indices, nodes[positions])
    np.testing.assert_allclose(query.scores, gain, rtol=1e-4)
    assert "network_margin" not in query.details


def test_a_network_that_has_learned_nothing_is_not_asked():
    features, _ = clouds()
    told = ask(features, size=8, probabilities=probabilities_of(300, 3))
    np.testing.assert_array_equal(told.indices, ask(features, size=8).indices)
    assert "network_margin" not in told.details


def test_what_label_and_network_contradict_stays_unknown():
    """One cloud, labelled all over with class 0; the network calls one side of it class 1, firmly."""
    features, _ = clouds(300, 1)
    side = features[:, 0] > np.quantile(features[:, 0], 0.8)
    labelled = np.arange(0, 300, 4)
    probabilities = np.where(side[:, None], [0.2, 0.8], [0.8, 0.2]).astype(np.float32)
    query = ask(features, labelled, np.zeros(75, np.int64), 5, num_classes=2, probabilities=probabilities)
    assert side[query.indices].all()


def test_a_network_is_trusted_as_far_as_it_has_seen_labels():
    """Three clouds, labels in two; the network is sure that the third is one of those it knows."""
    features, truth = clouds(300, 3)
    labelled = np.concatenate([np.flatnonzero(truth == 0)[:2], np.flatnonzero(truth == 1)[:2]])
    sure = np.where(truth == 0, 0.99, 0.01)
    sides = np.random.default_rng(0).random(300) < 0.5  # doubt between the two known classes, all over the first
    probabilities = np.stack([sure, 1 - sure, np.zeros(300)], axis=1)
    probabilities[(truth == 0) & sides] = [0.5, 0.5, 0]
    query = ask(features, labelled, truth[labelled], 3, probabilities=probabilities.astype(np.float32))
    assert truth[query.indices[0]] == 2


def test_a_rare_class_is_not_left_for_last():
    features, truth = clouds(1000, 2, spread=6.0)
    rare = np.flatnonzero(truth == 1)
    kept = np.sort(np.concatenate([np.flatnonzero(truth == 0), rare[:25]]))
    features, truth = features[kept], truth[kept]
    probabilities = np.where(truth[:, None] == 1, [0.05, 0.95], [0.95, 0.05]).astype(np.float32)
    labelled = np.concatenate([np.flatnonzero(truth == 0)[:9], np.flatnonzero(truth == 1)[:1]])
    query = ask(features, labelled, truth[labelled], 20, num_classes=2, probabilities=probabilities)
    assert 3 <= truth[query.indices].sum() <= 12  # a random choice would hold one


def test_copies_count_as_the_one_that_is_doubted_most():
    features, truth = clouds(60)
    features = np.concatenate([features, features])
    probabilities = probabilities_of(120, 3)
    labelled = np.array([5, 33, 41])
    query = ask(features, labelled, truth[labelled], 114, probabilities=probabilities)
    margins = np.sort(probabilities, axis=1)
    margins = margins[:, -1] - margins[:, -2]
    np.testing.assert_allclose(
        query.details["network_margin"], np.minimum(margins[query.indices], margins[(query.indices + 60) % 120])
    )
    assert len(set(query.indices[:57] % 60)) == 57  # copies of what is asked or known come last
    assert len(set(query.indices)) == 114


def test_a_sure_network_still_spreads_its_picks():
    features, truth = clouds(400, 8, spread=30.0)
    labelled = np.array([0])
    query = ask(features, labelled, truth[labelled], 7, num_classes=8, probabilities=np.eye(8, dtype=np.float32)[truth])
    assert len(set(truth[query.indices]) | {truth[0]}) == 8


def test_scores_are_the_gains_before_the_first_pick():
    features, truth = clouds()
    labelled = np.array([200, 3, 121])
    data = QueryData(
        features=features, labelled=labelled, labels=truth[labelled], probabilities=probabilities_of(300, 3)
    )
    scores = DiffusionSampler().scores(data)
    query = DiffusionSampler().select(data, 1, np.random.default_rng(0))
    assert query.indices[0] == data.candidates[scores[data.candidates].argmax()]
    np.testing.assert_allclose(query.scores[0], scores[query.indices[0]])


class TestNetwork:
    """When probabilities are wanted and read."""

    def test_wanted_by_default_and_required_on_demand(self):
        assert DiffusionSampler().requires == {"features"}
        assert DiffusionSampler().wants(1) == {"features", "probabilities"}
        assert DiffusionSampler(network_margin=False).wants(100) == {"features"}
        assert DiffusionSampler(network_margin=True).requires == {"features", "probabilities"}

    def test_left_alone_where_told_so(self):
        features, truth = clouds()
        fields = {"probabilities": probabilities_of(300, 3)}
        blind = ask(features, [9], truth[[9]], sampler=DiffusionSampler(network_margin=False), **fields)
        np.testing.assert_array_equal(blind.indices, ask(features, [9], truth[[9]]).indices)
        with pytest.raises(ConfigurationError, match="`data` to hold `probabilities`"):
            ask(features, [9], truth[[9]], sampler=DiffusionSampler(network_margin=True))

    @pytest.mark.parametrize("reduction", ["mean", "max"])
    def test_several_labels(self, reduction):
        features, _ = clouds()
        truth = np.random.default_rng(0).integers(2, size=(300, 4))
        probabilities = np.random.default_rng(1).random((300, 4)).astype(np.float32)
        labelled, kernel = np.arange(0, 300, 30), dense_kernel(clouds()[0])
        sure = np.abs(2 * probabilities - 1)
        by_label = [
            np.where(truth[labelled, c][:, None] == (probabilities[:, c] > 0.5), kernel[labelled], 0).max(axis=0)
            for c in range(4)
        ]
        known = np.mean(by_label, axis=0) if reduction == "mean" else np.min(by_label, axis=0)
        known = 0.5 * known + 0.5 * kernel[labelled].max(axis=0)  # ten labels of four classes: half of full trust
        weights = 1 - 0.5 * (sure.mean(axis=1) if reduction == "mean" else sure.min(axis=1))
        nodes = np.setdiff1d(np.arange(300), labelled)
        positions, _, _ = naive_cover(kernel, weights, known, nodes, 6)
        data = QueryData(features=features, labelled=labelled, labels=truth[labelled], probabilities=probabilities)
        query = DiffusionSampler(multilabel=reduction).select(data, 6, np.random.default_rng(0))
        np.testing.assert_array_equal(query.indices, nodes[positions])


def test_arguments_of_the_other_criterion_are_pointed_out():
    with pytest.warns(UserWarning, match="write DiffusionSampler\\(criterion='paper', ...\\)"):
        DiffusionSampler(centrality=0.3)
