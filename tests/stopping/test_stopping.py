"""Rules that end a run: what they say, when, and the same after a kill."""

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler, Query
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.history.history import History, RoundRecord, records_equal
from lightning_diffal.labels.pool import LabelledPool
from lightning_diffal.run.asking.stability import cohen_kappa, stop_set
from lightning_diffal.run.state import RunState
from lightning_diffal.samplers import RandomSampler
from lightning_diffal.stopping import (
    KAPPA,
    AllOf,
    AnyOf,
    Budget,
    Explored,
    ExploredAndStable,
    StablePredictions,
    StoppingRule,
    TargetMetric,
)
from lightning_diffal.stopping.base import as_rules
from tests.helpers import TRAIN, VAL, Net, pl, quiet_trainer

START = [3, 90, 41, 17, 60, 77]


class Measured(StoppingRule):
    """Never stops, and has kappa measured."""

    requires = frozenset({KAPPA})
    stop_set = None

    def __call__(self, history):
        return None


def make_data(**kwargs):
    settings = {"initial_labels": START, "batch_size": 4, **kwargs}
    return ActiveDataModule(TRAIN, val_dataset=VAL, test_dataset=VAL, **settings)


def run(active, data=None, model=None, callbacks=(), **kwargs):
    torch.manual_seed(1)
    data, model = data or make_data(), model or Net()
    trainer = quiet_trainer([active, *callbacks], **kwargs)
    trainer.fit(model, datamodule=data)
    return trainer, model, data


def history(metrics=(), shares=(), counts=()):
    """One record a value; queries follow all but the last."""
    n = max(len(metrics), len(shares) + 1, len(counts))
    records = []
    for r in range(n):
        query = Query([r], [1.0], summary={"exploration_share": shares[r]}) if r < len(shares) else None
        values = {} if r >= len(metrics) or metrics[r] is None else metrics[r]
        records.append(RoundRecord(r, r, range(counts[r] if counts else r + 1), values, query))
    return History(records)


# ---------------------------------------------------------------------------------------------- what the rules say


def test_budget_counts_beyond_the_initial_labels():
    rule = Budget(10)
    assert rule(history(counts=[6, 15])) is None
    assert rule(history(counts=[6, 12, 16])) == "10 labels were bought (budget 10)"
    assert rule(history(counts=[0, 10])) == "10 labels were bought (budget 10)"


@pytest.mark.parametrize(
    ("rule", "values", "stops"),
    [
        (TargetMetric("m", 0.9), [0.5, 0.9], True),
        (TargetMetric("m", 0.9), [0.95, 0.8], False),
        (TargetMetric("m", 0.9, patience=2), [0.95, 0.8, 0.95], False),
        (TargetMetric("m", 0.9, patience=2), [0.8, 0.95, 0.91], True),
        (TargetMetric("m", 0.9, patience=3), [0.95, 0.91], False),
        (TargetMetric("m", 0.2, mode="min"), [0.1], True),
        (TargetMetric("m", 0.2, mode="min"), [0.3], False),
        (TargetMetric("m", 0.9), [0.95, float("nan")], False),
        (TargetMetric("m", 0.9, patience=2), [0.95, None, 0.95], False),
    ],
)
def test_target_metric(rule, values, stops):
    reason = rule(history([None if v is None else {"m": v} for v in values]))
    assert bool(reason) == stops
    assert not stops or ("m" in reason and f"{rule.target:g}" in reason)


def test_a_metric_that_nobody_logs_is_an_error_that_names_those_there_are():
    rule = TargetMetric("test_acc", 0.9)
    with pytest.raises(ConfigurationError, match=r"'test_acc'.*test_each_round=True.*There are: val_loss\."):
        rule(history([{"val_loss": 1.0}]))
    assert rule(history(counts=[0])) is None  # before a cold start nothing has trained
    assert rule(history([{"test_acc": 0.5}, {"val_loss": 1.0}])) is None


@pytest.mark.parametrize(
    ("kappas", "stops"),
    [
        ([None, 0.99, 0.99], False),
        ([None, 0.99, 0.985, 1.0], True),
        ([None, 1.0, 0.99, 0.97], False),
        ([0.99, None, 1.0, 1.0], False),
        ([0.0, 1.0, 1.0, 1.0], True),
    ],
)
def test_stable_predictions_is_the_mean_over_a_window(kappas, stops):
    metrics = [{} if k is None else {KAPPA: k} for k in kappas]
    reason = StablePredictions()(history(metrics))
    assert bool(reason) == stops
    assert not stops or reason.startswith("predictions are stable: kappa 0.99") or kappas[0] == 0


def test_explored_looks_at_every_query_of_the_window():
    rule = Explored()
    assert rule(history(shares=[0.0, 0.0])) is None
    assert rule(history(shares=[0.0, 0.2, 0.0])) is None
    reason = rule(history(shares=[1.0, 0.4, 0.1, 0.0, 0.05]))
    assert reason == "the pool is explored: at most 10% of each of the last 3 queries explored (limit 10%)"
    other = History([RoundRecord(0, 0, [1], query=Query([2], [0.5])), RoundRecord(1, 1, [1, 2])])
    with pytest.raises(ConfigurationError, match="DiffusionSampler"):
        rule(other)


def test_explored_and_stable_needs_both():
    kappas = [{KAPPA: 0.97}] * 4
    rule = ExploredAndStable(0.95)
    assert rule(history(kappas, [1.0, 0.0, 0.3])) is None
    assert rule(history([{KAPPA: 0.9}] * 4, [0.0, 0.0, 0.0])) is None
    assert rule(history(kappas, [0.0, 0.0, 0.0])) == (
        "the pool is explored: at most 0% of each of the last 3 queries explored (limit 10%) and "
        "predictions are stable: kappa 0.970 on average over 3 rounds (threshold 0.95)"
    )


def test_rules_combine():
    def late(history):
        return "late" if len(history) > 2 else None

    few, many = history(counts=[1, 4]), history(counts=[1, 2, 4])
    both, either = Budget(3) & late, late | Budget(3)
    assert isinstance(both, AllOf) and isinstance(either, AnyOf)
    assert both(few) is None and both(many) == "3 labels were bought (budget 3) and late"
    assert either(few) == "3 labels were bought (budget 3)" and either(many) == "late"
    assert repr(Budget(1) | late | (Budget(2) & Budget(3))) == (
        f"AnyOf(Budget(n=1), {late.__qualname__}, AllOf(Budget(n=2), Budget(n=3)))"
    )
    assert repr(StablePredictions()) == "StablePredictions(threshold=0.99, window=3, stop_set=2000)"
    assert AnyOf(Budget(1), Measured()).requires == {KAPPA}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Budget(0), ConfigurationError, "argument `n`"),
        (lambda: Budget(None), ConfigurationError, "argument `n`"),
        (lambda: TargetMetric("", 1), InvalidTypeError, "argument `metric`"),
        (lambda: TargetMetric("a", "b"), ConfigurationError, "argument `target`"),
        (lambda: TargetMetric("a", float("nan")), ConfigurationError, "argument `target`"),
        (lambda: TargetMetric("a", 1, "best"), ConfigurationError, "argument `mode`"),
        (lambda: TargetMetric("a", 1, patience=0), ConfigurationError, "argument `patience`"),
        (lambda: StablePredictions(1.1), ConfigurationError, "argument `threshold`"),
        (lambda: StablePredictions(0), ConfigurationError, "argument `threshold`"),
        (lambda: StablePredictions(True), ConfigurationError, "argument `threshold`"),
        (lambda: StablePredictions(window=0), ConfigurationError, "argument `window`"),
        (lambda: StablePredictions(stop_set=0), ConfigurationError, "argument `stop_set`"),
        (lambda: Explored(-0.1), ConfigurationError, "argument `max_share`"),
        (lambda: ExploredAndStable(max_share="a"), ConfigurationError, "argument `max_share`"),
        (lambda: AnyOf(), ConfigurationError, "at least one rule"),
        (lambda: AllOf(3), InvalidTypeError, "argument `stopping`"),
        (lambda: ActiveLearning(stopping=3), InvalidTypeError, "argument `stopping`"),
        (lambda: ActiveLearning(stopping="budget"), InvalidTypeError, "argument `stopping`"),
        (lambda: ActiveLearning(stopping=[Budget(3), None]), InvalidTypeError, "but got None"),
        (lambda: ActiveLearning(stopping=StablePredictions), InvalidTypeError, r"call it, StablePredictions\(\.\.\.\)"),
        (
            lambda: ActiveLearning(stopping=[StablePredictions(stop_set=3), Budget(1) & StablePredictions()]),
            ConfigurationError,
            "same `stop_set`.* 3, 2000",
        ),
        (lambda: as_rules(type("R", (Measured,), {"requires": frozenset({"x"})})()), ConfigurationError, r"\['x'\]"),
    ],
)
def test_bad_rules_are_refused_at_once(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ------------------------------------------------------------------------------------------------ what is measured


def test_kappa_is_scikit_learns():
    rng = np.random.default_rng(0)
    for n_classes in (2, 3, 7):
        a = rng.integers(n_classes, size=200)
        b = np.where(rng.random(200) < 0.3, rng.integers(n_classes, size=200), a)
        assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b))
    assert cohen_kappa(a, a) == 1 and cohen_kappa([0, 1], [1, 0]) == -1
    assert cohen_kappa([4, 4], [4, 4]) == 0  # two models that say the same of everything know nothing


def test_the_stop_set_is_the_same_in_any_order_and_grows_with_the_data():
    names = [f"img/{i}.png" for i in range(50)]
    keys, places = stop_set(LabelledPool(50, names), 10, seed=4)
    mixed = [names[i] for i in np.random.default_rng(1).permutation(50)]
    again, elsewhere = stop_set(LabelledPool(50, mixed), 10, seed=4)
    assert np.array_equal(keys, again) and [names[i] for i in places] == [mixed[i] for i in elsewhere]
    more, _ = stop_set(LabelledPool(60, [*names, *(f"new{i}" for i in range(10))]), None, seed=4)
    assert set(keys) < set(more) and len(more) == 60 and set(places.tolist()) != set(range(10))
    assert set(stop_set(LabelledPool(50, names), 10, seed=5)[1]) != set(places)


def predictions_by_round():
    class Predictions(pl.Callback):
        def __init__(self):
            self.found = []

        def on_round_end(self, trainer):
            module = trainer.lightning_module
            training = module.training
            with torch.no_grad():
                self.found.append(module.eval()(TRAIN.tensors[0]).argmax(1).numpy())
            module.train(training)

    return Predictions()


@pytest.mark.parametrize("sampler", [RandomSampler, DiffusionSampler])
def test_kappa_compares_the_models_of_successive_rounds(sampler):
    watch = predictions_by_round()
    active = ActiveLearning(sampler(), query_size=6, max_rounds=3, stopping=Measured())
    run(active, callbacks=[watch])
    expected = [cohen_kappa_score(a, b) for a, b in zip(watch.found, watch.found[1:], strict=False)]
    found = [record.metrics.get(KAPPA) for record in active.history]
    # the first has no model before it, and after the last nothing had to be decided
    assert found[0] is None and found[3] is None
    assert found[1:3] == pytest.approx(expected[:2])


def test_measuring_changes_no_pick_and_reads_the_data_set_once(monkeypatch):
    from lightning_diffal.features.extractor import FeatureExtractor

    passes = []
    call = FeatureExtractor.__call__

    def counted(self, trainer, data, indices, wanted, seed, **kwargs):
        passes.append((len(indices), sorted(wanted)))
        return call(self, trainer, data, indices, wanted, seed, **kwargs)

    monkeypatch.setattr(FeatureExtractor, "__call__", counted)
    sampler = DiffusionSampler(network_margin=False)
    plain = ActiveLearning(sampler, query_size=6, max_rounds=3, seed=5)
    run(plain)
    assert passes == [(120, ["features"])] * 3
    passes.clear()
    measured = ActiveLearning(sampler, query_size=6, max_rounds=3, seed=5, stopping=Measured())
    run(measured)
    assert passes == [(120, ["features", "probabilities"])] * 3
    for a, b in zip(plain.history, measured.history, strict=True):
        assert a.labelled.tolist() == b.labelled.tolist()
    passes.clear()
    run(ActiveLearning(RandomSampler(), query_size=6, max_rounds=2, stopping=StablePredictions(stop_set=25)))
    assert passes == [(25, ["probabilities"])] * 2  # nobody else wants the rest


def test_nothing_is_bought_after_a_rule_has_spoken():
    bought = []

    def oracle(indices, items):
        bought.extend(indices)
        return [int(y) for _, y in items]

    active = ActiveLearning(
        DiffusionSampler(), query_size=5, max_rounds=9, oracle=oracle, stopping=StablePredictions(0.01, window=1)
    )
    run(active)
    last = active.history[-1]
    assert last.round == 1 and last.query is None and len(bought) == 5
    assert last.stop_reason == f"predictions are stable: kappa {last.metrics[KAPPA]:.3f} on average over 1 round " + (
        "(threshold 0.01)"
    )


def test_a_run_says_why_it_stopped(caplog, capsys):
    import logging

    with caplog.at_level(logging.INFO):
        run(ActiveLearning(RandomSampler(), query_size=5, stopping=[Measured(), Budget(5)]))
    assert (
        "Active learning ended after round 1: 5 labels were bought (budget 5)." in caplog.text + capsys.readouterr().err
    )


def test_fit_again_goes_on_after_the_rule_was_raised_or_cleared():
    straight = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=3, seed=2, stopping=Measured())
    run(straight)
    parts = ActiveLearning(
        DiffusionSampler(),
        query_size=6,
        max_rounds=3,
        seed=2,
        stopping=[Measured(), TargetMetric("val_loss", 99, "min")],
    )
    trainer, model, data = run(parts)
    assert len(parts.history) == 1 and "val_loss" in parts.history[0].stop_reason
    trainer.fit(model, datamodule=data)  # nothing has changed
    assert len(parts.history) == 1
    parts.stopping[1].patience = 2
    trainer.fit(model, datamodule=data)
    assert len(parts.history) == 2 and "in 2 rounds in a row" in parts.history[1].stop_reason
    parts.stopping = Measured()
    trainer.fit(model, datamodule=data)
    assert parts.history[-1].stop_reason == "max_rounds=3 reached" and parts.history[0].stop_reason is None
    assert records_equal(parts.history, straight.history)  # kappa too, though rounds were measured across three fits
    parts.stopping = ()
    assert parts.stopping == ()


def test_multilabel_targets_have_no_kappa():
    targets = (torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) > 0.5).long()
    data = ActiveDataModule(
        torch.utils.data.TensorDataset(torch.randn(40, 8), targets), initial_labels=[5, 9, 30], batch_size=4
    )
    with pytest.raises(ConfigurationError, match="one class per point"):
        run(ActiveLearning(query_size=3, max_rounds=2, stopping=StablePredictions()), data)


def test_a_cold_start_and_a_grown_data_set_are_measured():
    active = ActiveLearning(DiffusionSampler(), query_size=8, max_rounds=3, stopping=Measured())
    run(active, make_data(initial_labels=0))
    assert [KAPPA in record.metrics for record in active.history] == [False, False, True, False]


def test_state_of_an_older_version_still_loads():
    saved = RunState(seed=7).to_checkpoint()
    del saved["predictions"]
    assert RunState.from_checkpoint(saved).predictions is None


def test_the_folder_knows_why_the_run_ended(tmp_path):
    active = ActiveLearning(RandomSampler(), query_size=6, stopping=Budget(6), run_dir=tmp_path / "run")
    run(active)
    kept = torch.load(tmp_path / "run" / "state.ckpt", weights_only=True)["active_learning"]
    assert kept["history"][-1]["stop_reason"] == "6 labels were bought (budget 6)"


# ------------------------------------------------------------------------------------------------- killed, resumed

SCRIPT = """
import json, os, signal, sys
import torch
from lightning_diffal import ActiveLearning, DiffusionSampler
from tests.helpers import Net
from tests.stopping.test_stopping import KAPPA, StablePredictions, run

folder, threshold, kill = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])

class Sampler(DiffusionSampler):
    def select(self, *args):
        if active._context.state.round == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().select(*args)

active = ActiveLearning(Sampler(), query_size=6, max_rounds=8, seed=3, run_dir=folder + "/run",
                        stopping=StablePredictions(threshold, window=2))
torch.set_num_threads(1)
run(active)
print(json.dumps([[r.metrics.get(KAPPA) for r in active.history], active.history[-1].stop_reason]))
"""


def script(folder, threshold, kill=-1):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, folder, str(threshold), str(kill)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        check=False,
    )


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_run_stops_after_the_same_round(tmp_path):
    active = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=8, seed=3, stopping=StablePredictions(1, 2))
    run(active)
    kappas = [record.metrics.get(KAPPA) for record in active.history[:-1]]
    means = [sum(kappas[r - 1 : r + 1]) / 2 for r in range(2, len(kappas))]
    stops_at = 2 + means.index(max(means[1:]), 1)  # killed in a round before it
    threshold = means[stops_at - 2] - 1e-9
    first = next(r for r, mean in enumerate(means, start=2) if mean >= threshold)
    killed = script(tmp_path, threshold, first - 1)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    resumed = script(tmp_path, threshold)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    found, reason = json.loads(resumed.stdout.splitlines()[-1])
    assert found == kappas[: first + 1] and reason.startswith("predictions are stable")


def test_a_checkpoint_leads_to_the_same_stop(tmp_path):
    from tests.helpers import pl_callbacks

    def once(ckpt_path=None, **kwargs):
        active = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=4, seed=3, stopping=Measured(), **kwargs)
        every = pl_callbacks.ModelCheckpoint(tmp_path / "ckpt", save_top_k=-1, every_n_epochs=1)
        torch.manual_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = quiet_trainer([active, every], enable_checkpointing=True, default_root_dir=tmp_path)
            trainer.fit(Net(), datamodule=make_data(), ckpt_path=ckpt_path)
        return active

    straight = once()
    (middle,) = (tmp_path / "ckpt").glob("round=2-epoch=0-*.ckpt")
    resumed = once(middle)
    branched = once(middle, on_journal_ahead="branch")
    assert records_equal(straight.history, resumed.history) and records_equal(straight.history, branched.history)
