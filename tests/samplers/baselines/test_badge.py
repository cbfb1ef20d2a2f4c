"""BADGE against a naive transcription that forms the gradients, from the formula and from autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers import BADGESampler, QueryData
from lightning_diffal.samplers.baselines.badge import gradient_factors, squared_gradient_distances


def problem(n=60, c=4, d=5, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(n, d)).astype(np.float32)
    probabilities = generator.dirichlet(np.ones(c), size=n).astype(np.float32)
    return features, probabilities


def embeddings_by_autograd(features, probabilities):
    """The gradient of the cross entropy with the guessed label, with respect to the last layer's weights."""
    rows = []
    for h, p in zip(torch.from_numpy(features).double(), torch.from_numpy(probabilities).double(), strict=True):
        weights = torch.zeros(len(p), len(h), dtype=torch.float64, requires_grad=True)
        loss = torch.nn.functional.cross_entropy((p.log() + weights @ h)[None], p.argmax()[None])
        rows.append(torch.autograd.grad(loss, weights)[0].reshape(-1).numpy())
    return np.array(rows)


def naive_badge(embeddings, candidates, size, generator):
    order = candidates[np.argsort(generator.random(len(embeddings))[candidates])]
    x = embeddings[order]
    chosen = [int((x**2).sum(1).argmax())]
    scores = [np.linalg.norm(x[chosen[0]])]
    while len(chosen) < size:
        nearest = ((x[:, None] - x[chosen][None]) ** 2).sum(2).min(1)
        cumulated = np.cumsum(nearest)
        chosen.append(int(np.searchsorted(cumulated, generator.random() * cumulated[-1], side="right")))
        scores.append(np.sqrt(nearest[chosen[-1]]))
    return order[chosen], scores


@pytest.mark.parametrize("classes", [2, 4])
def test_equals_naive_transcription(classes):
    features, probabilities = problem(c=classes)
    data = QueryData(features=features, probabilities=probabilities, labelled=[50, 3], labels=[0, 1], pending=[7])
    embeddings = embeddings_by_autograd(features, probabilities)
    for seed in range(5):
        query = BADGESampler().select(data, 20, np.random.default_rng(seed))
        chosen, scores = naive_badge(embeddings, data.candidates, 20, np.random.default_rng(seed))
        np.testing.assert_array_equal(query.indices, chosen)
        np.testing.assert_allclose(query.scores, scores, rtol=1e-4)


def test_factorised_distances():
    features, probabilities = problem()
    gradients = gradient_factors(probabilities)
    outer = (gradients[:, :, None].astype(float) * features[:, None]).reshape(60, -1)
    for centre in (0, 59):
        expected = ((outer - outer[centre]) ** 2).sum(1)
        np.testing.assert_allclose(
            squared_gradient_distances(gradients, features, centre), expected, rtol=1e-4, atol=1e-6
        )


def test_copies_are_at_distance_zero_and_drawn_last():
    features, probabilities = (np.concatenate([part] * 3) + np.float32(0) for part in problem(20))
    assert (squared_gradient_distances(gradient_factors(probabilities), features, 4)[[4, 24, 44]] == 0).all()
    data = QueryData(features=100 + features, probabilities=probabilities)
    query = BADGESampler().select(data, 60, np.random.default_rng(0))
    assert sorted(query.indices[:20] % 20) == list(range(20)) and (query.scores[20:] == 0).all()


def test_draws_follow_squared_distances():
    data = QueryData(features=[[4.0], [1.0], [2.0]], probabilities=[[0.5, 0.5]] * 3)
    seconds = [int(BADGESampler().select(data, 2, np.random.default_rng(s)).indices[1]) for s in range(2000)]
    np.testing.assert_allclose(np.bincount(seconds, minlength=3) / 2000, [0, 9 / 13, 4 / 13], atol=0.04)


def test_sure_points_are_drawn_last():
    features, probabilities = problem()
    probabilities[10:] = np.eye(4)[0]
    query = BADGESampler().select(
        QueryData(features=features, probabilities=probabilities), 12, np.random.default_rng(0)
    )
    assert set(range(10)) <= set(query.indices[:11])  # all sure ones coincide, at the origin: one draw


def test_multilabel_factors():
    probabilities = np.float32([[0.9, 0.2, 0.5]])
    np.testing.assert_allclose(gradient_factors(probabilities, multilabel=True), [[-0.1, 0.2, 0.5]], atol=1e-6)
    features, _ = problem(30)
    labels = np.random.default_rng(0).integers(0, 2, (4, 3))
    data = QueryData(
        features=features, probabilities=np.random.default_rng(1).random((30, 3)), labelled=[1, 9, 4, 20], labels=labels
    )
    assert len(BADGESampler().select(data, 26, np.random.default_rng(0))) == 26


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_magnitudes_do_not_overflow(scale):
    features, probabilities = problem()
    data = [QueryData(features=features * np.float32(s), probabilities=probabilities) for s in (1, scale)]
    plain, scaled = (BADGESampler().select(d, 20, np.random.default_rng(0)) for d in data)
    np.testing.assert_array_equal(plain.indices, scaled.indices)


def test_bad_input():
    features, probabilities = problem()
    for fields, name in (({"features": features}, "probabilities"), ({"probabilities": probabilities}, "features")):
        with pytest.raises(ConfigurationError, match=f"`data` to hold `{name}`, but got None"):
            BADGESampler().select(QueryData(**fields), 2, np.random.default_rng(0))
