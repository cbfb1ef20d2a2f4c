"""The diffusion sampler: what it asks, why, and every degenerate case with its expected outcome."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_diffal import graph
from lightning_diffal.datasets import blobs, checkerboard
from lightning_diffal.exceptions import ConfigurationError, FeatureError, InvalidLabelError
from lightning_diffal.graph.kernel import WalkKernel
from lightning_diffal.graph.weights import weighted_degree
from lightning_diffal.neighbors.nearest import nearest_neighbors
from lightning_diffal.samplers import DiffusionSampler, QueryData
from tests.samplers.diffusion_cases import ask, clouds, play


@pytest.fixture(autouse=True, params=["auto", "paper"])
def criterion(monkeypatch, request):
    """Every test here holds for both."""
    monkeypatch.setitem(DiffusionSampler.__init__.__kwdefaults__, "criterion", request.param)
    return request.param


class TestRounds:
    """Several rounds in a row, labelled sets that are no prefix."""

    def test_two_and_more_rounds_of_a_strict_subset(self):
        features, truth = clouds()
        start = np.array([250, 17, 140])
        allowed = np.setdiff1d(np.arange(5, 290), start)
        sampler, labelled, seen = DiffusionSampler(), start, set(start)
        for number in range(4):
            query = ask(
                features,
                labelled,
                truth[labelled],
                7,
                seed=number,
                sampler=sampler,
                candidates=np.setdiff1d(allowed, labelled)[::-1],
            )
            fresh = ask(
                features,
                labelled[::-1],
                truth[labelled[::-1]],
                7,
                seed=number,
                candidates=np.setdiff1d(allowed, labelled),
            )
            np.testing.assert_array_equal(query.indices, fresh.indices)  # no memory, no order
            assert not set(query.indices) & seen
            assert set(query.indices) <= set(allowed)
            seen |= set(query.indices)
            labelled = np.concatenate([query.indices, labelled])

    def test_finds_all_clouds_before_it_refines(self):
        features, truth = clouds(n=1000, n_clouds=6, spread=20.0)
        queries = play(features, truth, DiffusionSampler(), rounds=2, size=6)
        assert len(set(truth[queries[0].indices])) == 6
        assert (queries[0].details["phase"] == "exploration").all()

    @pytest.mark.parametrize(
        ("name", "n_steps", "explores"),
        [("checkerboard", "auto", 0.5), ("digits", "auto", 0.3), ("checkerboard", 3, 0.5), ("digits", 3, 0.5)],
    )
    def test_exploration_gives_way_to_refinement(self, name, n_steps, explores):
        if name == "checkerboard":
            features, truth = checkerboard(1000)
        else:
            digits = pytest.importorskip("sklearn.datasets").load_digits()
            features, truth = digits.data.astype(np.float32), digits.target
        queries = play(features, truth, DiffusionSampler(n_steps=n_steps), rounds=25, size=10, start=[7])
        shares = [query.summary["exploration_share"] for query in queries]
        reached = [query.summary["mean_label_equivalents"] for query in queries]
        assert shares[0] > 0.8
        assert np.mean(shares[:3]) > explores
        assert np.mean(shares[-10:]) < 0.05
        assert reached[0] < 1.5 < reached[-1]

    @pytest.mark.slow
    def test_exploration_gives_way_to_refinement_at_20_000_points(self):
        features, truth = checkerboard(20_000)
        queries = play(features, truth, DiffusionSampler(), rounds=20, size=20, start=[7])
        shares = [query.summary["exploration_share"] for query in queries]
        assert np.mean(shares[:3]) > 0.8
        assert np.mean(shares[-5:]) < 0.05

    def test_refines_at_borders_of_the_checkerboard(self):
        features, truth = checkerboard(1000)
        queries = play(features, truth, DiffusionSampler(), rounds=20, size=10, start=[7])
        late = np.concatenate([query.indices for query in queries[-5:]])
        to_border = np.abs((features * 4 + 0.5) % 1 - 0.5).min(axis=1)
        assert to_border[late].mean() < 0.7 * to_border.mean()


class TestDegenerate:
    """Section by section of what must work; the outcome is in the name."""

    def test_islands_without_a_label_come_first(self):
        features, truth = clouds(n=300, n_clouds=5, spread=1000.0)
        start = [int(np.flatnonzero(truth == 2)[0])]
        query = ask(features, start, truth[start], 12, num_classes=5, sampler=DiffusionSampler(5))
        assert set(truth[query.indices]) >= {0, 1, 3, 4}
        elsewhere = truth[query.indices] != 2
        assert elsewhere[:4].all()
        assert (query.details["predicted"][elsewhere] == -1).all()
        assert (query.details["reach"][elsewhere] == 0).all()
        assert (query.details["phase"][:4] == "exploration").all()

    def test_one_class_only_still_moves_away_from_labels(self):
        features, _ = clouds(n_clouds=1)
        labelled = np.array([100, 5])
        query = ask(features, labelled, [0, 0], 6, num_classes=1)
        assert (query.details["margin"] <= 0.1).all()
        assert set(query.details["predicted"]) <= {-1, 0}

    def test_classes_absent_so_far_change_nothing(self):
        features, truth = clouds()
        labelled = np.array([200, 3, 121])
        few = ask(features, labelled, truth[labelled], 9, num_classes=3)
        many = ask(features, labelled, truth[labelled], 9, num_classes=1000)
        np.testing.assert_array_equal(few.indices, many.indices)
        np.testing.assert_array_equal(few.scores, many.scores)

    def test_all_points_equal_are_chosen_by_key(self):
        features = np.ones((50, 3))
        first, second = (ask(features, [4], [1], 10, seed=seed) for seed in (0, 1))
        assert set(first.indices) != set(second.indices)
        assert first.indices.min() >= 0
        assert (first.details["margin"] == 1).all()
        assert (first.details["predicted"] == 1).all()
        assert (first.details["phase"] == "refinement").all()

    def test_all_points_equal_without_a_label(self):
        query = ask(np.ones((50, 3)), size=50)
        assert sorted(query.indices) == list(range(50))

    def test_duplicates_with_conflicting_labels_are_torn(self):
        """The pair holds its classes in proportion: neighbours of it are as weak as points that no label reaches."""
        line = np.arange(8, dtype=np.float32)[:, None]
        features = np.concatenate([line, line[:1]])
        query = ask(features, [0, 8], [0, 1], 7, num_classes=2, sampler=DiffusionSampler(2, 3, centrality=0))
        assert (query.details["margin"] == 0).all()
        assert query.details["reach"].max() > 0

    def test_twenty_groups_of_ten_copies_are_asked_once_each(self):
        groups = np.repeat(clouds(n=20, n_clouds=1)[0], 10, axis=0)
        permutation = np.random.default_rng(0).permutation(200)
        group = np.repeat(np.arange(20), 10)[permutation]
        features = groups[permutation]
        query = ask(features, size=20)
        assert sorted(group[query.indices]) == list(range(20))
        labelled = query.indices[:7]
        second = ask(features, labelled, [0] * 7, 13)
        assert sorted(group[second.indices]) == sorted(set(range(20)) - set(group[labelled]))
        third = ask(features, labelled, [0] * 7, 40, pending=query.indices[7:10])
        assert set(group[third.indices[:10]]) == set(range(20)) - set(group[query.indices[:10]])
        held = np.bincount(group[np.concatenate([third.indices, query.indices[:10]])], minlength=20)
        assert set(held) == {2, 3}  # a second copy of each before a third of any
        everything = ask(features, labelled, [0] * 7, 500)
        assert sorted(everything.indices) == sorted(set(range(200)) - set(labelled))

    def test_copies_of_pending_points_come_last(self):
        features = np.concatenate([np.zeros((5, 1)), np.arange(1.0, 6)[:, None]])
        query = ask(features, [9], [0], 9, pending=[2], sampler=DiffusionSampler(2))
        assert set(query.indices[:4]) == {5, 6, 7, 8}
        assert set(query.indices[4:]) == {0, 1, 3, 4}

    @pytest.mark.parametrize("n_points", [1, 2, 3, 15, 16])
    def test_fewer_points_than_neighbours(self, n_points):
        features, _ = clouds(n=n_points)
        assert sorted(ask(features, size=100).indices) == list(range(n_points))

    def test_query_of_the_whole_pool_and_more(self):
        features, truth = clouds(n=100)
        labelled = np.array([50, 3])
        for size in (98, 1000):
            query = ask(features, labelled, truth[labelled], size)
            assert sorted(query.indices) == sorted(set(range(100)) - {50, 3})
            assert np.isfinite(query.scores).all()

    def test_empty_pool(self):
        features, truth = clouds(n=10)
        query = ask(features, np.arange(10), truth[:10], 3)
        assert len(query) == 0
        assert query.summary.pop("neighbor_recall") == 1.0
        assert set(query.summary.values()) == {0.0}

    def test_pending_set_of_the_whole_pool(self):
        features, truth = clouds(n=10)
        assert len(ask(features, [4], truth[[4]], 3, pending=np.setdiff1d(np.arange(10), [4]))) == 0

    def test_more_neighbours_than_points(self):
        features, truth = clouds(n=30)
        query = ask(features, [5, 2], truth[[5, 2]], 4, sampler=DiffusionSampler(n_neighbors=500))
        assert len(query) == 4

    def test_one_dimension(self):
        features = np.sort(np.random.default_rng(0).normal(size=(60, 1)), axis=0)
        query = ask(features, [0, 59], [0, 1], 6, num_classes=2, sampler=DiffusionSampler(4))
        assert len(query) == 6
        assert set(query.details["nearest_labelled"]) <= {0, 59}

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_features_that_are_not_finite_are_named(self, value):
        features, _ = clouds(n=50)
        features[[7, 30], 1] = value
        with pytest.raises(FeatureError, match=r"2 of 50 rows hold NaN or infinity.*\[7, 30\]"):
            ask(features)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_features_of_any_floating_type(self, dtype):
        features, truth = clouds()
        tensor = torch.from_numpy(features).to(dtype)
        data = QueryData(features=tensor, labelled=torch.tensor([9, 4]), labels=torch.from_numpy(truth[[9, 4]]))
        query = DiffusionSampler().select(data, 5, np.random.default_rng(0))
        expected = ask(tensor.float().numpy(), [9, 4], truth[[9, 4]], 5)
        np.testing.assert_array_equal(query.indices, expected.indices)

    def test_far_outliers_are_not_asked_first(self, criterion):
        features, truth = clouds(n=1000)
        outliers = np.array([11, 150, 222])
        features[outliers] = 1e4 * np.random.default_rng(1).normal(size=(3, 4))
        queries = play(features, truth, DiffusionSampler(n_steps=3), rounds=3, size=10, start=[5])
        assert not set(np.concatenate([query.indices for query in queries])) & set(outliers)
        first, second = play(features, truth, DiffusionSampler(), rounds=2, size=10, start=[5])
        assert not np.isin(first.indices, outliers).any()
        assert np.isin(second.indices, outliers).sum() <= 1  # the rest is known by then
        if criterion == "auto":
            return
        without = play(features, truth, DiffusionSampler(centrality=0), rounds=1, size=10, start=[5])
        assert set(without[0].indices) & set(outliers)  # what the centrality is for

    def test_a_hub_does_not_hide_the_rest(self):
        generator = np.random.default_rng(0)
        features = generator.normal(size=(300, 50)).astype(np.float32)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        features[42] = 0  # everyone's nearest neighbour
        query = ask(features, size=10)
        assert query.indices[0] == 42
        assert len(set(query.indices)) == 10
        second = ask(features, [42], [0], 10)
        assert len(set(second.indices)) == 10
        assert second.scores.std() < 0.2

    def test_extreme_magnitudes(self):
        features, truth = clouds()
        labelled = np.array([200, 3, 121])
        reference = ask(features, labelled, truth[labelled], 10)
        for factor in (2.0**-100, 2.0**100):
            query = ask(features * np.float32(factor), labelled, truth[labelled], 10)
            np.testing.assert_allclose(np.sort(query.scores), np.sort(reference.scores), atol=1e-4)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_data_gets_an_answer(draw):
    """Lattices full of duplicates and ties, any split into labelled, pending and candidates, any setting."""
    n_points = draw.draw(st.integers(1, 40))
    generator = np.random.default_rng(draw.draw(st.integers(0, 2**20)))
    features = generator.integers(draw.draw(st.integers(1, 4)), size=(n_points, draw.draw(st.integers(1, 3))))
    order = generator.permutation(n_points)
    n_labelled = draw.draw(st.integers(0, n_points))
    n_pending = draw.draw(st.integers(0, n_points - n_labelled))
    labelled, rest = order[:n_labelled], order[n_labelled:]
    sampler = DiffusionSampler(
        draw.draw(st.integers(1, 20)),
        draw.draw(st.sampled_from([1, 5, "auto"])),
        metric=draw.draw(st.sampled_from(["euclidean", "cosine"])),
        n_passes=draw.draw(st.integers(1, 9)),
    )
    size = draw.draw(st.integers(1, 50))
    candidates = rest[n_pending:]
    query = ask(
        features,
        labelled,
        generator.integers(3, size=n_labelled),
        size,
        sampler=sampler,
        pending=rest[:n_pending],
        candidates=candidates,
    )
    assert len(query) == min(size, len(candidates))
    assert len(set(query.indices)) == len(query)
    assert set(query.indices) <= set(candidates)
    for values in (query.scores, query.details["margin"], query.details["reach"], query.details["label_equivalents"]):
        assert np.isfinite(values).all()
        assert (values >= 0).all()
    assert set(query.details["nearest_labelled"]) <= ({-1} if not n_labelled else set(labelled))
    assert ((query.details["predicted"] == -1) == (query.details["reach"] == 0)).all()


class TestColdStart:
    """No label at all."""

    def test_first_pick_is_the_most_central(self, criterion):
        features, _ = clouds(n_clouds=1)
        query = ask(features, size=1)
        weights = graph.self_tuning_weights(*nearest_neighbors(features, 15))
        central = graph.centrality(weights)
        if criterion == "auto":  # the one that covers most
            central = WalkKernel(graph.transition_matrix(weights), weighted_degree(weights)) @ np.ones(
                len(features), np.float32
            )
            np.testing.assert_allclose(query.scores, central.max(), rtol=1e-5)
        assert query.indices[0] == central.argmax()
        assert query.details["nearest_labelled"].tolist() == [-1]
        assert query.details["predicted"].tolist() == [-1]
        assert query.summary["exploration_share"] == 1.0
        assert query.summary["mean_label_equivalents"] == 0.0

    def test_cover_reaches_every_cloud(self):
        features, truth = blobs(500, 10, seed=3)
        features, truth = np.asarray(features), np.asarray(truth)
        query = ask(features, size=20, num_classes=10)
        assert len(set(truth[query.indices])) >= 9


class TestMultilabel:
    """Labels (L, C) of zeros and ones."""

    def test_worked_example(self):
        """Two labels: left or right, top or bottom. Weakest are the points where both are open."""
        axis = np.linspace(-1, 1, 11)
        features = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float32)
        features += np.random.default_rng(0).normal(size=features.shape).astype(np.float32) * 1e-3
        truth = (features > 0).astype(np.int64)
        labelled = np.random.default_rng(1).permutation(121)[:40]
        sampler = DiffusionSampler(6, 10, centrality=0)
        data = QueryData(features=features, labelled=labelled, labels=truth[labelled])
        query = sampler.select(data, 81, np.random.default_rng(0))
        assert query.details["predicted"].shape == (81, 2)
        agree = (query.details["predicted"] == truth[query.indices]).all(axis=1)
        assert agree.mean() > 0.75
        firm = query.details["margin"] > np.median(query.details["margin"])
        assert agree[firm].mean() > agree[~firm].mean()
        to_axes = np.abs(features[query.indices]).sum(axis=1)
        assert to_axes[firm].mean() > to_axes[~firm].mean()

    def test_max_asks_for_the_weakest_label(self):
        features, _ = clouds()
        truth = np.random.default_rng(0).integers(2, size=(300, 4))
        labelled = np.arange(0, 300, 30)
        data = QueryData(features=features, labelled=labelled, labels=truth[labelled])
        mean, largest = (
            DiffusionSampler(multilabel=name, n_passes=1, centrality=0).select(data, 290, np.random.default_rng(0))
            for name in ("mean", "max")
        )
        by_point = dict(zip(mean.indices, mean.details["margin"], strict=True))
        for index, margin in zip(largest.indices, largest.details["margin"], strict=True):
            assert margin <= by_point[index] + 1e-6

    def test_cold_start(self):
        features, _ = clouds()
        data = QueryData(features=features, labels=np.empty((0, 4), np.int64))
        query = DiffusionSampler().select(data, 5, np.random.default_rng(0))
        assert (query.details["predicted"] == -1).all()

    def test_regression_targets_are_refused(self):
        with pytest.raises(InvalidLabelError, match="Regression targets are not supported: give classes, or zeros and"):
            QueryData(features=np.eye(3), labelled=[0], labels=[0.5])


class TestKeptGraph:
    """Features that did not change keep their graph, which changes no pick."""

    def count_builds(self, monkeypatch):
        calls = []
        original = DiffusionSampler._build

        def build(sampler, features):
            calls.append(features.shape)
            return original(sampler, features)

        monkeypatch.setattr(DiffusionSampler, "_build", build)
        return calls

    def test_built_once_for_equal_features(self, monkeypatch):
        calls = self.count_builds(monkeypatch)
        features, truth = clouds()
        sampler = DiffusionSampler()
        for number in range(3):
            kept = ask(features.copy(), [9], truth[[9]], 5, seed=number, sampler=sampler)
            fresh = ask(features, [9], truth[[9]], 5, seed=number)
            np.testing.assert_array_equal(kept.indices, fresh.indices)
        assert len(calls) == 1 + 3

    def test_a_changed_value_or_setting_builds_anew(self, monkeypatch):
        calls = self.count_builds(monkeypatch)
        features, _ = clouds()
        sampler = DiffusionSampler()
        ask(features, sampler=sampler)
        features[299, 3] = np.nextafter(features[299, 3], np.float32(9))
        ask(features, sampler=sampler)
        sampler.n_neighbors = 7
        ask(features, sampler=sampler)
        assert len(calls) == 3

    def test_ties_among_neighbours_do_not_depend_on_the_round_that_built_the_graph(self):
        lattice = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), axis=-1).reshape(-1, 2)
        sampler = DiffusionSampler(5)
        ask(lattice, seed=1, sampler=sampler)
        kept = ask(lattice, [30], [0], 10, seed=2, sampler=sampler)
        fresh = ask(lattice, [30], [0], 10, seed=2, sampler=DiffusionSampler(5))
        np.testing.assert_array_equal(kept.indices, fresh.indices)

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda s: pickle.loads(pickle.dumps(s))])
    def test_copies_leave_the_graph_behind(self, duplicate):
        features, _ = clouds()
        sampler = DiffusionSampler(7)
        first = ask(features, sampler=sampler)
        twin = duplicate(sampler)
        assert twin._kept is None
        assert sampler._kept is not None
        assert repr(twin) == repr(sampler)
        np.testing.assert_array_equal(ask(features, sampler=twin).indices, first.indices)


class TestArguments:
    """Every wrong argument and its message."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_neighbors": 0}, "`n_neighbors` to be an integer of at least 1, but got 0"),
            ({"n_neighbors": 1.5}, "`n_neighbors` to be an integer of at least 1, but got 1.5"),
            ({"n_steps": 0}, "`n_steps` to be an integer of at least 1 or 'auto', but got 0"),
            ({"n_steps": "many"}, "`n_steps` to be an integer of at least 1 or 'auto', but got 'many'"),
            ({"n_passes": 0}, "`n_passes` to be an integer of at least 1, but got 0"),
            ({"n_passes": True}, "`n_passes` to be an integer of at least 1, but got True"),
            ({"metric": "l2"}, r"`metric` to be one of \('euclidean', 'cosine'\), but got 'l2'"),
            ({"backend": "annoy"}, "`backend` to be one of .*'faiss', 'exact'.* or a callable, but got 'annoy'"),
            ({"centrality": -0.1}, "`centrality` to be a finite number of at least 0, but got -0.1"),
            ({"centrality": np.inf}, "`centrality` to be a finite number of at least 0, but got inf"),
            ({"centrality": "high"}, "`centrality` to be a finite number of at least 0, but got 'high'"),
            ({"distributed": True}, "`distributed` to be 'auto' or False, but got True"),
            ({"network_margin": 1}, "`network_margin` to be True, False or 'auto', but got 1"),
            ({"criterion": "margin"}, r"`criterion` to be one of \('auto', 'paper'\), but got 'margin'"),
            ({"multilabel": "sum"}, r"`multilabel` to be one of \('mean', 'max'\), but got 'sum'"),
        ],
    )
    def test_constructor(self, arguments, message):
        with pytest.raises(ConfigurationError, match="Expected argument " + message):
            DiffusionSampler(**arguments)

    @pytest.mark.parametrize("size", [0, -1, 2.5, None])
    def test_query_size(self, size):
        with pytest.raises(ConfigurationError, match="Expected argument `query_size` to be an integer of at least 1"):
            ask(clouds()[0], size=size)

    def test_no_features(self):
        with pytest.raises(ConfigurationError, match="Expected argument `data` to hold `features`, but got None"):
            DiffusionSampler().select(QueryData(num_points=5), 1, np.random.default_rng(0))

    def test_a_callable_backend_is_used(self):
        features, truth = clouds()
        calls = []

        def backend(points, n_neighbors):
            calls.append(points.shape)
            return nearest_neighbors(points, n_neighbors)

        query = ask(features, [9], truth[[9]], 5, sampler=DiffusionSampler(backend=backend))
        assert calls == [(300, 4)]
        np.testing.assert_array_equal(query.indices, ask(features, [9], truth[[9]], 5).indices)

    def test_repr_is_the_call(self, criterion):
        assert repr(DiffusionSampler(7, metric="cosine")) == (
            f"DiffusionSampler(n_neighbors=7, n_steps='auto', criterion='{criterion}', metric='cosine', "
            "backend='auto', centrality=0.1, "
            "n_passes=32, network_margin='auto', multilabel='mean', distributed='auto')"
        )
