"""The diffusion sampler: what it asks, why, and every degenerate case with its expected outcome."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_diffal import diffusion, graph
from lightning_diffal.datasets import blobs, checkerboard
from lightning_diffal.exceptions import ConfigurationError, FeatureError, InvalidLabelError
from lightning_diffal.neighbors.nearest import nearest_neighbors
from lightning_diffal.samplers import DiffusionSampler, QueryData
from lightning_diffal.samplers.contract import PermutedGenerator

NO_LABELS = {"labelled": np.empty(0, np.int64), "labels": np.empty(0, np.int64)}


def ask(features, labelled=(), labels=(), size=5, *, seed=0, num_classes=3, sampler=None, **fields):
    data = QueryData(
        features=np.asarray(features, np.float32),
        labelled=np.asarray(labelled, np.int64),
        labels=np.asarray(labels, np.int64),
        num_classes=num_classes,
        **fields,
    )
    return (sampler or DiffusionSampler()).select(data, size, np.random.default_rng(seed))


def clouds(n=300, n_clouds=3, d=4, seed=0, spread=8.0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(n_clouds, size=n)
    centres = spread * generator.normal(size=(n_clouds, d))
    return (centres[labels] + generator.normal(size=(n, d))).astype(np.float32), labels


def play(features, truth, sampler, *, rounds, size, start=(), seed=0):
    """Rounds of an ideal annotator; the queries."""
    labelled = np.asarray(start, np.int64)
    queries = []
    for number in range(rounds):
        query = ask(
            features,
            labelled,
            truth[labelled],
            size,
            seed=[seed, number],
            num_classes=int(truth.max()) + 1,
            sampler=sampler,
        )
        queries.append(query)
        labelled = np.concatenate([labelled, query.indices])
    return queries


class TestScore:
    """One pass of the criterion, against a transcription of section by section."""

    def test_equals_naive_transcription(self):
        features, truth = clouds()
        labelled = np.array([200, 3, 121, 77])
        labels = truth[labelled]
        weights = graph.self_tuning_weights(*nearest_neighbors(features, 6)).toarray().astype(np.float64)
        walk = weights / weights.sum(axis=1, keepdims=True)
        chi = np.zeros((300, 3))
        chi[labelled, labels] = 1
        for _ in range(4):
            chi = walk @ chi
            chi[labelled] = np.eye(3)[labels]
        ordered = np.sort(chi, axis=1)
        margin = ordered[:, -1] - ordered[:, -2]
        rank = np.argsort(np.argsort(weights.sum(axis=1))) + 1
        score = 1 - margin + 0.1 * rank / 300
        score[labelled] = -1

        query = ask(features, labelled, labels, 1, sampler=DiffusionSampler(6, 4))
        best = int(score.argmax())
        assert query.indices.tolist() == [best]
        np.testing.assert_allclose(query.scores, score[best], atol=1e-5)
        np.testing.assert_allclose(query.details["margin"], margin[best], atol=1e-6)
        np.testing.assert_allclose(query.details["reach"], chi[best].sum(), atol=1e-6)

        everything = ask(features, labelled, labels, 296, sampler=DiffusionSampler(6, 4, n_passes=1, centrality=0))
        np.testing.assert_allclose(everything.details["margin"], margin[everything.indices], atol=1e-6)
        reached = chi[everything.indices].any(axis=1)
        expected = np.where(reached, chi[everything.indices].argmax(axis=1), -1)
        np.testing.assert_array_equal(everything.details["predicted"], expected)

    def test_centrality_breaks_ties_towards_the_middle(self):
        features, _ = clouds(n_clouds=1)
        plain = ask(features, sampler=DiffusionSampler(centrality=0), size=20)
        central = ask(features, sampler=DiffusionSampler(centrality=0.1), size=20)
        radius = np.linalg.norm(features - features.mean(axis=0), axis=1)
        assert radius[central.indices].mean() < radius[plain.indices].mean()

    def test_scale_of_the_features_changes_no_score(self):
        features, truth = clouds()
        labelled = np.array([200, 3, 121])
        first = ask(features, labelled, truth[labelled], 297)
        second = ask(features * 1000, labelled, truth[labelled], 297)
        np.testing.assert_allclose(
            second.details["margin"][np.argsort(second.indices)],
            first.details["margin"][np.argsort(first.indices)],
            atol=1e-5,
        )

    def test_cosine_ignores_the_length_of_features(self):
        features, truth = clouds()
        labelled = np.array([200, 3, 121])
        lengths = 2.0 ** np.random.default_rng(0).integers(-8, 8, size=(300, 1))
        first = ask(features, labelled, truth[labelled], 297, sampler=DiffusionSampler(metric="cosine"))
        second = ask(features * lengths, labelled, truth[labelled], 297, sampler=DiffusionSampler(metric="cosine"))
        np.testing.assert_allclose(
            second.details["margin"][np.argsort(second.indices)],
            first.details["margin"][np.argsort(first.indices)],
            atol=1e-5,
        )

    def test_details_explain_every_pick(self):
        features, truth = clouds()
        labelled = np.array([200, 3, 121])
        query = ask(features, labelled, truth[labelled], 12)
        distances = np.linalg.norm(features[query.indices][:, None] - features[labelled][None], axis=2)
        np.testing.assert_array_equal(query.details["nearest_labelled"], labelled[distances.argmin(axis=1)])
        assert set(query.details["phase"]) <= {"exploration", "refinement"}
        assert set(query.details) == {
            "margin", "reach", "label_equivalents", "phase", "predicted", "nearest_labelled",
        }  # fmt: skip
        assert query.summary["exploration_share"] == np.mean(query.details["phase"] == "exploration")
        assert query.summary["mean_label_equivalents"] > 0


class TestBatches:
    """Passes, absorption, pending points, ties."""

    def test_picks_of_one_pass_are_not_adjacent(self):
        features, _ = clouds(n=400)
        sampler = DiffusionSampler(n_passes=1)
        query = ask(features, size=12, sampler=sampler)
        weights = graph.self_tuning_weights(*nearest_neighbors(features, 15))
        assert weights[query.indices][:, query.indices].nnz == 0

    def test_adjacency_is_relaxed_when_free_points_run_out(self):
        query = ask(clouds(n=40)[0], size=40, sampler=DiffusionSampler(n_passes=1))
        assert sorted(query.indices) == list(range(40))

    @pytest.mark.parametrize(("size", "n_passes"), [(1, 8), (3, 8), (10, 4), (11, 8), (20, 1)])
    def test_equals_a_full_restart_after_each_pass(self, size, n_passes):
        """All classes and the asked one diffused anew, with picks as absorbing states."""
        features, truth = clouds(n=600, seed=1)
        labelled = np.random.default_rng(3).choice(600, 15, replace=False)
        query = ask(features, labelled, truth[labelled], size, sampler=DiffusionSampler(n_passes=n_passes))

        indices, distances = nearest_neighbors(features, 15)
        weights = graph.self_tuning_weights(indices, distances)
        walk, central = graph.transition_matrix(weights), graph.centrality(weights)
        steps, passes, picked = diffusion.DEFAULT_N_STEPS, min(n_passes, size), []
        reach = diffusion.diffuse_labels(walk, labelled, truth[labelled], 3, steps).sum(axis=1)
        equivalents = np.delete(reach, labelled).mean() * 600 / (steps + 1)
        assert equivalents > 3  # the pool is partly explored, so the centrality has begun to fade
        share = 3 / equivalents
        bonus = 0.1 * (share * central + (1 - share) * np.minimum(1, 10 * central))
        for number in range(passes):
            classes = np.concatenate([truth[labelled], np.full(len(picked), 3)])
            masses = diffusion.diffuse_labels(walk, np.concatenate([labelled, picked]).astype(int), classes, 4, steps)
            margin = diffusion.label_margin(masses[:, :3])
            score = 1 - np.minimum(1, margin + masses[:, 3]) + bonus
            score[labelled] = score[np.array(picked, int)] = -9
            blocked, want = set(), size * (number + 1) // passes - size * number // passes
            for i in np.argsort(-score):
                if want and i not in blocked:
                    picked.append(int(i))
                    blocked.update(weights[i].indices)
                    want -= 1
        assert len(np.intersect1d(query.indices, picked)) >= 0.9 * size

    def test_what_graph_and_network_are_sure_of_is_left_alone(self):
        features, truth = clouds(n=300)
        labelled = np.flatnonzero(np.arange(300) % 30 == 7)
        probabilities = np.full((300, 3), [0.98, 0.01, 0.01], np.float32)
        doubted = np.array([5, 60, 111, 202])
        probabilities[doubted] = [0.4, 0.35, 0.25]
        data = QueryData(features=features, probabilities=probabilities, labelled=labelled, labels=truth[labelled])

        def order(margin="auto", given=data, size=290):
            sampler = DiffusionSampler(centrality=0, network_margin=margin)
            return sampler.select(given, size, np.random.default_rng(0))

        blind, seen = order(False), order(True)
        place = {
            name: np.argsort(query.indices)[np.searchsorted(np.sort(query.indices), doubted)].sum()
            for name, query in (("blind", blind), ("seen", seen))
        }
        assert place["seen"] < place["blind"]
        doubt = dict(zip(seen.indices.tolist(), seen.details["network_margin"], strict=True))
        np.testing.assert_allclose([doubt[5], doubt[6]], [0.05, 0.97], atol=1e-6)
        assert "network_margin" not in blind.details
        # of its own accord in large batches, where it is told
        np.testing.assert_array_equal(order().indices, seen.indices)
        np.testing.assert_array_equal(order(size=32).indices, order(False, size=32).indices)
        untold = QueryData(features=features, labelled=labelled, labels=truth[labelled])
        np.testing.assert_array_equal(order(given=untold).indices, blind.indices)
        with pytest.raises(ConfigurationError, match="`data` to hold `probabilities`"):
            order(True, given=untold)

    def test_probabilities_are_wanted_for_large_batches(self):
        sampler = DiffusionSampler(n_passes=20)
        assert sampler.wants(20) == sampler.requires == {"features"}
        assert sampler.wants(21) == {"features", "probabilities"} == DiffusionSampler(network_margin=True).requires
        assert DiffusionSampler(network_margin=False).wants(100) == {"features"}

    def test_class_masses_are_those_before_the_batch(self):
        """Diffusing on from the last state would lengthen the walk with every pass."""
        features, truth = clouds(n=600)
        labelled = np.array([200, 3, 121])
        one = ask(features, labelled, truth[labelled], 40, sampler=DiffusionSampler(n_passes=1))
        many = ask(features, labelled, truth[labelled], 40, sampler=DiffusionSampler(n_passes=40))
        margins = dict(zip(one.indices, one.details["margin"], strict=True))
        for index, margin in zip(many.indices, many.details["margin"], strict=True):
            assert margins.get(index, margin) == margin

    def test_batches_spread_over_unlabelled_clouds(self):
        features, truth = clouds(n=400, n_clouds=8, spread=30.0)
        query = ask(features, size=8, num_classes=8)
        assert len(set(truth[query.indices])) == 8

    def test_pending_points_repel(self):
        features, truth = clouds(n=400, n_clouds=4, spread=30.0)
        first = ask(features, size=4, num_classes=4)
        assert len(set(truth[first.indices])) == 4
        waiting = first.indices[:2]
        second = ask(features, size=2, num_classes=4, pending=waiting, seed=5)
        assert not set(second.indices) & set(waiting)
        assert set(truth[second.indices]) == set(range(4)) - set(truth[waiting])

    def test_ties_are_broken_by_keys_and_not_by_index(self):
        ring = np.stack([np.cos(np.arange(40) * np.pi / 20), np.sin(np.arange(40) * np.pi / 20)], axis=1)
        picks = {
            int(ask(ring, size=1, seed=seed, sampler=DiffusionSampler(2, centrality=0)).indices[0])
            for seed in range(30)
        }
        assert len(picks) > 15

    def test_permuted_lattice_with_duplicates_and_ties_gives_permuted_picks_bit_for_bit(self):
        lattice = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), axis=-1).reshape(-1, 2)
        features = np.concatenate([lattice, lattice[:30], lattice[:10]]).astype(np.float32)
        n_points = len(features)
        permutation = np.random.default_rng(6).permutation(n_points)
        position = np.argsort(permutation)
        labelled, labels, pending = np.array([100, 3, 50, 84]), np.array([1, 0, 1, 0]), np.array([60, 110])
        sampler = DiffusionSampler(6)
        plain = sampler.select(
            QueryData(features=features, labelled=labelled, labels=labels, pending=pending),
            70,
            np.random.default_rng(2),
        )
        moved = sampler.select(
            QueryData(
                features=features[permutation], labelled=position[labelled], labels=labels, pending=position[pending]
            ),
            70,
            PermutedGenerator(2, permutation),
        )
        np.testing.assert_array_equal(position[plain.indices], moved.indices)
        np.testing.assert_array_equal(plain.scores, moved.scores)
        for name, value in plain.details.items():
            expected = position[value] if name == "nearest_labelled" else value
            np.testing.assert_array_equal(moved.details[name], expected)

    def test_names_of_the_classes_do_not_matter(self):
        features, truth = clouds()
        labelled = np.array([200, 3, 121, 77, 9])
        first = ask(features, labelled, truth[labelled], 20)
        second = ask(features, labelled, np.array([2, 0, 1])[truth[labelled]], 20)
        np.testing.assert_array_equal(first.indices, second.indices)

    def test_generator_gives_one_key_per_point_and_nothing_else(self):
        features, _ = clouds(n=50)
        generator, reference = np.random.default_rng(4), np.random.default_rng(4)
        DiffusionSampler().select(QueryData(features=features), 5, generator)
        reference.random(50)
        assert generator.bit_generator.state == reference.bit_generator.state


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
        assert query.summary == {"exploration_share": 0.0, "mean_label_equivalents": 0.0, "neighbor_recall": 1.0}

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

    def test_far_outliers_are_not_asked_first(self):
        features, truth = clouds(n=1000)
        outliers = np.array([11, 150, 222])
        features[outliers] = 1e4 * np.random.default_rng(1).normal(size=(3, 4))
        queries = play(features, truth, DiffusionSampler(n_steps=3), rounds=3, size=10, start=[5])
        assert not set(np.concatenate([query.indices for query in queries])) & set(outliers)
        first, second = play(features, truth, DiffusionSampler(), rounds=2, size=10, start=[5])
        assert not np.isin(first.indices, outliers).any()
        assert np.isin(second.indices, outliers).sum() <= 1  # the rest is known by then
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

    def test_first_pick_is_the_most_central(self):
        features, _ = clouds(n_clouds=1)
        query = ask(features, size=1)
        weights = graph.self_tuning_weights(*nearest_neighbors(features, 15))
        assert query.indices[0] == graph.centrality(weights).argmax()
        assert query.details["nearest_labelled"].tolist() == [-1]
        assert query.details["predicted"].tolist() == [-1]
        assert query.summary == {"exploration_share": 1.0, "mean_label_equivalents": 0.0, "neighbor_recall": 1.0}

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

    def test_repr_is_the_call(self):
        assert repr(DiffusionSampler(7, metric="cosine")) == (
            "DiffusionSampler(n_neighbors=7, n_steps='auto', metric='cosine', backend='auto', centrality=0.1, "
            "n_passes=32, network_margin='auto', multilabel='mean', distributed='auto')"
        )
