"""Uncertainty Herding against a naive transcription, in its two limits, and its calibration."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers import MarginSampler, MaxHerdingSampler, QueryData, UHerdingSampler
from lightning_diffal.samplers.baselines.calibration import (
    calibration_error,
    fit_logistic,
    held_out_temperature,
    tempered,
)
from lightning_diffal.samplers.baselines.uherding import smallest_gap
from tests.samplers.baselines.test_maxherding import naive_herding, points, unit


def make(n=120, labelled=(101, 4, 33), pending=(60,), seed=0, **fields):
    generator = np.random.default_rng(seed)
    given = {
        "features": points(n, 3, seed),
        "probabilities": generator.dirichlet(np.ones(3), n).astype(np.float32),
        "labelled": list(labelled),
        "labels": np.arange(len(labelled)) % 3,
        "pending": list(pending),
        "num_classes": 3,
    }
    return QueryData(**{**given, **fields})


def doubt(probabilities):
    ordered = np.sort(probabilities.astype(float), axis=1)
    return 1 - (ordered[:, -1] - ordered[:, -2])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_equals_naive_transcription(temperature):
    data = make(candidates=np.setdiff1d(np.arange(0, 100, 2), [4, 60]))
    query = UHerdingSampler(temperature=temperature).select(data, 12, np.random.default_rng(3))
    z = unit(data.features)
    held = [101, 4, 33, 60]
    width = min(np.linalg.norm(z[i] - z[j]) for i in held for j in held if i != j)
    powers = data.probabilities.astype(float) ** (1 / temperature)
    weights = doubt(powers / powers.sum(axis=1, keepdims=True))
    chosen, gains, covered = naive_herding(z, weights, width, held, data.candidates.tolist(), 12)
    assert query.indices.tolist() == chosen
    np.testing.assert_allclose(query.scores, gains / weights.sum(), rtol=1e-3, atol=1e-6)
    assert query.summary["covered"] == pytest.approx(covered, abs=1e-4)
    assert query.summary["width"] == pytest.approx(width, rel=1e-4)
    assert query.summary["temperature"] == temperature


@pytest.mark.parametrize("sure", [np.full((120, 3), 1 / 3), np.eye(3)[np.arange(120) % 3]], ids=["even", "certain"])
def test_equal_doubts_are_maxherding(sure):
    data = make(probabilities=sure)
    ours = UHerdingSampler(width=1.0).select(data, 10, np.random.default_rng(0))
    assert ours.indices.tolist() == MaxHerdingSampler().select(data, 10, np.random.default_rng(0)).indices.tolist()


def test_many_labels_are_margin_sampling():
    """Two labels lie close together, so that a point covers itself alone."""
    features = points(120, 5)
    features[4] = features[101] + 1e-4
    data = make(features=features)
    ours = UHerdingSampler().select(data, 10, np.random.default_rng(0))
    assert ours.indices.tolist() == MarginSampler().select(data, 10, np.random.default_rng(0)).indices.tolist()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_single_place_of_labels_gives_the_first_width(metric):
    features = points(60) * 40
    features[[7, 9]] = features[5]
    data = make(60, labelled=[7, 9], pending=[5], features=features)
    width = UHerdingSampler(metric=metric).select(data, 3, np.random.default_rng(0)).summary["width"]
    assert width == 1 if metric == "cosine" else 30 < width < 90


def test_smallest_gap_leaves_copies_out():
    assert smallest_gap(np.float32([[1, 1], [1, 1], [4, 5], [1, 2]])) == 1
    assert smallest_gap(np.float32([[1, 1], [1, 1]])) is None and smallest_gap(np.empty((0, 2), np.float32)) is None


def test_multilabel_doubt_is_the_mean_over_labels():
    generator = np.random.default_rng(0)
    probabilities = generator.random((50, 4)).astype(np.float32)
    data = QueryData(
        features=points(50), probabilities=probabilities, labelled=[3, 8], labels=generator.integers(0, 2, (2, 4))
    )
    query = UHerdingSampler(width=1.0).select(data, 6, np.random.default_rng(0))
    weights = (1 - np.abs(2 * probabilities - 1)).mean(axis=1)
    candidates = data.candidates.tolist()
    assert query.indices.tolist() == naive_herding(unit(data.features), weights, 1.0, [3, 8], candidates, 6)[0]
    with pytest.raises(ConfigurationError, match=r"Write temperature=1\.0"):
        UHerdingSampler(temperature="held-out").select(data, 2, np.random.default_rng(0))


class TestCalibration:
    def test_temperature_one_changes_nothing(self):
        p = make().probabilities
        assert tempered(p, 1.0) is p
        np.testing.assert_allclose(tempered(tempered(p, 4.0), 0.25), p, atol=1e-5)

    def test_error_is_that_of_the_bins(self):
        generator = np.random.default_rng(0)
        p, y = generator.dirichlet(np.ones(4), 300).astype(np.float32), generator.integers(0, 4, 300)
        confidence, right = p.max(axis=1), p.argmax(axis=1) == y
        expected = 0.0
        for low in range(15):
            inside = (confidence >= low / 15) & (confidence < (low + 1) / 15)
            if inside.any():
                expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
        assert calibration_error(p, y) == pytest.approx(expected, abs=1e-6)

    def test_logistic_regression_is_that_of_scikit_learn(self):
        linear = pytest.importorskip("sklearn.linear_model")
        x, y = points(80, 4), np.random.default_rng(1).integers(0, 3, 80)
        ours = fit_logistic(x, y, 3)
        theirs = linear.LogisticRegression(C=10, tol=1e-8, max_iter=1000).fit(x, y)
        logits = np.hstack([x, np.ones((80, 1))]) @ ours
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(p, theirs.predict_proba(x), atol=2e-3)

    def test_noise_asks_for_a_temperature_above_one_and_clean_labels_do_not(self):
        x = points(200, 20)
        noisy = np.random.default_rng(1).integers(0, 3, 200)
        assert held_out_temperature(x, noisy, 3) > 1.5
        assert held_out_temperature(x[:, :2], (x[:, 0] > 0).astype(int), 2) <= 1

    def test_sampler_uses_it(self):
        data = make(200, labelled=np.arange(0, 120, 2), pending=())
        query = UHerdingSampler(temperature="held-out").select(data, 5, np.random.default_rng(0))
        assert query.summary["temperature"] > 1
        other = make(200, labelled=np.arange(0, 6, 2), pending=())
        assert (
            UHerdingSampler(temperature="held-out").select(other, 5, np.random.default_rng(0)).summary["temperature"]
            == 1
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "`width` to be a finite number above 0 or 'auto', but got 0"),
        ({"width": "none"}, "`width` to be a finite number above 0 or 'auto', but got 'none'"),
        ({"temperature": -1}, "`temperature` to be a finite number above 0 or 'held-out', but got -1"),
        ({"metric": "l1"}, "`metric` to be one of"),
        ({"max_covered": 1.5}, "`max_covered` to be an integer of at least 1, but got 1.5"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        UHerdingSampler(**arguments)


def test_refuses_logits():
    with pytest.raises(ConfigurationError, match="Are these logits"):
        UHerdingSampler().select(make(probabilities=np.full((120, 3), 4.0)), 2, np.random.default_rng(0))
