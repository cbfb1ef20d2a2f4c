"""Strategies of scikit-activeml as samplers: alone, against ours, and in a real loop."""

from __future__ import annotations

import copy
import sys

import numpy as np
import pytest

pool = pytest.importorskip("skactiveml.pool")

from sklearn.linear_model import LogisticRegression  # noqa: E402

from lightning_diffal import ActiveDataModule, ActiveLearning  # noqa: E402
from lightning_diffal.comparison.specs import SAMPLERS, parse_sampler, parse_samplers  # noqa: E402
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError  # noqa: E402
from lightning_diffal.samplers import (  # noqa: E402
    CoreSetSampler,
    MarginSampler,
    QueryData,
    SkactivemlSampler,
    check_query_sampler,
)
from lightning_diffal.utils.extras import MissingExtraError  # noqa: E402
from tests.helpers import TRAIN, VAL, Net, quiet_trainer  # noqa: E402


def make(n=80, **fields):
    generator = np.random.default_rng(0)
    given = {
        "features": generator.normal(size=(n, 4)).astype(np.float32),
        "probabilities": generator.dirichlet(np.ones(3), n).astype(np.float32),
        "labelled": [71, 3, 20, 45],
        "labels": [2, 0, 1, 0],
        "num_classes": 3,
    }
    return QueryData(**{**given, **fields})


def ask(sampler, data, size=6, seed=0):
    return sampler.select(data, size, np.random.default_rng(seed)).indices.tolist()


@pytest.mark.parametrize(
    "sampler",
    [
        SkactivemlSampler(),
        SkactivemlSampler(pool.UncertaintySampling("entropy")),
        SkactivemlSampler("RandomSampling"),
        SkactivemlSampler("CoreSet"),
        SkactivemlSampler("MaxHerding"),
        SkactivemlSampler("Badge"),
    ],
    ids=repr,
)
def test_keeps_the_contract(sampler):
    check_query_sampler(sampler)


@pytest.mark.parametrize("name", ["ContrastiveAL", "Clue", "Falcun", "DropQuery", "TypiClust", "GreedySamplingX"])
def test_runs_strategies_of_every_kind(name):
    data = make(pending=[7, 8], candidates=np.arange(9, 70, 2)[np.arange(9, 70, 2) != 45])
    chosen = ask(SkactivemlSampler(name), data)
    assert len(set(chosen)) == 6 and set(chosen) <= set(data.candidates.tolist())
    assert chosen == ask(SkactivemlSampler(name), data)


def test_reads_the_models_probabilities():
    sampler = SkactivemlSampler(pool.UncertaintySampling("margin_sampling"))
    assert sampler.requires == {"features", "probabilities"}
    data = make()
    query = sampler.select(data, 9, np.random.default_rng(0))
    assert query.indices.tolist() == ask(MarginSampler(), data, 9)
    assert np.isfinite(query.scores).all() and len(set(query.scores.tolist())) == 9


def test_core_set_is_ours():
    sampler = SkactivemlSampler("CoreSet")
    assert sampler.requires == {"features"}
    assert ask(sampler, make()) == ask(CoreSetSampler(), make())


def test_a_strategy_that_trains_needs_a_classifier():
    strategy = pool.MonteCarloEER()
    with pytest.raises(ConfigurationError, match=r"MonteCarloEER .* Give one: .*classifier=LogisticRegression\(\)"):
        SkactivemlSampler(strategy)
    sampler = SkactivemlSampler(strategy, classifier=LogisticRegression())
    assert sampler.requires == {"features"} and len(ask(sampler, make(30, labelled=[2, 9], labels=[0, 2]), 1)) == 1


def test_a_classifier_of_their_own_learns_all_classes():
    from skactiveml.classifier import MixtureModelClassifier, ParzenWindowClassifier

    sampler = SkactivemlSampler(pool.FourDs(), classifier=MixtureModelClassifier(random_state=0))
    assert len(ask(sampler, make())) == 6
    given = ParzenWindowClassifier()
    assert len(ask(SkactivemlSampler(classifier=given), make())) == 6
    assert given.classes is None  # copied, not changed


def test_more_arguments_of_the_query():
    from skactiveml.classifier import ParzenWindowClassifier

    with pytest.raises(ConfigurationError, match="`query_arguments` to hold ensemble"):
        SkactivemlSampler("QueryByCommittee")
    ensemble = [ParzenWindowClassifier(classes=[0, 1, 2], metric_dict={"gamma": g}) for g in (0.1, 1, 10)]
    sampler = SkactivemlSampler("QueryByCommittee", query_arguments={"ensemble": ensemble})
    assert len(ask(sampler, make())) == 6
    discriminator = ParzenWindowClassifier(classes=[0, 1])
    assert (
        len(ask(SkactivemlSampler("DiscriminativeAL", query_arguments={"discriminator": discriminator}), make())) == 6
    )


def test_seed_follows_the_generator_and_the_strategy_is_left_alone():
    strategy = pool.RandomSampling(random_state=3)
    before = copy.deepcopy(strategy.get_params())
    sampler = SkactivemlSampler(strategy)
    assert ask(sampler, make(), seed=0) == ask(sampler, make(), seed=0) != ask(sampler, make(), seed=1)
    assert strategy.get_params() == before


def test_wrapped_strategy_reads_what_the_inner_one_reads():
    sampler = SkactivemlSampler(pool.SubSamplingWrapper(pool.UncertaintySampling(), max_candidates=20))
    assert "probabilities" in sampler.requires and len(ask(sampler, make())) == 6


def test_refuses():
    with pytest.raises(ConfigurationError, match=r"`strategy` to be one of Badge, .*but got 'Nonsense'"):
        SkactivemlSampler("Nonsense")
    with pytest.raises(ConfigurationError, match="'Quire' of scikit-activeml needs arguments"):
        SkactivemlSampler("Quire")
    with pytest.raises(InvalidTypeError, match="a pool strategy of scikit-activeml"):
        SkactivemlSampler(MarginSampler())
    data = QueryData(features=np.eye(4), probabilities=np.full((4, 2), 0.5), labelled=[0], labels=np.array([[0, 1]]))
    with pytest.raises(ConfigurationError, match="multi-label targets"):
        ask(SkactivemlSampler(), data, 1)


def test_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "skactiveml"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Without(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r'pip install "lightning-diffal\[skactiveml\]"'):
        SkactivemlSampler()


class _Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "skactiveml":
            raise ModuleNotFoundError(f"No module named {name!r}", name="skactiveml")


def test_by_name():
    assert repr(parse_sampler("skactiveml:strategy=CoreSet").strategy) == "CoreSet()"
    assert "skactiveml" in SAMPLERS and "skactiveml" not in parse_samplers("all")
    assert {"maxherding", "uherding", "dropquery"} <= set(parse_samplers("all"))


@pytest.mark.parametrize("name", ["ProbabilisticAL", "FourDs", "EpistemicUncertaintySampling"])
def test_strategies_that_read_more_than_probabilities_are_refused_at_once(name):
    with pytest.raises(ConfigurationError, match=f"{name} of scikit-activeml needs more of a classifier"):
        SkactivemlSampler(name)


def test_settings_for_other_classes_are_no_reason_to_refuse():
    sampler = SkactivemlSampler(pool.UncertaintySampling(cost_matrix=1 - np.eye(3)))
    assert len(ask(sampler, make())) == 6


@pytest.mark.parametrize("strategy", ["Badge", "TypiClust", "DropQuery"])
def test_two_rounds_through_a_trainer(strategy):
    data = ActiveDataModule(
        TRAIN, val_dataset=VAL, initial_labels=[90, 3, 41, 63, 17, 119], batch_size=6, num_classes=3
    )
    active = ActiveLearning(SkactivemlSampler(strategy), query_size=6, max_rounds=2, seed=1)
    quiet_trainer([active], max_epochs=1).fit(Net("none"), datamodule=data)
    assert [record.n_labelled for record in active.history] == [6, 12, 18]
