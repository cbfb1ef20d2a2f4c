"""Every sampler: made without arguments, on degenerate data, in bounded memory, and through a real Trainer."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning, samplers
from lightning_diffal.samplers import (
    BADGESampler,
    BALDSampler,
    CandidateSampler,
    CoreSetSampler,
    DropQuerySampler,
    MaxHerdingSampler,
    ProbCoverSampler,
    QueryData,
    QuerySampler,
    StochasticSampler,
    TypiClustSampler,
    UHerdingSampler,
)
from tests.helpers import TRAIN, VAL, Net, quiet_trainer

SAMPLERS = sorted(
    (
        value
        for name, value in vars(samplers).items()
        if isinstance(value, type) and issubclass(value, QuerySampler) and name not in ("QuerySampler", "ScoreSampler")
    ),
    key=lambda sampler: sampler.__name__,
)
NEW = [
    BADGESampler(),
    BALDSampler(),
    CandidateSampler(),
    CoreSetSampler(),
    DropQuerySampler(),
    MaxHerdingSampler(),
    MaxHerdingSampler(metric="euclidean"),
    ProbCoverSampler(),
    StochasticSampler(),
    TypiClustSampler(),
    UHerdingSampler(),
    UHerdingSampler(metric="euclidean", temperature="held-out"),
]


def make_data(n, d=6, c=3, seed=0, features=None, **fields):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(c), size=n).astype(np.float32)
    entropies = generator.uniform(0, 0.5, size=(n, 1)).astype(np.float32)
    return QueryData(
        features=generator.normal(size=(n, d)).astype(np.float32) if features is None else features,
        probabilities=probabilities,
        mc_probabilities=np.hstack([probabilities, entropies]),
        **{"num_classes": c, **fields},
    )


def check(sampler, data, size):
    query = sampler.select(data, size, np.random.default_rng(0))
    assert len(query) == len(np.unique(query.indices)) == min(size, len(data.candidates))
    assert np.isin(query.indices, data.candidates).all() and np.isfinite(query.scores).all()
    return query


def test_all_are_there():
    assert len(SAMPLERS) == 16


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_made_without_arguments(sampler):
    made = sampler()
    assert repr(made).startswith(f"{sampler.__name__}(") and made.mc_passes > 1
    assert len(check(made, make_data(50, labelled=[40, 2], labels=[0, 1]), 7)) == 7


@pytest.mark.parametrize("sampler", NEW, ids=repr)
class TestDegenerate:
    @pytest.mark.parametrize("labelled", [[], [9], [3, 17, 8]])
    def test_all_points_equal(self, sampler, labelled):
        data = make_data(30, features=np.full((30, 2), 1e6), labelled=labelled, labels=[0] * len(labelled))
        check(sampler, data, 12)

    def test_one_candidate(self, sampler):
        data = make_data(30, labelled=[4], labels=[2], candidates=[21])
        assert check(sampler, data, 5).indices.tolist() == [21]

    def test_whole_pool(self, sampler):
        check(sampler, make_data(40, labelled=[4, 39], labels=[2, 2]), 38)

    def test_one_class(self, sampler):
        check(sampler, make_data(40, labelled=[4, 39], labels=[0, 0], num_classes=3), 5)

    def test_classes_unknown(self, sampler):
        check(sampler, make_data(40, num_classes=0), 5)

    def test_two_points_and_none_left(self, sampler):
        check(sampler, make_data(2, labelled=[1], labels=[0]), 4)
        check(sampler, make_data(2, labelled=[1, 0], labels=[0, 1]), 4)

    def test_everything_pending_but_one(self, sampler):
        check(sampler, make_data(30, labelled=[7], labels=[0], pending=np.delete(np.arange(30), [7, 22])), 3)

    def test_far_outlier_and_tiny_spread(self, sampler):
        features = np.random.default_rng(0).normal(size=(60, 3)) * 1e-6
        features[30] = 1e9
        check(sampler, make_data(60, features=features, labelled=[2], labels=[0]), 30)

    def test_features_of_zeros(self, sampler):
        check(sampler, make_data(20, features=np.zeros((20, 4)), labelled=[2], labels=[0]), 9)


@pytest.mark.parametrize(
    "sampler",
    [
        CoreSetSampler(),
        TypiClustSampler(),
        ProbCoverSampler(),
        BADGESampler(),
        BALDSampler(),
        StochasticSampler(),
        MaxHerdingSampler(),
        UHerdingSampler(),
        DropQuerySampler(),
    ],
    ids=repr,
)
def test_memory_is_bounded(sampler):
    """20,000 points of 16 features and 50 classes: N x N flags are 381 MiB, N x C x D is 61 MiB."""
    n = 20_000
    data = make_data(n, 16, 50, labelled=np.arange(0, n, 100), labels=np.arange(200) % 50)
    tracemalloc.start()
    try:
        check(sampler, data, 30)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    limit = 100 if "features" in sampler.requires and "probabilities" not in sampler.requires else 40
    assert peak < limit, f"{peak:.0f} MiB"


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("start", [[90, 3, 41, 63, 17, 119], 0], ids=["labelled", "cold"])
def test_two_rounds_through_a_trainer(sampler, start):
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=start, batch_size=6, num_classes=3)
    active = ActiveLearning(sampler(), query_size=6, max_rounds=2, seed=1)
    before = torch.get_rng_state()
    quiet_trainer([active], max_epochs=1).fit(Net("none"), datamodule=data)
    assert not torch.equal(before, torch.get_rng_state())  # training draws
    first = 6 if start else 0
    assert [record.n_labelled for record in active.history] == [first, first + 6, first + 12]
    assert len(data.labelled_indices) == first + 12
