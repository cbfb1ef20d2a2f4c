"""Uncertainty scores against naive transcriptions of their papers."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers import EntropySampler, LeastConfidenceSampler, MarginSampler, QueryData, RandomSampler
from lightning_diffal.samplers.baselines.uncertainty import entropy, least_confidence, margin

SAMPLERS = [LeastConfidenceSampler, MarginSampler, EntropySampler]


def naive_least_confidence(row):
    return 1 - max(row)


def naive_margin(row):
    first, second = sorted(row, reverse=True)[:2]
    return 1 - (first - second)


def naive_entropy(row):
    return -sum(p * math.log(p) for p in row if p > 0)


NAIVE = {LeastConfidenceSampler: naive_least_confidence, MarginSampler: naive_margin, EntropySampler: naive_entropy}


def random_probabilities(n=50, c=4, seed=0):
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(c), size=n).astype(np.float32)
    probabilities[3] = np.eye(c)[0]
    probabilities[4] = 1 / c
    return probabilities


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("num_classes", [2, 4])
def test_equals_naive_transcription(sampler, num_classes):
    probabilities = random_probabilities(c=num_classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        query = sampler().select(QueryData(probabilities=probabilities), 50, np.random.default_rng(0))
    expected = np.array([NAIVE[sampler](row) for row in probabilities.astype(float).tolist()])
    np.testing.assert_allclose(query.scores, expected[query.indices], atol=1e-6)
    assert (np.diff(query.scores) <= 0).all()
    assert query.indices[0] == 4
    assert query.indices[-1] == 3
    assert query.scores[-1] == 0


def test_two_classes_agree_on_the_order():
    probabilities = random_probabilities(c=2)
    orders = [np.argsort(score(probabilities)[5:]) for score in (least_confidence, margin, entropy)]
    np.testing.assert_array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_multilabel_is_the_mean_over_labels(sampler):
    probabilities = np.random.default_rng(0).random((30, 3)).astype(np.float32)
    data = QueryData(probabilities=probabilities, labelled=[4], labels=[[1, 0, 1]])
    query = sampler().select(data, 29, np.random.default_rng(0))
    expected = [np.mean([NAIVE[sampler]([p, 1 - p]) for p in row]) for row in probabilities.astype(float)]
    np.testing.assert_allclose(query.scores, np.array(expected)[query.indices], atol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_ties_are_broken_by_keys(sampler):
    data = QueryData(probabilities=np.full((100, 2), 0.5))
    first, second = (sampler().select(data, 10, np.random.default_rng(seed)).indices for seed in (0, 1))
    assert set(first) != set(second)
    assert first.max() > 10


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (None, "Expected argument `data` to hold `probabilities`, but got None"),
        (np.ones((4, 1)), r"at least two classes, but got shape \(4, 1\)"),
        (np.array([[2.0, -1.0]] * 4), "between 0 and 1, but got values from -1 to 2. Are these logits?"),
        (np.array([[0.5, 0.5]] * 3 + [[0.2, 0.2]]), "to sum to 1, but row 3 sums to 0.4"),
    ],
)
def test_what_are_no_probabilities(sampler, probabilities, message):
    data = QueryData(probabilities=probabilities, num_points=4)
    with pytest.raises(ConfigurationError, match=message):
        sampler().select(data, 1, np.random.default_rng(0))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_half_precision_passes(sampler):
    probabilities = random_probabilities(c=10).astype(np.float16)
    assert len(sampler().select(QueryData(probabilities=probabilities), 5, np.random.default_rng(0))) == 5


@pytest.mark.parametrize("sampler", [*SAMPLERS, RandomSampler])
def test_repr(sampler):
    assert repr(sampler()) == f"{sampler.__name__}()"


def test_random_choice_is_even():
    data = QueryData(num_points=20, labelled=[0, 7], labels=[0, 1])
    generator = np.random.default_rng(0)
    counts = np.zeros(20)
    for _ in range(2000):
        counts[RandomSampler().select(data, 3, generator).indices] += 1
    assert counts[[0, 7]].sum() == 0
    np.testing.assert_allclose(np.delete(counts, [0, 7]) / 2000, 3 / 18, atol=0.04)
