"""The criterion of the paper: scores point by point, batches in passes."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_diffal import diffusion, graph
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.neighbors.nearest import nearest_neighbors
from lightning_diffal.samplers import DiffusionSampler, QueryData
from lightning_diffal.samplers.contract import PermutedGenerator
from tests.samplers.diffusion_cases import ask, clouds


@pytest.fixture(autouse=True)
def criterion(monkeypatch):
    """The criterion that is tested here."""
    monkeypatch.setitem(DiffusionSampler.__init__.__kwdefaults__, "criterion", "paper")


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
