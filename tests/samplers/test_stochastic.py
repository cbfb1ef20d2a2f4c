"""Stochastic batches: their distributions, and the deterministic limit."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers import (
    CoreSetSampler,
    DiffusionSampler,
    EntropySampler,
    MarginSampler,
    Query,
    QueryData,
    ScoreSampler,
    StochasticSampler,
)
from lightning_diffal.samplers.stochastic import log_weights


class Given(ScoreSampler):
    requires = frozenset({"features"})

    def scores(self, data):
        return data.features[:, 0]


SCORES = np.array([0.5, 0.1, 2.0, 0.0, 1.0])


def naive_weights(mode, temperature):
    if mode == "softmax":
        return np.exp(SCORES / temperature)
    if mode == "power":
        return SCORES ** (1 / temperature)
    ranks = 1 + np.array([(s < SCORES).sum() for s in SCORES])
    return ranks ** (-1 / temperature)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("mode", ["power", "softmax", "softrank"])
def test_draws_by_weight_without_replacement(mode, temperature):
    data = QueryData(features=SCORES[:, None])
    sampler = StochasticSampler(Given(), mode, temperature)
    generator = np.random.default_rng(0)
    drawn = np.array([sampler.select(data, 2, generator).indices for _ in range(4000)])
    weights = naive_weights(mode, temperature)
    np.testing.assert_allclose(np.bincount(drawn[:, 0], minlength=5) / 4000, weights / weights.sum(), atol=0.03)
    second = drawn[drawn[:, 0] == 2, 1]
    weights[2] = 0
    np.testing.assert_allclose(np.bincount(second, minlength=5) / len(second), weights / weights.sum(), atol=0.06)


@pytest.mark.parametrize("mode", ["power", "softmax", "softrank"])
def test_cold_limit_takes_the_highest(mode):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), size=50)
    data = QueryData(probabilities=probabilities, labelled=[4, 30], labels=[0, 1])
    query = StochasticSampler(EntropySampler(), mode, 1e-6).select(data, 10, np.random.default_rng(0))
    expected = EntropySampler().select(data, 10, np.random.default_rng(0))
    np.testing.assert_array_equal(query.indices, expected.indices)
    np.testing.assert_array_equal(query.scores, expected.scores)


def test_scores_of_zero_come_last_in_power_mode():
    scores = np.zeros((30, 1))
    scores[:3] = 1e-6
    query = StochasticSampler(Given()).select(QueryData(features=scores), 20, np.random.default_rng(0))
    assert set(query.indices[:3]) == {0, 1, 2} and len(set(query.indices)) == 20


def test_equal_scores_are_drawn_evenly_by_rank():
    keys = np.random.default_rng(0).random(4)
    weights = log_weights(np.ones(4), "softrank", keys)
    np.testing.assert_array_equal(np.argsort(-weights), np.argsort(keys))


def test_around_diffusion():
    features = np.random.default_rng(0).normal(size=(100, 4))
    data = QueryData(features=features, labelled=[3, 60], labels=[0, 1], pending=[9])
    sampler = StochasticSampler(DiffusionSampler(), temperature=1e-9)
    assert sampler.requires == {"features"}
    query = sampler.select(data, 1, np.random.default_rng(0))
    expected = DiffusionSampler().select(data, 1, np.random.default_rng(0))
    np.testing.assert_array_equal(query.indices, expected.indices)
    np.testing.assert_allclose(query.scores, expected.scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base": CoreSetSampler()}, "`base` to be a ScoreSampler, .* but got CoreSetSampler"),
        ({"base": MarginSampler}, "`base` to be a ScoreSampler"),
        ({"mode": "top"}, "`mode` to be one of .* but got 'top'"),
        ({"temperature": 0}, "`temperature` to be a finite number above 0, but got 0"),
        ({"temperature": np.inf}, "`temperature` to be a finite number above 0, but got inf"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        StochasticSampler(**arguments)


def test_negative_scores():
    data = QueryData(features=[[-1.0], [2.0]])
    with pytest.raises(ConfigurationError, match="at least 0 for mode 'power', but got -1"):
        StochasticSampler(Given()).select(data, 1, np.random.default_rng(0))
    assert isinstance(StochasticSampler(Given(), "softrank").select(data, 1, np.random.default_rng(0)), Query)
