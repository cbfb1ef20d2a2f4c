"""Pseudo-labels and loaders of the user's own; what is refused before training."""

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset
from torch.utils.data import RandomSampler as RandomPoints

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler, PseudoLabels
from lightning_diffal.data.left_over import LeftOverBatchSampler
from lightning_diffal.exceptions import ConfigurationError, InvalidLabelError, InvalidTypeError, LoaderMismatchError
from lightning_diffal.fresh_trainers import fit_rounds
from lightning_diffal.history.history import records_equal
from lightning_diffal.oracle import PENDING
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, pl_callbacks, quiet_trainer, same_weights
from tests.run.asking.test_pseudo_rounds import RULE, START, TRUTH, Look, make_data, run


class Own(ActiveDataModule):
    goes_over = "training_dataset"

    def train_dataloader(self):
        dataset = getattr(self, self.goes_over)
        return DataLoader(dataset, batch_sampler=LeftOverBatchSampler(RandomPoints(dataset), 4, False))


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


def test_a_number_of_classes_that_is_not_given_does_not_matter():
    active, data, _ = run(features="body")
    assert data.num_classes == 3 and active.history[2].metrics["active/n_pseudo_labelled"] > 40


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
    from lightning_diffal.run.asking import pseudo_labels

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
    assert [chosen is None for chosen in few.chosen] == [True, False, False]  # from 12 on, four per class
