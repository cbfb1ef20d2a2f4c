"""Every sampler keeps the contract, and a wrong one of each kind is caught with a sentence that says why."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from lightning_diffal.neighbors.nearest import nearest_neighbors
from lightning_diffal.samplers import (
    BADGESampler,
    BALDSampler,
    CandidateSampler,
    CoreSetSampler,
    DiffusionSampler,
    DropQuerySampler,
    EntropySampler,
    LeastConfidenceSampler,
    MarginSampler,
    MaxHerdingSampler,
    ProbCoverSampler,
    Query,
    QuerySampler,
    RandomSampler,
    StochasticSampler,
    TypiClustSampler,
    UHerdingSampler,
    best_candidates,
    check_query_sampler,
)
from lightning_diffal.samplers.contract import PermutedGenerator
from lightning_diffal.utils.jsonable import stable_repr
from lightning_diffal.utils.seeding import isolated_random_state


@pytest.mark.parametrize(
    "sampler",
    [
        DiffusionSampler(),
        DiffusionSampler(network_margin=True),
        DiffusionSampler(n_neighbors=4, n_steps=7, metric="cosine", multilabel="max"),
        DiffusionSampler(criterion="paper"),
        DiffusionSampler(n_neighbors=4, n_steps=7, criterion="paper", metric="cosine", centrality=0, n_passes=3),
        DiffusionSampler(criterion="paper", backend=nearest_neighbors, n_passes=100),
        DiffusionSampler(n_neighbors=1, backend="exact"),
        RandomSampler(),
        LeastConfidenceSampler(),
        MarginSampler(),
        EntropySampler(),
        BALDSampler(),
        CoreSetSampler(),
        CoreSetSampler(metric="cosine"),
        TypiClustSampler(),
        TypiClustSampler(n_neighbors=1, max_clusters=2, metric="cosine"),
        ProbCoverSampler(),
        ProbCoverSampler(delta=0.5, max_covered=20, metric="cosine"),
        BADGESampler(),
        MaxHerdingSampler(),
        MaxHerdingSampler(0.7, metric="euclidean", max_covered=25),
        UHerdingSampler(),
        UHerdingSampler(metric="euclidean", temperature="held-out"),
        UHerdingSampler(0.5, temperature=2.0),
        DropQuerySampler(),
        DropQuerySampler(0.2, 1, metric="cosine"),
        CandidateSampler(),
        CandidateSampler(DiffusionSampler(), MarginSampler(), n_candidates=12),
        CandidateSampler(MarginSampler(), CoreSetSampler(), n_candidates=1),
        CandidateSampler(BALDSampler(), ProbCoverSampler()),
        StochasticSampler(),
        StochasticSampler(BALDSampler(), mode="softmax"),
        StochasticSampler(DiffusionSampler(), mode="softrank", temperature=0.1),
    ],
    ids=stable_repr,
)
def test_every_sampler_keeps_the_contract(sampler):
    check_query_sampler(sampler)


class Right(QuerySampler):
    """Right as it stands; each wrong sampler below spoils one thing."""

    requires = frozenset({"features", "probabilities"})

    def select(self, data, query_size, generator):
        scores = data.features[:, 0]
        chosen = best_candidates(scores, data.candidates, query_size, generator)
        return Query(chosen, scores[chosen])


class NotAQuery(Right):
    def select(self, data, query_size, generator):
        return super().select(data, query_size, generator).indices


class PositionsInThePool(Right):
    def select(self, data, query_size, generator):
        scores = data.features[data.candidates, 0]
        chosen = best_candidates(scores, np.arange(len(scores)), query_size, generator)
        return Query(chosen, scores[chosen])


class AsksTwice(Right):
    def select(self, data, query_size, generator):
        query = super().select(data, query_size, generator)
        indices = query.indices.copy()
        indices[1:2] = indices[:1]
        return Query(indices, query.scores)


class AsksTooMany(Right):
    def select(self, data, query_size, generator):
        return super().select(data, query_size + 1, generator)


class AsksTooFew(Right):
    def select(self, data, query_size, generator):
        return super().select(data, max(1, query_size - 1), generator)


class AsksPending(Right):
    def select(self, data, query_size, generator):
        everyone = np.setdiff1d(np.arange(data.num_points), data.labelled)
        size = min(query_size, len(data.candidates))
        chosen = best_candidates(data.features[:, 0], everyone, size, generator)
        return Query(chosen, data.features[chosen, 0])


class ScoresNotFinite(Right):
    def select(self, data, query_size, generator):
        query = super().select(data, query_size, generator)
        return Query(query.indices, np.full(len(query), np.nan))


class OwnGenerator(Right):
    def select(self, data, query_size, generator):
        size = min(query_size, len(data.candidates))
        chosen = np.random.default_rng().permutation(data.candidates)[:size]
        return Query(chosen, np.zeros(size))


class GlobalNumpy(Right):
    def select(self, data, query_size, generator):
        np.random.random()  # moves a place among the keys, and the keys themselves once in 312 times
        return super().select(data, query_size, generator)


class GlobalTorch(Right):
    def select(self, data, query_size, generator):
        torch.rand(1)
        return super().select(data, query_size, generator)


class GlobalPython(Right):
    def select(self, data, query_size, generator):
        random.random()
        return super().select(data, query_size, generator)


class WritesIntoFeatures(Right):
    def select(self, data, query_size, generator):
        query = super().select(data, query_size, generator)
        data.features.base[0, 0] += 1
        return query


class Remembers(Right):
    """Keeps the first features that it saw of each shape: a resumed run would ask other points."""

    seen = None

    def select(self, data, query_size, generator):
        self.seen = self.seen or {}
        features = self.seen.setdefault((data.features.shape, len(data.labelled)), data.features.copy())
        chosen = best_candidates(features[:, 0], data.candidates, query_size, generator)
        return Query(chosen, features[chosen, 0])


class CountsRounds(Right):
    rounds = 0

    def select(self, data, query_size, generator):
        self.rounds += 1
        scores = data.features[:, self.rounds % data.features.shape[1]]
        chosen = best_candidates(scores, data.candidates, query_size, generator)
        return Query(chosen, scores[chosen])


class FirstOnes(Right):
    def select(self, data, query_size, generator):
        chosen = np.sort(data.candidates)[:query_size]
        return Query(chosen, np.zeros(len(chosen)))


class TiesByIndex(Right):
    def select(self, data, query_size, generator):
        scores = np.round(data.features[:, 0])
        order = np.argsort(-scores[data.candidates], kind="stable")[:query_size]
        return Query(data.candidates[order], scores[data.candidates[order]])


class ReliesOnAPrefix(Right):
    """Takes the first rows for the labelled ones."""

    def select(self, data, query_size, generator):
        known = data.features[: len(data.labelled)].mean(axis=0) if len(data.labelled) else 0
        scores = np.linalg.norm(data.features - known, axis=1)
        chosen = best_candidates(scores, data.candidates, query_size, generator)
        return Query(chosen, scores[chosen])


class UndeclaredStochastic(Right):
    def select(self, data, query_size, generator):
        size = min(query_size, len(data.candidates))
        return Query(generator.choice(data.candidates, size, replace=False), np.zeros(size))


class UnknownRequirement(Right):
    requires = frozenset({"gradients"})


class RequirementsAsAString(Right):
    requires = "features"


def test_the_right_one_passes():
    check_query_sampler(Right())


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (NotAQuery, "NotAQuery.select returned ndarray and not a Query"),
        (PositionsInThePool, "which are not candidates .*positions in the full data set, not in the pool"),
        (AsksTwice, "AsksTwice chose a point twice"),
        (AsksTooMany, "AsksTooMany chose 2 points where 1 were due"),
        (AsksTooFew, "AsksTooFew chose 6 points where 7 were due"),
        (AsksPending, r"AsksPending chose .* which are not candidates \(pending points\)"),
        (ScoresNotFinite, "ScoresNotFinite gave scores that are not finite"),
        (OwnGenerator, "OwnGenerator answered differently to the same data and seed"),
        (GlobalNumpy, "GlobalNumpy changed the global random state"),
        (GlobalTorch, "GlobalTorch changed the global random state"),
        (GlobalPython, "GlobalPython changed the global random state"),
        (WritesIntoFeatures, "WritesIntoFeatures changed `data.features`"),
        (Remembers, "Remembers remembered something of an earlier round"),
        (CountsRounds, "CountsRounds answered differently to the same data and seed"),
        (FirstOnes, "FirstOnes depends on the order of the data set"),
        (TiesByIndex, "TiesByIndex depends on the order of the data set"),
        (ReliesOnAPrefix, "ReliesOnAPrefix depends on the order of the data set"),
        (UndeclaredStochastic, "UndeclaredStochastic depends on the order of the data set"),
        (UnknownRequirement, r"UnknownRequirement.requires names \['gradients'\]; a loop offers"),
        (RequirementsAsAString, "RequirementsAsAString.requires is not a frozenset of names: 'features'"),
    ],
)
def test_wrong_samplers_are_caught(sampler, message):
    with pytest.raises(AssertionError, match=message):
        check_query_sampler(sampler())


def test_a_draw_that_moves_no_key_of_numpy_is_noticed():
    with isolated_random_state(0), pytest.raises(AssertionError, match="changed the global random state"):
        np.random.random()
        check_query_sampler(GlobalNumpy())


def test_declared_stochastic_samplers_may_depend_on_order():
    check_query_sampler(type("Declared", (UndeclaredStochastic,), {"stochastic": True})())


def test_permuted_generator_permutes_per_point_draws_only():
    permutation = np.array([2, 0, 1])
    plain, permuted = np.random.default_rng(3), PermutedGenerator(3, permutation)
    np.testing.assert_array_equal(permuted.random(3), plain.random(3)[permutation])
    np.testing.assert_array_equal(permuted.random((3, 2)), plain.random((3, 2))[permutation])
    np.testing.assert_array_equal(permuted.random(5), plain.random(5))
    assert permuted.random() == plain.random()


class WrongWhereItWants(Right):
    """Right with what it requires, wrong with the probabilities that it is shown besides."""

    requires = frozenset({"features"})

    def wants(self, query_size):
        return self.requires | ({"probabilities"} if query_size > 30 else frozenset())

    def select(self, data, query_size, generator):
        if data.probabilities is None:
            return super().select(data, query_size, generator)
        return FirstOnes().select(data, query_size, generator)


class WantsLess(Right):
    def wants(self, query_size):
        return frozenset({"features"})


class WantsUnknown(Right):
    def wants(self, query_size):
        return self.requires | {"gradients"}


class WantsAList(Right):
    def wants(self, query_size):
        return ["features", "probabilities"]


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (WrongWhereItWants, "WrongWhereItWants depends on the order of the data set"),
        (WantsLess, r"WantsLess.wants leaves out \['probabilities'\]"),
        (WantsUnknown, r"WantsUnknown.wants names \['gradients'\]"),
        (WantsAList, "WantsAList.wants gave .* and not a frozenset"),
    ],
)
def test_what_a_sampler_wants_is_checked_too(sampler, message):
    with pytest.raises(AssertionError, match=message):
        check_query_sampler(sampler())
