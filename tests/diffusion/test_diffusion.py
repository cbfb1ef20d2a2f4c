"""Label diffusion against naive transcriptions, scikit-learn and the paper's form, and what must hold for any graph."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_diffal import diffusion, graph
from lightning_diffal.exceptions import ConfigurationError, InvalidIndexError, InvalidLabelError
from lightning_diffal.neighbors.nearest import nearest_neighbors


def random_weights(n=80, d=3, k=5, seed=0):
    features = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return graph.self_tuning_weights(*nearest_neighbors(features, k))


def random_walk(n=80, d=3, k=5, seed=0):
    return graph.transition_matrix(random_weights(n, d, k, seed))


def naive_diffusion(transition, labelled, labels, num_classes, n_steps):
    """Word for word, dense, in float64."""
    dense = transition.toarray().astype(np.float64)
    boundary = np.zeros((len(dense), num_classes))
    for i, label in zip(labelled, labels, strict=True):
        boundary[i, label] += 1 / list(labelled).count(i)
    chi = boundary.copy()
    for _ in range(n_steps):
        chi = dense @ chi
        for i in labelled:
            chi[i] = boundary[i]
    return chi


LABELLED, LABELS = np.array([41, 3, 77, 20]), np.array([2, 0, 2, 1])
PATH = sp.csr_matrix([[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]], dtype=np.float32)


class TestDiffuseLabels:
    """`diffuse_labels`."""

    @pytest.mark.parametrize("n_steps", [1, 2, 10, 200])
    def test_equals_naive_transcription(self, n_steps):
        transition = random_walk()
        masses = diffusion.diffuse_labels(transition, LABELLED, LABELS, 4, n_steps)
        expected = naive_diffusion(transition, LABELLED, LABELS, 4, n_steps)
        assert masses.dtype == np.float32
        np.testing.assert_allclose(masses, expected, atol=1e-6)

    def test_conflicting_labels_of_one_node_hold_in_proportion(self):
        masses = diffusion.diffuse_labels(PATH, [0, 0, 0, 2], [1, 1, 0, 0], 2, 1)
        np.testing.assert_allclose(masses[0], [1 / 3, 2 / 3], rtol=1e-6)
        np.testing.assert_allclose(masses[1], [2 / 3, 1 / 3], rtol=1e-6)
        np.testing.assert_allclose(masses, naive_diffusion(PATH, [0, 0, 0, 2], [1, 1, 0, 0], 2, 1), atol=1e-6)

    def test_equals_label_propagation_of_scikit_learn_at_convergence(self):
        """On the same dense weights; it renormalises each step, so only on a connected graph that holds labels."""
        semi = pytest.importorskip("sklearn.semi_supervised")
        weights = random_weights(k=8)
        assert sp.csgraph.connected_components(weights)[0] == 1
        targets = np.full(80, -1)
        targets[LABELLED] = LABELS
        model = semi.LabelPropagation(
            kernel=lambda x, y: weights.toarray().astype(np.float64), tol=1e-12, max_iter=10**5
        )
        model.fit(np.zeros((80, 1)), targets)
        masses = diffusion.diffuse_labels(graph.transition_matrix(weights), LABELLED, LABELS, 3, 10**4)
        np.testing.assert_allclose(masses, model.label_distributions_, atol=1e-5)

    def test_two_classes_equal_the_plus_minus_one_form_of_the_paper(self):
        transition = random_walk()
        labels = np.array([1, 0, 1, 1])
        function = np.zeros(80)
        function[LABELLED] = 2 * labels - 1
        for _ in range(10):
            function = transition.toarray().astype(np.float64) @ function
            function[LABELLED] = 2 * labels - 1
        masses = diffusion.diffuse_labels(transition, LABELLED, labels, 2, 10)
        np.testing.assert_allclose(diffusion.label_margin(masses), np.abs(function), atol=1e-6)

    def test_stops_only_when_nothing_changes(self):
        """Masses far below any tolerance still move on: 30 steps along a path of 40 points."""
        path = graph.transition_matrix(sp.diags([np.ones(39), np.ones(39)], [-1, 1]).tocsr().astype(np.float32))
        masses = diffusion.diffuse_labels(path, [0], [0], 1, 30)
        assert masses[30, 0] > 0
        assert masses[31, 0] == 0

    def test_stops_when_nothing_changes(self):
        assert diffusion.diffuse_labels(PATH, [0, 1, 2], [0, 1, 0], 2, 10**12).tolist() == [[1, 0], [0, 1], [1, 0]]

    def test_no_label(self):
        assert not diffusion.diffuse_labels(PATH, [], [], 3, 5).any()

    def test_component_without_a_label_stays_empty(self):
        two = sp.block_diag([PATH, PATH]).tocsr()
        masses = diffusion.diffuse_labels(two, [1], [0], 2, 50)
        assert not masses[3:].any()
        assert diffusion.label_reach(masses)[:3].tolist() == [1, 1, 1]

    @pytest.mark.parametrize(
        ("labelled", "labels", "error", "message"),
        [
            ([3], [0], InvalidIndexError, "`labelled` between 0 and 2, but got 3 to 3"),
            ([-1], [0], InvalidIndexError, "`labelled` between 0 and 2, but got -1 to -1"),
            ([0.5], [0], InvalidIndexError, "`labelled` to hold integer indices, but got float64"),
            ([0], [2], InvalidLabelError, "`labels` between 0 and 1, but got 2 to 2"),
            ([0], [-1], InvalidLabelError, "`labels` between 0 and 1, but got -1 to -1"),
            ([0], [0.5], InvalidLabelError, r"`labels` to hold classes \(integers\), but got float64"),
            ([0, 1], [0], InvalidLabelError, r"one row per labelled point \(2\), but got 1"),
        ],
    )
    def test_wrong_arguments(self, labelled, labels, error, message):
        with pytest.raises(error, match=message):
            diffusion.diffuse_labels(PATH, labelled, labels, 2, 1)
        with pytest.raises(error, match=message):
            diffusion.label_summary(PATH, labelled, labels, 2, 1)

    def test_no_steps(self):
        with pytest.raises(ConfigurationError, match="Expected argument `n_steps` to be at least 1, but got 0"):
            diffusion.diffuse_labels(PATH, [0], [0], 1, 0)


class TestLabelSummary:
    """`label_summary`, the form that never holds all masses."""

    @pytest.mark.parametrize("block_size", [1, 2, 7, 64])
    def test_equals_the_direct_form(self, block_size):
        transition, generator = random_walk(n=200), np.random.default_rng(1)
        labelled = generator.choice(200, 40, replace=False)
        labels = generator.integers(30, size=40)
        masses = diffusion.diffuse_labels(transition, labelled, labels, 30, 4)
        summary = diffusion.label_summary(transition, labelled, labels, 30, 4, block_size=block_size)
        np.testing.assert_allclose(summary.margin, diffusion.label_margin(masses), atol=1e-6)
        np.testing.assert_allclose(summary.reach, diffusion.label_reach(masses), atol=1e-6)
        np.testing.assert_array_equal(summary.predicted, np.where(masses.any(axis=1), masses.argmax(axis=1), -1))

    def test_one_class_only(self):
        summary = diffusion.label_summary(PATH, [0], [0], 1, 3)
        np.testing.assert_allclose(summary.margin, summary.reach)
        assert summary.predicted.tolist() == [0, 0, 0]

    def test_no_label_and_no_class(self):
        summary = diffusion.label_summary(PATH, [], [], 0, 3)
        assert not summary.margin.any()
        assert not summary.reach.any()
        assert summary.predicted.tolist() == [-1, -1, -1]

    def test_memory_does_not_grow_with_the_classes(self):
        n_points, num_classes = 20_000, 1_000
        generator = np.random.default_rng(0)
        ring = (np.arange(n_points)[:, None] + np.arange(1, 5)) % n_points
        transition = graph.transition_matrix(graph.self_tuning_weights(ring, np.tile(np.arange(1.0, 5), (n_points, 1))))
        labelled = generator.choice(n_points, 3_000, replace=False)
        labels = generator.integers(num_classes, size=3_000)
        tracemalloc.start()
        summary = diffusion.label_summary(transition, labelled, labels, num_classes, 3)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < n_points * num_classes * 4 / 2  # half of N x C in float32
        direct = diffusion.diffuse_labels(transition, labelled, labels, num_classes, 3)
        np.testing.assert_array_equal(summary.predicted, np.where(direct.any(axis=1), direct.argmax(axis=1), -1))

    def test_wrong_block_size(self):
        with pytest.raises(ConfigurationError, match="`block_size` to be at least 1, but got 0"):
            diffusion.label_summary(PATH, [0], [0], 1, 1, block_size=0)


class TestMultilabel:
    """`multilabel_summary`: every label a problem of two classes."""

    def targets(self):
        return np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0]])

    @pytest.mark.parametrize("block_size", [1, 2, 64])
    @pytest.mark.parametrize("reduction", ["mean", "max"])
    def test_equals_one_binary_diffusion_a_label(self, reduction, block_size):
        transition, targets = random_walk(), self.targets()
        per_label = [diffusion.diffuse_labels(transition, LABELLED, targets[:, c], 2, 4) for c in range(3)]
        margins = np.stack([diffusion.label_margin(masses) for masses in per_label])
        weakness = getattr(1 - margins, reduction)(axis=0)
        summary = diffusion.multilabel_summary(
            transition, LABELLED, targets, 4, reduction=reduction, block_size=block_size
        )
        np.testing.assert_allclose(summary.margin, 1 - weakness, atol=1e-6)
        np.testing.assert_allclose(summary.reach, diffusion.label_reach(per_label[0]), atol=1e-6)
        expected = np.stack([masses[:, 1] > masses[:, 0] for masses in per_label], axis=1).astype(int)
        expected[summary.reach == 0] = -1
        np.testing.assert_array_equal(summary.predicted, expected)

    def test_one_label_equals_two_classes(self):
        transition, targets = random_walk(), np.array([1, 0, 1, 1])
        binary = diffusion.label_summary(transition, LABELLED, targets, 2, 4)
        multi = diffusion.multilabel_summary(transition, LABELLED, targets[:, None], 4)
        np.testing.assert_allclose(multi.margin, binary.margin, atol=1e-6)

    def test_conflicting_copies_are_averaged(self):
        summary = diffusion.multilabel_summary(PATH, [0, 0, 2], [[1, 1], [0, 1], [1, 1]], 1)
        np.testing.assert_allclose(summary.margin, [0.5, 0.75, 1.0])

    def test_no_label(self):
        for reduction in ("mean", "max"):
            summary = diffusion.multilabel_summary(PATH, [], np.empty((0, 2), int), 3, reduction=reduction)
            assert not summary.margin.any()
            assert (summary.predicted == -1).all()

    def test_wrong_arguments(self):
        with pytest.raises(InvalidLabelError, match=r"`labels` of shape \(L, C\), but got \(1,\)"):
            diffusion.multilabel_summary(PATH, [0], [1], 1)
        with pytest.raises(ConfigurationError, match="`reduction` to be 'mean' or 'max', but got 'sum'"):
            diffusion.multilabel_summary(PATH, [0], [[1]], 1, reduction="sum")


class TestDiffuseAsked:
    """`diffuse_asked`."""

    def test_equals_the_extra_class_of_a_full_restart(self):
        transition = random_walk()
        asked = np.array([9, 60])
        full = naive_diffusion(transition, [*LABELLED, *asked], [*LABELS, 3, 3], 4, 6)
        np.testing.assert_allclose(diffusion.diffuse_asked(transition, LABELLED, asked, 6), full[:, 3], atol=1e-6)

    def test_a_point_labelled_and_asked_is_labelled(self):
        assert diffusion.diffuse_asked(PATH, [0], [0, 2], 1).tolist() == [0, 0.5, 1]

    def test_nothing_asked(self):
        assert not diffusion.diffuse_asked(PATH, [0], [], 5).any()

    def test_asked_out_of_range(self):
        with pytest.raises(InvalidIndexError, match="Expected argument `asked` between 0 and 2, but got 5 to 5"):
            diffusion.diffuse_asked(PATH, [], [5], 1)


def test_margin_of_many_classes_is_the_gap_of_two():
    masses = np.array([[0.5] + [0.056] * 9, [0.5, 0.5] + [0.0] * 8, [0.1] * 10, [0.0] * 10], np.float32)
    np.testing.assert_allclose(diffusion.label_margin(masses), [0.444, 0, 0, 0], atol=1e-6)


def test_label_equivalents_of_one_label_on_a_ring():
    """The mean reach of one label on a regular graph is at most (t + 1) / N: one equivalent."""
    ring = (np.arange(100)[:, None] + np.array([1, 99])) % 100
    transition = graph.transition_matrix(graph.self_tuning_weights(ring, np.ones((100, 2))))
    reach = diffusion.label_reach(diffusion.diffuse_labels(transition, [0], [0], 1, 8))
    equivalents = diffusion.label_equivalents(reach, 100, 8)
    assert 0.3 < equivalents.mean() <= 1


@st.composite
def walks(draw):
    """A random walk on duplicates-free random points with islands, and a labelled subset of it."""
    n_points = draw(st.integers(2, 30))
    generator = np.random.default_rng(draw(st.integers(0, 2**20)))
    features = generator.normal(size=(n_points, 2)) + 1e4 * generator.integers(2, size=(n_points, 1))
    weights = graph.self_tuning_weights(*nearest_neighbors(features.astype(np.float32), draw(st.integers(1, 6))))
    n_labelled = draw(st.integers(1, n_points))
    labelled = generator.choice(n_points, n_labelled, replace=False)
    return graph.transition_matrix(weights), labelled, generator.integers(3, size=n_labelled), generator


@settings(max_examples=60, deadline=None)
@given(walks(), st.integers(1, 12))
def test_what_holds_for_any_walk(walk, n_steps):
    transition, labelled, labels, generator = walk
    masses = diffusion.diffuse_labels(transition, labelled, labels, 3, n_steps)
    reach, margin = diffusion.label_reach(masses), diffusion.label_margin(masses)
    assert (masses >= 0).all()
    assert ((reach >= 0) & (reach <= 1)).all()
    assert ((margin >= 0) & (margin <= reach + 1e-6)).all()

    longer = diffusion.label_reach(diffusion.diffuse_labels(transition, labelled, labels, 3, n_steps + 1))
    assert (longer >= reach - 1e-6).all()  # more steps
    fewer = diffusion.label_reach(diffusion.diffuse_labels(transition, labelled[:-1], labels[:-1], 3, n_steps))
    assert (fewer <= reach + 1e-6).all()  # more labels

    constant = diffusion.diffuse_labels(transition, labelled, np.full_like(labels, 2), 3, n_steps)
    np.testing.assert_allclose(constant[:, 2], reach, atol=1e-6)
    assert not constant[:, :2].any()

    classes = generator.permutation(3)
    renamed = diffusion.diffuse_labels(transition, labelled, classes[labels], 3, n_steps)
    np.testing.assert_allclose(renamed[:, classes], masses, atol=1e-6)

    permutation = generator.permutation(len(masses))
    position = np.argsort(permutation)
    moved = transition[permutation][:, permutation]
    permuted = diffusion.diffuse_labels(moved, position[labelled], labels, 3, n_steps)
    np.testing.assert_allclose(permuted, masses[permutation], atol=1e-6)

    asked = diffusion.diffuse_asked(transition, labelled, generator.integers(len(masses), size=3), n_steps)
    assert ((asked >= 0) & (asked <= 1)).all()
