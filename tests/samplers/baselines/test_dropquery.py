"""DropQuery: the recovered head, the changes against a naive transcription, the spread of the picks."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers import DropQuerySampler, QueryData
from lightning_diffal.samplers.baselines.dropquery import count_changes
from lightning_diffal.samplers.baselines.kmeans import nearest_to_means
from lightning_diffal.samplers.baselines.linear_head import LinearHead, fit_linear_head, logits_of
from lightning_diffal.samplers.contract import PermutedGenerator


def make_head(d=8, c=3, seed=0, multilabel=False):
    generator = np.random.default_rng(seed)
    weights = generator.normal(size=(d, c)).astype(np.float32)
    return LinearHead(weights, generator.normal(size=c).astype(np.float32), multilabel)


def points(n=300, d=8, seed=1):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


class TestHead:
    @pytest.mark.parametrize("multilabel", [False, True])
    @pytest.mark.parametrize(("n", "d"), [(300, 8), (5000, 30), (60, 100)])
    def test_recovered(self, multilabel, n, d):
        x, head = points(n, d), make_head(d, multilabel=multilabel)
        head = head._replace(weights=head.weights / np.float32(np.sqrt(d)))
        found = fit_linear_head(x, head.probabilities(x), multilabel=multilabel)
        assert not found.disagrees(x, x).any()
        np.testing.assert_allclose(found.probabilities(x), head.probabilities(x), atol=1e-3)
        if d < n:
            other = points(50, d, 9)
            np.testing.assert_allclose(found.probabilities(other), head.probabilities(other), atol=1e-3)

    def test_saturated_probabilities(self):
        x, head = points(2000), make_head()
        head = head._replace(weights=20 * head.weights)
        p = head.probabilities(x)
        assert (p.max(axis=1) == 1).mean() > 0.5
        found = fit_linear_head(x, p)
        assert (found.logits(x).argmax(axis=1) == p.argmax(axis=1)).mean() > 0.98

    @pytest.mark.parametrize("multilabel", [False, True])
    def test_logits_give_the_probabilities(self, multilabel):
        head = make_head(multilabel=multilabel)
        p = head.probabilities(points(50))
        logits = logits_of(p, multilabel=multilabel)
        again = 1 / (1 + np.exp(-logits)) if multilabel else np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(again, p, atol=1e-5)


def test_changes_are_those_of_dropout():
    x, head = points(200), make_head()
    counts = count_changes(x, head, 0.75, 3, np.random.default_rng(4))
    generator, expected = np.random.default_rng(4), np.zeros(200, int)
    for _ in range(3):
        kept = generator.random((200, 8), dtype=np.float32) >= 0.75
        dropped = (x * kept / 0.25) @ head.weights + head.constants
        expected += dropped.argmax(axis=1) != (x @ head.weights + head.constants).argmax(axis=1)
    assert counts.tolist() == expected.tolist() and 0 < expected.mean() < 3


def test_asks_changed_points_only_and_one_a_cluster():
    """Four places, two of them near the border of the classes; far points do not change."""
    generator = np.random.default_rng(0)
    place = np.arange(200) % 4
    centres = np.array([[4, 3.5, 0, 0], [0, 0, 4, 3.5], [9, -9, 9, -9], [-9, 9, -9, 9]], float)
    features = (centres[place] + generator.normal(scale=0.1, size=(200, 4))).astype(np.float32)
    head = LinearHead(np.float32([[1, -1], [-1, 1], [1, -1], [-1, 1]]), np.zeros(2, np.float32), False)
    data = QueryData(features=features, probabilities=head.probabilities(features))
    query = DropQuerySampler(0.5).select(data, 2, np.random.default_rng(0))
    assert set(place[query.indices].tolist()) == {0, 1}
    assert (query.scores > 0.5).all() and 0 < query.summary["changed"] < 0.6
    assert query.summary["head_agreement"] == 1


def test_agrees_with_scikit_activeml_on_what_changes():
    """Its dropout is drawn otherwise, so the comparison is of what both ask, and not point by point."""
    pool = pytest.importorskip("skactiveml.pool")
    from lightning_diffal.samplers.baselines.skactiveml_model import trained_model

    generator = np.random.default_rng(0)
    place = np.arange(300) % 6
    centres = np.array([[4, 3.5, 0, 0], [0, 0, 4, 3.5], [4, 0, 0, 3.5], *(3 * np.array([[1, -1, 1, -1]] * 3))], float)
    centres[3:] *= np.array([1, 1.5, 2])[:, None]
    features = (centres[place] + generator.normal(scale=0.05, size=(300, 4))).astype(np.float32)
    head = LinearHead(np.float32([[1, -1], [-1, 1], [1, -1], [-1, 1]]), np.float32([0.01, -0.01]), False)
    p = head.probabilities(features)
    theirs = pool.DropQuery(dropout_rate=0.5, n_dropout_samples=3, random_state=0).query(
        features.astype(float), np.full(300, np.nan), trained_model(features, p, head), fit_clf=False, batch_size=3
    )
    ours = DropQuerySampler(0.5).select(QueryData(features=features, probabilities=p), 3, np.random.default_rng(0))
    assert set(place[ours.indices].tolist()) == set(place[theirs].tolist()) == {0, 1, 2}


def test_others_follow_where_too_few_change():
    x = points(40)
    head = LinearHead(np.zeros((8, 2), np.float32), np.float32([5, -5]), False)  # sure, whatever it sees
    data = QueryData(features=x, probabilities=head.probabilities(x), labelled=[3], labels=[0])
    query = DropQuerySampler().select(data, 9, np.random.default_rng(0))
    assert len(set(query.indices.tolist())) == 9 and (query.scores == 0).all() and query.summary["changed"] == 0
    assert query.indices.tolist() != DropQuerySampler().select(data, 9, np.random.default_rng(1)).indices.tolist()


def test_says_where_the_head_is_not_the_models():
    x = points(400, 4)
    rings = (np.linalg.norm(x, axis=1) > 1.8).astype(int)
    p = np.float32([[0.9, 0.1], [0.1, 0.9]])[rings]
    query = DropQuerySampler().select(QueryData(features=x, probabilities=p), 5, np.random.default_rng(0))
    assert query.summary["head_agreement"] < 0.8


def test_permuting_the_data_permutes_the_picks():
    x, head = points(120), make_head()
    data = QueryData(features=x, probabilities=head.probabilities(x), labelled=[5], labels=[0])
    order = np.random.default_rng(2).permutation(120)
    position = np.argsort(order)
    moved = QueryData(features=x[order], probabilities=head.probabilities(x)[order], labelled=position[[5]], labels=[0])
    one = DropQuerySampler().select(data, 8, np.random.default_rng(3))
    other = DropQuerySampler().select(moved, 8, PermutedGenerator(3, order))
    assert position[one.indices].tolist() == other.indices.tolist()


def test_multilabel():
    x, head = points(100), make_head(multilabel=True)
    data = QueryData(features=x, probabilities=head.probabilities(x), labelled=[5], labels=[[0, 1, 1]])
    query = DropQuerySampler().select(data, 8, np.random.default_rng(3))
    assert len(query) == 8 and query.summary["head_agreement"] > 0.98


def test_nearest_to_means_comes_from_the_largest_cluster_first():
    x = np.float32([[0], [10], [11], [12], [30], [31]])
    assert nearest_to_means(x, np.array([0, 1, 1, 1, 2, 2])).tolist() == [2, 4, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 1.0}, "`rate` to be a number between 0 and 1, but got 1.0"),
        ({"rate": True}, "`rate` to be a number between 0 and 1, but got True"),
        ({"n_drops": 0}, "`n_drops` to be an integer of at least 1, but got 0"),
        ({"metric": "l1"}, "`metric` to be one of"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        DropQuerySampler(**arguments)
