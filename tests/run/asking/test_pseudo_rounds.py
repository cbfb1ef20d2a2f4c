"""Pseudo-labels in real runs: they train, and they never count as labels."""

import copy
import csv
import json
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import RandomSampler as RandomPoints

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler, PseudoLabels
from lightning_diffal.data.left_over import LeftOverBatchSampler
from lightning_diffal.history.journal import FILENAME
from lightning_diffal.pseudo_labels.rule import choose_pseudo_labels
from lightning_diffal.samplers import EntropySampler, RandomSampler
from tests.helpers import TRAIN, VAL, Net, Snapshots, pl, pl_callbacks, quiet_trainer, same_weights

START = [90, 3, 41, 17, 58, 113, 5, 77]  # not a prefix, not sorted
TRUTH = TRAIN.tensors[1]
RULE = PseudoLabels(margin=0.3, label_equivalents=1.0, power=1.0, labelled_share=0.4, min_labels=0, n_steps=3)


def make_data(cls=ActiveDataModule, **kwargs):
    return cls(TRAIN, **{"val_dataset": VAL, "test_dataset": VAL, "initial_labels": START, "batch_size": 4} | kwargs)


class Look(Snapshots):
    """What every round trained on, item by item, and the features that its model gives."""

    def __init__(self):
        super().__init__()
        self.items, self.places, self.features, self.chosen = [], [], [], []

    def on_round_end(self, trainer):
        super().on_round_end(trainer)
        data, active = trainer.datamodule, next((c for c in trainer.callbacks if isinstance(c, ActiveLearning)), None)
        self.items.append([data.training_dataset[i] for i in range(len(data.training_dataset))])
        self.places.append(data.training_dataset.indices.tolist())
        if active is not None and active.pseudo_labels is not None:
            every = np.arange(len(data.pool))
            read = active._context.extractor(trainer, data, every, frozenset({"features"}), 0)
            self.features.append(read["features"])
            self.chosen.append(active._context.state.pseudo_labels)


def run(sampler=None, *, data=None, model=None, callbacks=(), trainer=(), max_rounds=2, ckpt_path=None, **kwargs):
    torch.manual_seed(1)
    settings = {"query_size": 6, "seed": 3, "pseudo_labels": RULE, "run_dir": False} | kwargs
    active = ActiveLearning(sampler or RandomSampler(), max_rounds=max_rounds, **settings)
    model, data = model or Net(), data or make_data()
    quiet_trainer([active, *callbacks], **dict(trainer)).fit(model, datamodule=data, ckpt_path=ckpt_path)
    return active, data, model


# ------------------------------------------------------------------------------------------------------ what trains


CASES = {
    "plain": {},
    "diffusion": {"sampler": DiffusionSampler},
    "entropy": {"sampler": EntropySampler},
    "onecycle": {"model": lambda: Net("onecycle")},
    "max_steps": {"max_epochs": -1, "max_steps": 9},
    "workers": {"workers": 1},
    "early_stopping": {"callbacks": lambda: [pl_callbacks.EarlyStopping("val_loss", patience=0)], "max_epochs": 5},
}


@pytest.mark.parametrize("case", CASES)
def test_round_equals_independent_fit_on_its_training_data_set(case):
    settings = dict(CASES[case])
    sampler, workers = settings.pop("sampler", RandomSampler)(), settings.pop("workers", 0)
    make_model, make_callbacks = settings.pop("model", Net), settings.pop("callbacks", list)
    torch.manual_seed(99)
    model, look = make_model(), Look()
    before = copy.deepcopy(model.state_dict())
    data = make_data(num_workers=workers)
    active, _, _ = run(sampler, data=data, model=model, callbacks=[look, *make_callbacks()], trainer=settings)
    assert len(look.items[0]) == 8 and min(map(len, look.items[1:])) > 60
    for record, weights, losses, items in zip(active.history, look.weights, look.losses, look.items, strict=True):
        alone = make_model()
        alone.load_state_dict(before)
        own = TensorDataset(
            *(torch.stack([torch.as_tensor(part) for part in parts]) for parts in zip(*items, strict=True))
        )
        pl.seed_everything(record.seed)
        batches = LeftOverBatchSampler(RandomPoints(own), 4, False)  # batch norm cannot train on one point
        train = DataLoader(own, batch_sampler=batches, num_workers=workers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quiet_trainer(make_callbacks(), **settings).fit(alone, train, DataLoader(VAL, batch_size=4))
        assert alone.losses == losses
        assert same_weights(weights, alone.state_dict())


@pytest.mark.parametrize("sampler", [RandomSampler, DiffusionSampler, EntropySampler])
def test_chosen_by_features_of_the_round_before_and_all_labels(sampler):
    """Word for word: which points, which labels, how often the labelled ones."""
    look = Look()
    active, _, _ = run(sampler(), callbacks=[look])
    assert look.chosen[0] is None and look.places[0] == sorted(START)
    n_wrong = 0
    for number in (1, 2):
        labelled = active.history[number].labelled
        expected = choose_pseudo_labels(look.features[number - 1], labelled, TRUTH[labelled], 3, RULE)
        found = look.chosen[number]
        for array, name in zip(expected, ("indices", "labels", "weights"), strict=True):
            np.testing.assert_array_equal(found[name].numpy(), array)
        places = look.places[number]
        joined = [place for place in places if place not in labelled.tolist()]
        times = (len(places) - len(joined)) // len(labelled)
        assert times == max(1, round(0.4 / 0.6 * len(joined) / len(labelled))) > 1
        assert places == labelled.tolist() * times + joined
        assert len(set(joined)) == len(joined) and set(joined) <= set(expected.indices.tolist())
        pseudo = dict(zip(expected.indices.tolist(), expected.labels.tolist(), strict=True))
        shown = [int(label) for _, label in look.items[number]]
        assert shown == [pseudo.get(place, int(TRUTH[place])) for place in places]
        n_wrong += sum(pseudo[place] != int(TRUTH[place]) for place in joined)
        np.testing.assert_array_equal(torch.stack([x for x, _ in look.items[number]]), TRAIN.tensors[0][places])
    assert n_wrong or sampler is not RandomSampler  # there the items' own labels would not do


def test_the_weight_is_the_probability_to_join():
    look = Look()
    run(callbacks=[look], max_rounds=8, query_size=2, trainer={"max_epochs": 1})
    chosen = [(saved, set(places)) for saved, places in zip(look.chosen, look.places, strict=True) if saved]
    joined = np.concatenate([np.isin(saved["indices"].numpy(), list(places)) for saved, places in chosen])
    weights = np.concatenate([saved["weights"].numpy() for saved, _ in chosen])
    assert joined[weights == 1].all() and (weights < 1).sum() > 200
    uncertain = weights < 1
    spread = np.sqrt((weights * (1 - weights))[uncertain].sum())
    assert abs(joined[uncertain].sum() - weights[uncertain].sum()) < 4 * spread
    assert 0 < joined[uncertain].mean() < 1


def test_all_that_pass_join_where_the_power_is_nought():
    look = Look()
    run(
        callbacks=[look],
        pseudo_labels=PseudoLabels(margin=0.3, label_equivalents=1.0, power=0, labelled_share=0, min_labels=0),
    )
    for number in (1, 2):
        assert look.places[number] == look.labelled[number] + look.chosen[number]["indices"].tolist()


def test_off_by_default():
    look = Look()
    active, _, _ = run(callbacks=[look], pseudo_labels=False)
    assert look.places == [record.labelled.tolist() for record in active.history]
    assert not look.chosen and "active/n_pseudo_labelled" not in active.history[-1].metrics


@pytest.mark.parametrize("sampler", [RandomSampler(), DiffusionSampler()])
def test_the_data_set_is_read_once_a_round(sampler, monkeypatch):
    reads = []
    original = ActiveDataModule.pool_dataloader

    def counted(self, indices=None, **kwargs):
        reads.append(None if indices is None else len(indices))
        return original(self, indices, **kwargs)

    monkeypatch.setattr(ActiveDataModule, "pool_dataloader", counted)
    run(sampler)
    # a look at a few items before anything trains, some with another placeholder; and one pass for each query
    assert reads[-2:] == [120, 120] and len(reads) <= 4 and sum(reads[:-2]) <= 12


def test_the_graph_of_the_query_is_used_again(monkeypatch):
    from lightning_diffal.graph import point_graph

    built = []
    original = point_graph.graph.collapse_duplicates
    monkeypatch.setattr(point_graph.graph, "collapse_duplicates", lambda f: built.append(len(f)) or original(f))
    run(DiffusionSampler())
    assert len(built) == 2
    run(DiffusionSampler(), pseudo_labels=PseudoLabels(n_neighbors=9, min_labels=0))
    assert len(built) == 2 + 4


# ---------------------------------------------------------------------------------------------- what is no label


def test_never_counted_written_down_or_exported(tmp_path):
    look = Look()
    active, data, _ = run(DiffusionSampler(), callbacks=[look], run_dir=tmp_path / "run", budget=12)
    assert all(len(set(places)) > 60 for places in look.places[1:])  # there were some
    assert [record.n_labelled for record in active.history] == [8, 14, 20]
    assert len(data.labelled_indices) == 20 and data.pool.n_bought == 12 and len(data.pool_indices) == 100
    np.testing.assert_array_equal(data.labels, TRUTH[data.labelled_indices])
    data.export_labels(tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == data.labelled_indices.tolist()
    written = (tmp_path / "run" / FILENAME).read_text()
    events = [json.loads(line) for line in written.splitlines()]
    assert "pseudo" not in written
    assert [event["kind"] for event in events] == ["header", "query", "answer", "query", "answer"]
    answered = [index for event in events if event["kind"] == "answer" for index in event["indices"]]
    assert sorted([*answered, *START]) == data.labelled_indices.tolist()


def test_outside_a_run_there_are_none():
    seen = []

    class During(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            seen.append(len(data.training_dataset) - len(data.labelled_indices))

    data = make_data()
    run(data=data, callbacks=[During()])
    assert seen[:2] == [0, 0] and min(seen[2:]) > 40
    assert data.joined_points is None
    assert data.training_dataset.indices.tolist() == data.labelled_indices.tolist()


def test_how_many_there_were_is_logged_and_recorded(tmp_path):
    logged = []

    class Logger(pl.loggers.Logger):
        name = version = "kept"

        def log_metrics(self, metrics, step=None):
            logged.append(metrics)

        def log_hyperparams(self, *args, **kwargs):
            pass

    look = Look()
    active, _, _ = run(callbacks=[look], trainer={"logger": Logger()})
    expected = [(0, 0)] + [(len(c["indices"]), float(c["weights"].double().sum())) for c in look.chosen[1:]]
    names = ("active/n_pseudo_labelled", "active/pseudo_label_weight")
    assert [tuple(r.metrics[name] for name in names) for r in active.history] == expected
    assert [tuple(m[name] for name in names) for m in logged if names[0] in m] == expected
    active.history.to_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open() as file:
        assert [float(row[names[0]]) for row in csv.DictReader(file)] == [count for count, _ in expected]


def test_points_that_validate_never_train():
    look, told = Look(), []

    class Spy(ActiveDataModule):
        def validates(self, indices):
            told.append(len(indices))
            return super().validates(indices)

    data = make_data(Spy, val_dataset=None, val_fraction=0.3)
    active, _, _ = run(data=data, callbacks=[look])
    aside = np.flatnonzero(data.validates(np.arange(120)))
    assert 20 < len(aside) < 60 and told
    for number in (1, 2):
        assert not set(look.places[number]) & set(aside.tolist())
        assert not set(look.chosen[number]["indices"].tolist()) & set(aside.tolist())
        # and their labels, which only validate, have not spoken
        trained = np.setdiff1d(active.history[number].labelled, aside)
        found = choose_pseudo_labels(look.features[number - 1], trained, TRUTH[trained], 3, RULE)
        others = np.isin(found.indices, np.concatenate([aside, active.history[number].labelled]))
        np.testing.assert_array_equal(look.chosen[number]["indices"].numpy(), found.indices[~others])


def test_a_point_that_is_labelled_by_hand_counts_as_such():
    class ByHand(pl.Callback):
        labelled = None

        def on_round_start(self, trainer):
            joined = data.joined_points
            if joined is not None and self.labelled is None:
                self.labelled = next(iter(joined.labels))
                data.label([self.labelled], [(joined.labels[self.labelled] + 1) % 3])

    look, by_hand, data = Look(), ByHand(), make_data()
    active, _, _ = run(callbacks=[look, by_hand], data=data)
    place = by_hand.labelled
    assert place in active.history[1].labelled and place in look.chosen[1]["indices"].tolist()
    at = [label for where, (_, label) in zip(look.places[1], look.items[1], strict=True) if where == place]
    assert {int(label) for label in at} == {int(data.labels[data.labelled_indices.tolist().index(place)])}


# ------------------------------------------------------------------------------------------------- loaders and limits
