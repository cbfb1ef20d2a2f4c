"""Which points get a pseudo-label: a naive transcription, invariances, thresholds, and every degenerate case."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_diffal import PseudoLabels, diffusion
from lightning_diffal.exceptions import (
    ConfigurationError,
    FeatureError,
    InvalidIndexError,
    InvalidLabelError,
    InvalidTypeError,
)
from lightning_diffal.pseudo_labels.rule import as_pseudo_labels, choose_pseudo_labels
from lightning_diffal.samplers import DiffusionSampler, QueryData
from tests.samplers.test_diffusion import clouds

OPEN = PseudoLabels(margin=0.0, label_equivalents=0.0)


def naive(features, labelled, labels, rule):
    """Word for word, dense, in float64; every loop spelled out. No two points are equal."""
    n_points = len(features)
    distance = np.linalg.norm(features[:, None].astype(float) - features[None].astype(float), axis=2)
    lists = [
        sorted((distance[i, j], j) for j in range(n_points) if j != i)[: rule.n_neighbors] for i in range(n_points)
    ]
    scale = [near[min(7, max(1, rule.n_neighbors // 2)) - 1][0] for near in lists]
    weights = np.zeros((n_points, n_points))
    for i, near in enumerate(lists):
        for d, j in near:
            weights[i, j] = weights[j, i] = np.exp(-min(d**2 / (scale[i] * scale[j]), 40))
    walk = weights / weights.sum(axis=1, keepdims=True)
    chi = np.zeros((n_points, max(labels) + 1))
    chi[labelled, labels] = 1
    held = chi.copy()
    for _ in range(rule.n_steps):
        chi = walk @ chi
        chi[labelled] = held[labelled]
    found = {}
    for i in range(n_points):
        if i in labelled:
            continue
        second, first = np.sort(chi[i])[-2:]
        reach = chi[i].sum()
        if reach == 0 or first == second:
            continue
        share = (first - second) / reach
        reached = reach * n_points / (rule.n_steps + 1) >= rule.label_equivalents or reach >= 0.5
        if share >= rule.margin and reached:
            found[i] = (int(chi[i].argmax()), share**rule.power)
    return found


def choose(features, labelled, labels, rule=OPEN, **kwargs):
    return choose_pseudo_labels(features, labelled, labels, rule=rule, **kwargs)


class TestChoosePseudoLabels:
    """`choose_pseudo_labels`."""

    @pytest.mark.parametrize(
        "rule",
        [
            PseudoLabels(margin=0.0, label_equivalents=0.0, power=1.0, n_neighbors=6, n_steps=4),
            PseudoLabels(margin=0.6, label_equivalents=0.0, power=2.0, n_neighbors=6, n_steps=4),
            PseudoLabels(margin=0.0, label_equivalents=2.5, power=0.5, n_neighbors=6, n_steps=3),
            PseudoLabels(margin=0.4, label_equivalents=2.0, power=0.0, n_neighbors=9, n_steps=6),
        ],
    )
    def test_equals_naive_transcription(self, rule):
        features, truth = clouds(n=90, spread=0.9)
        labelled = [41, 3, 77, 20, 60]
        expected = naive(features, labelled, truth[labelled].tolist(), rule)
        found = choose(features, labelled, truth[labelled], rule)
        assert 5 < len(expected) < 86 or rule.margin == rule.label_equivalents == 0
        assert found.indices.tolist() == sorted(expected)
        assert found.labels.tolist() == [expected[i][0] for i in sorted(expected)]
        np.testing.assert_allclose(found.weights, [expected[i][1] for i in sorted(expected)], atol=2e-5)
        assert found.indices.dtype == found.labels.dtype == np.int64 and found.weights.dtype == np.float32

    def test_follows_a_permutation_of_the_points(self):
        features, truth = clouds(n=120, spread=1.5)
        labelled, order = np.array([7, 80, 33, 101]), np.random.default_rng(1).permutation(120)
        place = np.argsort(order)
        first = choose(features, labelled, truth[labelled])
        second = choose(features[order], place[labelled], truth[labelled])
        back = np.argsort(order[second.indices])
        np.testing.assert_array_equal(first.indices, order[second.indices][back])
        np.testing.assert_array_equal(first.labels, second.labels[back])
        np.testing.assert_array_equal(first.weights, second.weights[back])

    def test_clouds_are_labelled_rightly(self):
        features, truth = clouds(n=300)
        labelled = np.array([np.flatnonzero(truth == c)[5] for c in range(3)])
        found = choose(features, labelled, truth[labelled], PseudoLabels(n_steps=8, label_equivalents=0.5))
        assert len(found.indices) > 200
        assert (found.labels == truth[found.indices]).all()
        assert not np.isin(labelled, found.indices).any()
        assert (found.weights > 0).all() and (found.weights <= 1).all()

    def test_thresholds_take_points_away_and_leave_the_others(self):
        features, truth = clouds(n=300, spread=1.5)
        labelled = np.array([7, 80, 33, 101])
        wide = choose(features, labelled, truth[labelled])
        rules = (PseudoLabels(margin=0.7, label_equivalents=0), PseudoLabels(margin=0, label_equivalents=4))
        for rule in rules:
            strict = choose(features, labelled, truth[labelled], rule)
            assert 0 < len(strict.indices) < len(wide.indices)
            position = np.searchsorted(wide.indices, strict.indices)
            np.testing.assert_array_equal(wide.weights[position], strict.weights)
        assert choose(features, labelled, truth[labelled], rules[0]).weights.min() >= np.float32(0.7**2)

    def test_max_points_keeps_the_heaviest(self):
        features, truth = clouds(n=300, spread=1.5)
        labelled = np.array([7, 80, 33, 101])
        wide = choose(features, labelled, truth[labelled])
        few = choose(features, labelled, truth[labelled], PseudoLabels(margin=0, label_equivalents=0, max_points=20))
        assert len(few.indices) == 20 and (np.diff(few.indices) > 0).all()
        np.testing.assert_array_equal(np.sort(few.weights), np.sort(wide.weights)[-20:])

    def test_only_candidates_get_one(self):
        features, truth = clouds(n=300)
        labelled = np.array([7, 80, 33, 101])
        wide = choose(features, labelled, truth[labelled])
        some = wide.indices[::3]
        found = choose(features, labelled, truth[labelled], candidates=some)
        np.testing.assert_array_equal(found.indices, some)
        np.testing.assert_array_equal(found.weights, wide.weights[::3])
        assert not len(choose(features, labelled, truth[labelled], candidates=[]).indices)

    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    def test_the_graph_of_the_sampler_is_the_same(self, metric):
        features, truth = clouds(n=200, spread=1.5)
        labelled = np.array([7, 80, 33, 101])
        data = QueryData(features=features, labelled=labelled, labels=truth[labelled], num_classes=3)
        sampler = DiffusionSampler(metric=metric)
        assert sampler.kept_graph(features, 15, metric, "auto") is None
        sampler.select(data, 5, np.random.default_rng(0))
        kept = sampler.kept_graph(features.copy(), 15, metric, "auto")
        assert kept is not None
        assert sampler.kept_graph(features + 1, 15, metric, "auto") is None
        assert sampler.kept_graph(features, 14, metric, "auto") is None
        rule = PseudoLabels(margin=0, label_equivalents=0, metric=metric)
        fresh, again = (choose(features, labelled, truth[labelled], rule, graph=g) for g in (None, kept))
        assert all(np.array_equal(a, b) for a, b in zip(fresh, again, strict=True))

    def test_inputs_stay_as_they_are(self):
        features, truth = clouds(n=100)
        labelled, before = np.array([7, 80, 33]), features.copy()
        choose(features, labelled, truth[labelled])
        np.testing.assert_array_equal(features, before)


class TestDegenerateInputs:
    """Nothing to say, or too little, is an empty answer; what is wrong is an error."""

    def test_no_label(self):
        assert not len(choose(np.eye(5), [], [], num_classes=3).indices)

    def test_one_class_speaks_against_nobody(self):
        features, _ = clouds(n=60)
        assert not len(choose(features, [3, 9], [1, 1], num_classes=3).indices)

    def test_all_points_equal(self):
        # one node, whose labels are in conflict
        assert not len(choose(np.ones((9, 2)), [3, 5], [0, 1]).indices)
        found = choose(np.ones((9, 2)), [3, 5, 6], [0, 1, 1])
        assert found.labels.tolist() == [1] * 6
        np.testing.assert_allclose(found.weights, 1 / 3, rtol=1e-5)

    def test_all_points_labelled(self):
        assert not len(choose(np.eye(4), [2, 0, 1, 3], [0, 1, 0, 1]).indices)

    def test_a_component_without_label_gets_none(self):
        near, far = np.arange(20.0)[:, None], 1e4 + np.arange(20.0)[:, None]
        rule = PseudoLabels(margin=0, label_equivalents=0, n_neighbors=3, n_steps=30)
        found = choose(np.concatenate([near, far]), [2, 15], [0, 1], rule)
        assert len(found.indices) and found.indices.max() < 20

    def test_copies_of_a_labelled_point_get_its_label(self):
        features, truth = clouds(n=60)
        features[[4, 50]] = features[9]
        found = choose(features, [9, 30, 12], [2, truth[30], truth[12]], num_classes=3)
        position = np.searchsorted(found.indices, [4, 50])
        assert found.labels[position].tolist() == [2, 2] and found.weights[position].tolist() == [1, 1]

    def test_fewer_points_than_neighbours(self):
        found = choose([[0.0], [1.0], [9.0], [10.0]], [0, 3], [0, 1], PseudoLabels(label_equivalents=100.0))
        assert found.indices.tolist() == [1, 2] and found.labels.tolist() == [0, 1]  # half of all walks is enough

    def test_one_dimension_and_half_precision(self):
        features, truth = clouds(n=60, d=1)
        labelled = [3, 9, 30]
        found = choose(features.astype(np.float16), labelled, truth[labelled])
        assert len(found.indices)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (([[np.nan], [1.0], [2.0]], [0, 1], [0, 1]), FeatureError, r"data set indices \[0\]"),
            (([[0.0], [1.0], [2.0]], [0, 7], [0, 1]), InvalidIndexError, r"\[7\]"),
            (([[0.0], [1.0], [2.0]], [0, 1], [0]), InvalidLabelError, "one row per labelled point"),
            (([[0.0], [1.0], [2.0]], [0, 1], [[0, 1], [1, 1]]), InvalidLabelError, "multi-label targets cannot"),
            (([[0.0], [1.0], [2.0]], [0, 1], [0.5, 1.5]), InvalidLabelError, "Regression targets are not supported"),
            (([[0.0], [1.0], [2.0]], [0, 1], [0, 5], 3), InvalidLabelError, r"\[5\]"),
        ],
    )
    def test_what_is_wrong_is_named(self, arguments, error, message):
        with pytest.raises(error, match=message):
            choose_pseudo_labels(*arguments)

    def test_a_labelled_candidate_is_refused(self):
        with pytest.raises(InvalidIndexError, match="candidates"):
            choose(np.eye(3), [0, 1], [0, 1], candidates=[1, 2])


class TestPseudoLabels:
    """The rule and its arguments."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"margin": 1.1}, "`margin` to be a finite number from 0 to 1, but got 1.1"),
            ({"margin": True}, "`margin`"),
            ({"label_equivalents": -1}, "`label_equivalents`"),
            ({"label_equivalents": np.inf}, "`label_equivalents` to be a finite number"),
            ({"power": np.nan}, "`power`"),
            ({"labelled_share": 1.0}, "`labelled_share` to be a finite number from 0 to below 1"),
            ({"min_labels": -1}, "`min_labels` to be an integer of at least 0 or None, but got -1"),
            ({"n_neighbors": 0}, "`n_neighbors`"),
            ({"n_steps": "some"}, "`n_steps`"),
            ({"metric": "manhattan"}, "`metric`"),
            ({"backend": "annoy"}, "`backend`"),
            ({"max_points": 0}, "`max_points`"),
        ],
    )
    def test_arguments_out_of_range(self, arguments, message):
        with pytest.raises(ConfigurationError, match=message):
            PseudoLabels(**arguments)

    @pytest.mark.parametrize("value", [0.5, "yes", PseudoLabels, {"margin": 0.5}])
    def test_anything_else_is_refused(self, value):
        with pytest.raises(InvalidTypeError, match="`pseudo_labels` to be True, False or a PseudoLabels"):
            as_pseudo_labels(value)

    def test_auto_steps_are_the_default(self):
        features, truth = clouds(n=200, spread=1.5)
        labelled, steps = np.array([7, 80, 33, 101]), diffusion.DEFAULT_N_STEPS
        fixed = PseudoLabels(margin=0, label_equivalents=0, n_steps=steps)
        first, second = (choose(features, labelled, truth[labelled], rule) for rule in (OPEN, fixed))
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
