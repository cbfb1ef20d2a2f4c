"""Pseudo-labels in real runs: they train, and they never count as labels."""

import copy
import csv
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler, PseudoLabels
from lightning_diffal.exceptions import ConfigurationError, InvalidLabelError, InvalidTypeError, LoaderMismatchError
from lightning_diffal.fresh_trainers import fit_rounds
from lightning_diffal.history.history import records_equal
from lightning_diffal.history.journal import FILENAME
from lightning_diffal.oracle import PENDING
from lightning_diffal.pseudo_labels.rule import choose_pseudo_labels
from lightning_diffal.samplers import EntropySampler, RandomSampler
from tests.helpers import TRAIN, VAL, Net, Snapshots, pl, pl_callbacks, quiet_trainer, same_weights

START = [90, 3, 41, 17, 58, 113, 5, 77]  # not a prefix, not sorted
TRUTH = TRAIN.tensors[1]
RULE = PseudoLabels(margin=0.3, label_equivalents=1.0, power=1.0, labelled_share=0.4, min_labels=0, n_steps=3)


def make_data(cls=ActiveDataModule, **kwargs):
    return cls(TRAIN, **{"val_dataset": VAL, "test_dataset": VAL, "initial_labels": START, "batch_size": 4} | kwargs)


class Look(Snapshots):
    """What every round trained upon, item by item, and the features that its model gives."""

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
        lone_last = {"drop_last": len(own) % 4 == 1}  # batch norm cannot train on one point
        train = DataLoader(own, batch_size=4, shuffle=True, num_workers=workers, **lone_last)
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

    def counted(self, indices=None):
        reads.append(None if indices is None else len(indices))
        return original(self, indices)

    monkeypatch.setattr(ActiveDataModule, "pool_dataloader", counted)
    run(sampler)
    assert reads == [2, 120, 120]  # a look at two items before anything trains, and one pass for each query


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


class Own(ActiveDataModule):
    goes_over = "training_dataset"

    def train_dataloader(self):
        dataset = getattr(self, self.goes_over)
        return DataLoader(dataset, batch_size=4, shuffle=True, drop_last=len(dataset) % 4 == 1)


class HiddenTruth(ActiveDataModule):
    """The right points, with the labels that nobody has given."""

    def train_dataloader(self):
        places = self.training_dataset.indices
        return DataLoader(Subset(self.train_dataset, places), batch_size=4, shuffle=True)


def test_an_own_loader_over_the_training_data_set():
    first, second = Look(), Look()
    run(callbacks=[first])
    run(callbacks=[second], data=make_data(Own))
    assert all(map(same_weights, first.weights, second.weights))


@pytest.mark.parametrize("cls", [Own, HiddenTruth])
def test_any_other_own_loader_is_refused(cls):
    data = make_data(cls)
    data.goes_over = "labelled_dataset"
    with pytest.raises(LoaderMismatchError, match=r"loader over `self\.training_dataset`") as caught:
        run(data=data)
    assert ("without their pseudo-labels" in str(caught.value)) == (cls is HiddenTruth)
    assert len(data.labelled_indices) == 14  # what was bought is kept


def test_wrong_loaders_without_pseudo_labels_hear_of_the_labelled_points():
    class Full(ActiveDataModule):
        def train_dataloader(self):
            return DataLoader(self.train_dataset, batch_size=4)

    with pytest.raises(LoaderMismatchError, match=r"`self\.labelled_dataset`"):
        run(data=make_data(Full))


def test_multilabel_targets_are_refused_before_training():
    class Silent(Net):
        def training_step(self, batch, batch_idx):
            raise AssertionError("trained")

    several = TensorDataset(TRAIN.tensors[0], torch.nn.functional.one_hot(TRUTH, 3))
    for data in (
        ActiveDataModule(several, initial_labels=START),
        ActiveDataModule(several, targets=several.tensors[1].numpy()),
    ):
        with pytest.raises(ConfigurationError, match="multi-label targets: leave the argument out"):
            run(data=data, model=Silent())


def test_regression_targets_are_refused_before_training():
    values = TensorDataset(TRAIN.tensors[0], TRAIN.tensors[0].sum(dim=1))
    with pytest.raises(InvalidLabelError, match="Regression targets are not supported"):
        run(data=ActiveDataModule(values, initial_labels=START))


def test_a_model_without_features_is_refused_before_training():
    with pytest.raises(Exception, match="`features` to name"):
        run(RandomSampler(), features="nowhere")  # the sampler alone needs none


@pytest.mark.parametrize("value", [0.5, "yes", PseudoLabels])
def test_anything_but_a_rule_is_refused(value):
    with pytest.raises(InvalidTypeError, match="`pseudo_labels`"):
        ActiveLearning(pseudo_labels=value)


def test_an_unknown_number_of_classes_does_not_matter():
    active, data, _ = run(features="body")
    assert data.num_classes is None and active.history[2].metrics["active/n_pseudo_labelled"] > 40


def test_true_means_the_defaults():
    assert ActiveLearning(pseudo_labels=True).pseudo_labels == PseudoLabels()


@pytest.mark.parametrize("flag", [{"fast_dev_run": True}, {"overfit_batches": 1}])
def test_rehearsals(flag):
    active, data, _ = run(trainer=flag)
    assert len(active.history) == 0 and len(data.labelled_indices) == 8


def test_a_cold_start_has_none_before_anything_has_trained():
    look = Look()
    run(DiffusionSampler(), data=make_data(initial_labels=0), callbacks=[look], max_rounds=3)
    assert look.chosen[0] is None and len(look.places[0]) == 6
    assert all(chosen is not None for chosen in look.chosen[1:])


@pytest.mark.parametrize(
    ("settings", "model_checkpoint"), [({"reset": "warm"}, False), ({"reset": 0.5}, False), ({"weights": "best"}, True)]
)
def test_one_trainer_a_round_gives_the_same(settings, model_checkpoint, tmp_path):
    def start(folder):
        torch.manual_seed(1)
        monitor = [pl_callbacks.ModelCheckpoint(folder, monitor="val_loss")] if model_checkpoint else []
        chosen = {"query_size": 6, "seed": 3, "pseudo_labels": RULE, "run_dir": False, "max_rounds": 2} | settings
        return Net(), make_data(), ActiveLearning(DiffusionSampler(), **chosen), Look(), monitor

    options = {"enable_checkpointing": model_checkpoint}
    model, data, active, look, monitor = start(tmp_path / "one")
    quiet_trainer([active, look, *monitor], **options).fit(model, datamodule=data)
    model, data, fresh, again, _ = start(tmp_path / "many")

    def make_trainer(round_):
        own = [pl_callbacks.ModelCheckpoint(tmp_path / f"many{round_}", monitor="val_loss")] if model_checkpoint else []
        return quiet_trainer([again, *own], **options)

    fit_rounds(make_trainer, model, data, fresh)
    assert look.places == again.places and look.losses == again.losses
    assert all(map(same_weights, look.weights, again.weights))
    assert len(look.places[2]) > 60


# -------------------------------------------------------------------------------------------------------- going on


def checkpoints_of(folder):
    return pl_callbacks.ModelCheckpoint(folder, filename="{round}-{step}", every_n_train_steps=3, save_top_k=-1)


@pytest.mark.parametrize(
    ("sampler", "reset"), [pytest.param(RandomSampler, "initial", marks=pytest.mark.slow), (DiffusionSampler, "warm")]
)
def test_every_checkpoint_leads_to_the_same_end(tmp_path, sampler, reset):
    at_steps, at_ends = checkpoints_of(tmp_path / "c"), pl_callbacks.ModelCheckpoint(tmp_path / "c", save_top_k=-1)
    look, options = Look(), {"enable_checkpointing": True}
    settings = {"reset": reset, "max_rounds": 2, "run_dir": tmp_path / "run"}
    active, _, model = run(sampler(), callbacks=[look, at_steps, at_ends], trainer=options, **settings)
    paths = sorted((tmp_path / "c").glob("*.ckpt"))
    rounds = {path.name[:7] for path in paths}
    assert rounds == {"round=0", "round=1", "round=2"}
    for path in [p for p in paths if p.name[:7] != "round=0"][::23] + paths[:1]:
        contents = torch.load(path, weights_only=True)["active_learning"]
        assert (contents["pseudo_labels"] is None) == (contents["round"] == 0)
        for on_journal in ("replay", "branch"):
            resumed, _, other = run(
                sampler(),
                model=Net(),
                data=make_data(initial_labels=0),
                ckpt_path=path,
                trainer=options | {"default_root_dir": tmp_path / "again"},
                **settings
                | {"on_journal_ahead": on_journal, "run_dir": None if on_journal == "branch" else tmp_path / "run"},
            )
            assert same_weights(model.state_dict(), other.state_dict()), path
            assert records_equal(active.history, resumed.history), path


def test_checkpoints_from_before_pseudo_labels_still_load(tmp_path):
    settings = {"trainer": {"enable_checkpointing": True}, "pseudo_labels": False}
    _, _, model = run(callbacks=[checkpoints_of(tmp_path)], **settings)
    path = sorted(tmp_path.glob("round=1-*.ckpt"))[1]
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["active_learning"]["pseudo_labels"]
    torch.save(checkpoint, path)
    _, _, other = run(model=Net(), data=make_data(initial_labels=0), ckpt_path=path, **settings)
    assert same_weights(model.state_dict(), other.state_dict())
    look = Look()  # with pseudo-labels from now on: in the rounds that begin from here
    run(data=make_data(initial_labels=0), ckpt_path=path, callbacks=[look], trainer=settings["trainer"])
    assert look.chosen[0] is None and len(look.chosen[1]["indices"]) > 40


def test_found_by_id_in_a_reordered_data_set(tmp_path):
    names = [f"point {i}" for i in range(120)]
    run(
        data=make_data(ids=names),
        callbacks=[checkpoints_of(tmp_path)],
        trainer={"enable_checkpointing": True},
    )
    path = sorted(tmp_path.glob("round=1-*.ckpt"))[1]
    saved = torch.load(path, weights_only=True)["active_learning"]["pseudo_labels"]
    pseudo = {names[i]: label for i, label in zip(saved["indices"].tolist(), saved["labels"].tolist(), strict=True)}
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    there = [names[i] for i in order.tolist()]
    data = ActiveDataModule(
        TensorDataset(*(part[order] for part in TRAIN.tensors)), val_dataset=VAL, batch_size=4, ids=there
    )
    look = Look()
    run(data=data, ckpt_path=path, callbacks=[look], trainer={"enable_checkpointing": True}, max_rounds=1)
    joined = {there[p]: int(y) for p, (_, y) in zip(look.places[0], look.items[0], strict=True)}
    known = {there[p] for p in look.labelled[0]}
    beside = {name: label for name, label in joined.items() if name not in known}
    assert len(beside) > 20 and beside.items() <= pseudo.items()


def test_a_round_goes_on_from_the_middle_with_the_points_it_had(tmp_path):
    first, look, options = Look(), Look(), {"enable_checkpointing": True}
    run(callbacks=[first, checkpoints_of(tmp_path)], trainer=options, max_rounds=1)
    path = sorted(tmp_path.glob("round=1-*.ckpt"))[1]
    settings = {"ckpt_path": path, "on_interrupted_round": "continue", "max_rounds": 1, "trainer": options}
    run(data=make_data(initial_labels=0), callbacks=[look], **settings)
    assert look.places == first.places[1:] and len(look.losses[0]) < len(first.losses[1])


@pytest.mark.parametrize("again", ["same objects", "new process"])
def test_answers_that_come_later(tmp_path, again):
    """A fit that ends waiting, and one that goes on, train as one that had all answers at once."""
    straight = Look()
    run(DiffusionSampler(), callbacks=[straight], run_dir=tmp_path / "a")

    class Slow:
        patient = False

        def __call__(self, indices, items):
            return [int(y) if self.patient else PENDING for _, y in items]

    oracle, look = Slow(), Look()
    settings = {"oracle": oracle, "run_dir": tmp_path / "b", "callbacks": [look]}
    active, data, model = run(DiffusionSampler(), **settings)
    assert active.history[-1].stop_reason.startswith("waiting") and len(look.weights) == 1
    oracle.patient = True
    if again == "same objects":
        quiet_trainer([active, look]).fit(model, datamodule=data)
    else:
        run(DiffusionSampler(), data=make_data(initial_labels=0), **settings)
    assert all(map(same_weights, straight.weights, look.weights)) and straight.places == look.places


def test_more_rounds_go_on(tmp_path):
    straight, look = Look(), Look()
    run(DiffusionSampler(), callbacks=[straight])
    active, data, model = run(DiffusionSampler(), callbacks=[look], max_rounds=1)
    active.max_rounds = 2
    quiet_trainer([active, look]).fit(model, datamodule=data)
    assert all(map(same_weights, straight.weights, look.weights))


def test_a_failed_choice_loses_nothing(monkeypatch):
    from lightning_diffal.run import pseudo_labels

    straight, look, data = Look(), Look(), make_data()
    run(callbacks=[straight])
    torch.manual_seed(1)
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=2, seed=3, pseudo_labels=RULE, run_dir=False)
    model, trainer = Net(), quiet_trainer([active, look])
    with monkeypatch.context() as patch:
        patch.setattr(pseudo_labels, "choose_pseudo_labels", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainer.fit(model, datamodule=data)
    assert len(data.labelled_indices) == 14 and len(active.history) == 1
    trainer.fit(model, datamodule=data)
    assert all(map(same_weights, straight.weights, look.weights)) and straight.places == look.places


def test_there_are_none_while_labels_are_few():
    look = Look()
    run(callbacks=[look], pseudo_labels=replace(RULE, min_labels=15))
    assert look.chosen[0] is None  # 8 labels
    assert look.chosen[1] is None  # 14
    assert len(look.chosen[2]["indices"])  # 20
    few = Look()
    run(data=make_data(num_classes=3), callbacks=[few], pseudo_labels=replace(RULE, min_labels=None))
    assert [chosen is None for chosen in few.chosen] == [True, False, False]  # from 12 on, four a class
