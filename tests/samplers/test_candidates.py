"""Candidates: what the base may see, and what the query tells."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.samplers import (
    BADGESampler,
    BALDSampler,
    CandidateSampler,
    CoreSetSampler,
    DiffusionSampler,
    EntropySampler,
    MarginSampler,
    Query,
    QueryData,
    QuerySampler,
    RandomSampler,
)


def problem(n=90):
    generator = np.random.default_rng(0)
    return QueryData(
        features=generator.normal(size=(n, 4)),
        probabilities=generator.dirichlet(np.ones(3), size=n),
        labelled=[80, 5, 33],
        labels=[0, 1, 2],
        pending=[11],
        candidates=np.setdiff1d(np.arange(n), [80, 5, 33, 11, 0, 89]),
    )


class Spy(QuerySampler):
    def __init__(self):
        self.seen = []

    def select(self, data, query_size, generator):
        self.seen.append(data)
        chosen = np.sort(data.candidates)[::-1][:query_size]
        return Query(chosen, np.arange(len(chosen)), details={"margin": np.full(len(chosen), 7)}, summary={"own": 1.0})


@pytest.mark.parametrize(("n_candidates", "expected"), [(None, 30), (12, 12), (1, 3), (500, 84)])
def test_base_sees_the_weakest_only(n_candidates, expected):
    data, spy = problem(), Spy()
    query = CandidateSampler(DiffusionSampler(), spy, n_candidates=n_candidates).select(
        data, 3, np.random.default_rng(0)
    )
    weakest = DiffusionSampler().select(data, expected, np.random.default_rng(0))
    (seen,) = spy.seen
    np.testing.assert_array_equal(seen.candidates, weakest.indices)
    assert np.shares_memory(seen.features, data.features)
    np.testing.assert_array_equal(seen.labelled, data.labelled)
    np.testing.assert_array_equal(seen.pending, data.pending)
    assert query.indices.tolist() == sorted(weakest.indices.tolist())[::-1][:3]


def test_query_tells_why_both_chose():
    data = problem()
    query = CandidateSampler(DiffusionSampler(), Spy(), n_candidates=10).select(data, 4, np.random.default_rng(0))
    weakest = DiffusionSampler().select(data, 10, np.random.default_rng(0))
    place = [weakest.indices.tolist().index(i) for i in query.indices]
    np.testing.assert_array_equal(query.details["reach"], weakest.details["reach"][place])
    np.testing.assert_array_equal(query.details["prefilter_score"], weakest.scores[place])
    assert query.details["margin"].tolist() == [7] * 4  # the base's word goes
    assert query.scores.tolist() == [0, 1, 2, 3]
    share = weakest.summary["exploration_share"]
    assert query.summary["own"] == 1 and query.summary["prefilter_exploration_share"] == share


def test_requires_the_union():
    assert CandidateSampler().requires == {"features", "probabilities"}
    assert CandidateSampler(base=CoreSetSampler()).requires == {"features"}
    assert CandidateSampler(RandomSampler(), BALDSampler()).requires == {"mc_probabilities"}
    assert CandidateSampler().stochastic and not CandidateSampler(base=MarginSampler()).stochastic
    assert CandidateSampler(base=BALDSampler(7)).mc_passes == 7
    assert CandidateSampler(BALDSampler(5), CandidateSampler(base=BALDSampler(9))).mc_passes == 9
    assert repr(CandidateSampler(RandomSampler(), BADGESampler(), n_candidates=4)) == (
        "CandidateSampler(prefilter=RandomSampler(), base=BADGESampler(), n_candidates=4)"
    )


def test_all_candidates_are_the_base_alone():
    data = problem()
    query = CandidateSampler(MarginSampler(), EntropySampler(), n_candidates=90).select(
        data, 9, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(query.indices, EntropySampler().select(data, 9, np.random.default_rng(0)).indices)


def test_bad_input():
    with pytest.raises(InvalidTypeError, match="`base` to be a QuerySampler, but got <class"):
        CandidateSampler(base=BADGESampler)
    with pytest.raises(InvalidTypeError, match="`prefilter` to be a QuerySampler, but got 3"):
        CandidateSampler(3)
    with pytest.raises(ConfigurationError, match="`n_candidates` to be an integer of at least 1 or None, but got 0"):
        CandidateSampler(n_candidates=0)
