"""MaxHerding against a naive transcription that holds all pairs, and against scikit-activeml."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers import MaxHerdingSampler, QueryData, kernels
from lightning_diffal.samplers.baselines.coverage import greedy_coverage
from lightning_diffal.samplers.kernels import gaussian_gains, gaussian_rows

LABELLED, PENDING = [101, 4], [60]


def points(n=120, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def naive_herding(features, weights, width, held, candidates, size):
    """All pairs, no laziness; returns picks, gains and the coverage with them."""
    z = features.astype(float)
    kernel = np.exp(-((z[:, None] - z[None]) ** 2).sum(axis=2) / width**2)
    covered = kernel[held].max(axis=0) if len(held) else np.zeros(len(z))
    chosen, gains = [], []
    for _ in range(size):
        gain = {i: weights @ np.maximum(kernel[i] - covered, 0) for i in candidates if i not in chosen}
        best = max(gain, key=gain.get)
        chosen.append(best)
        gains.append(gain[best])
        covered = np.maximum(covered, kernel[best])
    return chosen, np.array(gains), float(weights @ covered / weights.sum())


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("width", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("labelled", "pending"), [([], []), (LABELLED, PENDING)], ids=["cold", "held"])
def test_equals_naive_transcription(metric, width, labelled, pending):
    features = points() + np.float32(50 if metric == "euclidean" else 0)
    held = labelled + pending
    candidates = np.setdiff1d(np.arange(120), held)[::-2]
    data = QueryData(
        features=features, labelled=labelled, labels=[0] * len(labelled), pending=pending, candidates=candidates
    )
    query = MaxHerdingSampler(width, metric=metric).select(data, 15, np.random.default_rng(3))
    seen = unit(features) if metric == "cosine" else features
    chosen, gains, covered = naive_herding(seen, np.ones(120), width, held, candidates.tolist(), 15)
    assert query.indices.tolist() == chosen
    np.testing.assert_allclose(query.scores, gains / 120, rtol=1e-3, atol=1e-6)
    assert query.summary["covered"] == pytest.approx(covered, abs=1e-4)
    assert query.summary["width"] == pytest.approx(width)


def test_agrees_with_scikit_activeml():
    pool = pytest.importorskip("skactiveml.pool")
    features = points(150, 6)
    labels = np.full(150, np.nan)
    labels[[140, 9, 77]] = [0, 1, 1]
    theirs = pool.MaxHerding(metric_dict={"gamma": 1.0}, random_state=0).query(
        features.astype(float), labels, batch_size=12
    )
    data = QueryData(features=features, labelled=[140, 9, 77], labels=[0, 1, 1])
    ours = MaxHerdingSampler().select(data, 12, np.random.default_rng(0))
    assert ours.indices.tolist() == theirs.tolist()


def test_blocks_change_nothing(monkeypatch):
    data = QueryData(features=points(400, 5), labelled=[399], labels=[0])
    whole = MaxHerdingSampler().select(data, 30, np.random.default_rng(0))
    monkeypatch.setattr(kernels, "_BLOCK_VALUES", 1000)
    parts = MaxHerdingSampler().select(data, 30, np.random.default_rng(0))
    assert whole.indices.tolist() == parts.indices.tolist()


def test_gains_never_rise_and_lazy_ones_are_those_of_the_pick():
    z = unit(points(500, 4))
    weights = np.random.default_rng(1).uniform(0, 1, 500).astype(np.float32)
    positions, gains = greedy_coverage(z, z, weights, np.zeros(500, np.float32), 0.4, 60)
    assert (np.diff(gains) <= 1e-5).all() and len(set(positions.tolist())) == 60
    covered = np.zeros(500, np.float32)
    for position, gain in zip(positions, gains, strict=True):
        assert gain == pytest.approx(gaussian_gains(z[[position]], z, weights, covered, 0.4)[0], rel=1e-3, abs=1e-5)
        covered = np.maximum(covered, gaussian_rows(z, z[position], 0.4))


def test_copies_are_asked_once_while_others_remain():
    features = np.repeat(points(12, 4), 5, axis=0)
    query = MaxHerdingSampler(0.05).select(QueryData(features=features), 12, np.random.default_rng(0))
    assert len(set((query.indices // 5).tolist())) == 12


def test_coverage_on_a_sample_is_close():
    data = QueryData(features=points(2000, 3))
    whole = MaxHerdingSampler().select(data, 8, np.random.default_rng(0))
    sample = MaxHerdingSampler(max_covered=500).select(data, 8, np.random.default_rng(0))
    z = unit(data.features)

    def covered(indices):
        return np.max([gaussian_rows(z, z[i], 1.0) for i in indices], axis=0).mean()

    assert covered(sample.indices) > 0.97 * covered(whole.indices)
    assert covered(whole.indices) == pytest.approx(whole.summary["covered"], abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "`width` to be a finite number above 0, but got 0"),
        ({"width": True}, "`width` to be a finite number above 0, but got True"),
        ({"width": np.inf}, "`width` to be a finite number above 0, but got inf"),
        ({"metric": "l1"}, "`metric` to be one of"),
        ({"max_covered": 0}, "`max_covered` to be an integer of at least 1, but got 0"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        MaxHerdingSampler(**arguments)


def test_needs_features():
    with pytest.raises(ConfigurationError, match="`data` to hold `features`, but got None"):
        MaxHerdingSampler().select(QueryData(num_points=4), 1, np.random.default_rng(0))
