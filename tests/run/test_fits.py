"""Fits beside the plain ones: rehearsals, wrapped data modules, oracles, best weights, finders."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_diffal import ActiveDataModule, ActiveLearning, ActiveLearningLoop, DiffusionSampler, Query, QuerySampler
from lightning_diffal.exceptions import ConfigurationError, InvalidIndexError
from lightning_diffal.fresh_trainers import fit_rounds
from lightning_diffal.history.history import records_equal
from lightning_diffal.oracle import PENDING
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, Snapshots, blobs, pl, pl_callbacks, quiet_trainer, same_weights
from tests.run.test_run import START, make_data, run


@pytest.mark.parametrize("flag", [{"fast_dev_run": True}, {"overfit_batches": 1}, {"overfit_batches": 0.5}])
@pytest.mark.parametrize("initial", [START, 0])
def test_rehearsals_buy_no_label(flag, initial):
    def forbidden(indices, items):
        raise AssertionError("a rehearsal asked for labels")

    active = ActiveLearning(DiffusionSampler(), query_size=4, max_rounds=2, oracle=forbidden)
    _, model, data = run(active, make_data(initial_labels=initial, batch_size=3), **flag)
    assert len(data.labelled_indices) == len(initial or []) and len(data.pending_indices) == 0
    assert len(active.history) == 0
    active.oracle = ActiveLearning().oracle
    quiet_trainer([active]).fit(model, datamodule=data)  # and the run begins as if nothing had been
    assert [r.n_labelled for r in active.history] == [len(initial or []) + 4 * i for i in range(3)]


@pytest.mark.parametrize("waits", [False, True])
def test_rehearsals_leave_a_run_where_it_is(waits):
    answers = {"on": not waits}

    def slow(indices, items):
        return [int(y) if answers["on"] else PENDING for _, y in items]

    def play(rehearse):
        answers["on"] = not waits
        torch.manual_seed(2)
        active = ActiveLearning(DiffusionSampler(), query_size=5, max_rounds=1, oracle=slow, seed=4)
        _, model, data = run(active, model=Net(), max_epochs=1)
        pending = data.pending_indices.tolist()
        if rehearse:
            answers["on"] = True
            quiet_trainer([active], fast_dev_run=True).fit(model, datamodule=data)
            assert data.pending_indices.tolist() == pending and len(pending) == 5 * waits
            assert len(active.history) == 2 - waits
        answers["on"], active.max_rounds = True, 2
        quiet_trainer([active], max_epochs=1).fit(model, datamodule=data)
        return active, model

    (plain, model), (rehearsed, other) = play(False), play(True)
    assert [r.n_labelled for r in rehearsed.history] == [6, 11, 16]
    assert records_equal(plain.history, rehearsed.history) and same_weights(model.state_dict(), other.state_dict())


def test_attach_by_hand_is_idempotent():
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=2)
    trainer = quiet_trainer()
    loop = ActiveLearningLoop.attach(trainer, active)
    assert ActiveLearningLoop.attach(trainer, active) is loop and trainer.callbacks.count(active) == 1
    trainer.fit(Net("none"), datamodule=make_data())
    assert [r.n_labelled for r in active.history] == [6, 10, 14]
    with pytest.raises(ConfigurationError, match="another ActiveLearning"):
        ActiveLearningLoop.attach(trainer, ActiveLearning())
    with pytest.raises(ConfigurationError, match="another ActiveLearning"):
        quiet_trainer([ActiveLearning(), ActiveLearning()]).fit(Net("none"), datamodule=make_data())


def test_subclass_gives_data_sets_in_setup():
    class Mine(ActiveDataModule):
        def setup(self, stage):
            self.train_dataset, self.val_dataset, self.test_dataset = blobs(), VAL, VAL

        def train_dataloader(self):
            return DataLoader(self.labelled_dataset, batch_size=4, shuffle=True)

    active = ActiveLearning(DiffusionSampler(), query_size=4, max_rounds=2, test_each_round=True)
    run(active, Mine(initial_labels=START))
    assert [r.n_labelled for r in active.history] == [6, 10, 14]
    assert all(0 <= r.metrics["test_acc"] <= 1 for r in active.history)


def test_around_an_existing_data_module():
    class Plain(pl.LightningDataModule):
        def setup(self, stage):
            self.train, self.val = blobs(), VAL

        def train_dataloader(self):
            return DataLoader(self.train, batch_size=5, shuffle=True)

        def val_dataloader(self):
            return DataLoader(self.val, batch_size=20)

        test_dataloader = val_dataloader

    active = ActiveLearning(DiffusionSampler(), query_size=4, max_rounds=2, test_each_round=True)
    _, _, data = run(active, ActiveDataModule.from_datamodule(Plain(), initial_labels=START))
    assert [r.n_labelled for r in active.history] == [6, 10, 14] and data.batch_size == 5
    assert {"val_loss", "test_acc", "train_loss"} <= set(active.history[0].metrics)


@pytest.mark.filterwarnings("error:.*(across ranks is zero|have no `validation_step)")
@pytest.mark.parametrize("wrapped", [False, True])
def test_no_validation_set_is_no_reason_to_warn(wrapped):
    class Plain(pl.LightningDataModule):
        def train_dataloader(self):
            return DataLoader(TRAIN, batch_size=4)

    class NoValidation(Net):
        validation_step = pl.LightningModule.validation_step

    data = ActiveDataModule.from_datamodule(Plain(), initial_labels=8) if wrapped else make_data(val_dataset=None)
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=1)
    run(active, data, NoValidation("none"))
    assert len(active.history) == 2


def test_a_validation_set_given_later_counts():
    data = make_data(val_dataset=None)
    data.val_dataset = VAL
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=1)
    run(active, data)
    assert "val_loss" in active.history[0].metrics


def test_oracle_labels_replace_those_of_the_items():
    seen = {}

    class Watching(Net):
        def training_step(self, batch, batch_idx):
            for x, y in zip(*batch, strict=True):
                seen[tuple(x.tolist())] = int(y)
            return super().training_step(batch, batch_idx)

    active = ActiveLearning(
        RandomSampler(), query_size=4, max_rounds=2, oracle=lambda indices, items: [(int(y) + 1) % 3 for _, y in items]
    )
    _, _, data = run(active, model=Watching("none"))
    bought = np.setdiff1d(data.labelled_indices, START)
    assert len(bought) == 8
    for index in data.labelled_indices:
        x, y = TRAIN[index]
        assert seen[tuple(x.tolist())] == ((int(y) + 1) % 3 if index in bought else int(y))
        assert data.labels[data.labelled_indices == index] == seen[tuple(x.tolist())]


def test_missing_answers_end_the_fit_and_the_next_one_goes_on():
    answers = {"on": False}

    def slow(indices, items):
        return [int(y) if answers["on"] or place < 2 else PENDING for place, (_, y) in enumerate(items)]

    active = ActiveLearning(RandomSampler(), query_size=5, max_rounds=2, oracle=slow)
    trainer, model, data = run(active, max_epochs=1)
    assert len(active.history) == 1 and "waiting for answers to 3 of the 5" in active.history[-1].stop_reason
    assert len(data.pending_indices) == 3 and len(data.labelled_indices) == 8
    answers["on"] = True
    trainer.fit(model, datamodule=data)
    assert [r.n_labelled for r in active.history] == [6, 11, 16]
    assert len(data.pending_indices) == 0
    assert [r.stop_reason for r in active.history] == [None, None, "max_rounds=2 reached"]


def test_partial_answers_suffice_where_told():
    def partly(indices, items):
        return [int(items[0][1]), *[PENDING] * (len(indices) - 1)]

    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=2, oracle=partly, min_answers=1)
    _, _, data = run(active, max_epochs=1)
    assert [r.n_labelled for r in active.history] == [6, 7, 8] and len(data.pending_indices) == 6


def test_late_answers_are_taken_where_a_run_asks_no_more():
    answers = {"on": False}

    def partly(indices, items):
        return [int(y) if answers["on"] or place < 1 else PENDING for place, (_, y) in enumerate(items)]

    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=2, oracle=partly, min_answers=1)
    trainer, model, data = run(active, max_epochs=1)
    pending = data.pending_indices.tolist()
    answers["on"] = True
    trainer.fit(model, datamodule=data)
    assert [r.n_labelled for r in active.history] == [6, 7, 8] and active.history[-1].stop_reason.startswith(
        "max_rounds"
    )
    assert len(pending) == 6 and len(data.pending_indices) == 0 and set(pending) < set(data.labelled_indices)
    assert data.labels.tolist() == [int(TRAIN.tensors[1][i]) for i in data.labelled_indices]
    active.max_rounds = 3  # now they count
    trainer.fit(model, datamodule=data)
    assert [r.n_labelled for r in active.history] == [6, 7, 8, 18]


@pytest.mark.parametrize("fresh", [False, True])
def test_best_weights_without_validation(fresh, tmp_path):
    """What the checkpoint monitors may be a metric of training."""
    checkpoint = pl_callbacks.ModelCheckpoint(tmp_path, monitor="train_loss")
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=2, weights="best", run_dir=False)
    model, data = Net("none"), make_data(val_dataset=None)
    if fresh:
        fit_rounds(lambda _: quiet_trainer([checkpoint], enable_checkpointing=True), model, data, active)
    else:
        quiet_trainer([active, checkpoint], enable_checkpointing=True).fit(model, datamodule=data)
    assert [r.n_labelled for r in active.history] == [6, 10, 14]
    assert all("train_loss" in r.metrics and "val_loss" not in r.metrics for r in active.history)
    if not fresh:
        saved = torch.load(checkpoint.best_model_path, weights_only=True)
        assert same_weights(saved["state_dict"], model.state_dict())


def test_an_oracle_that_raises_loses_nothing():
    class Unplugged(RuntimeError):
        pass

    calls = []

    def broken(indices, items):
        calls.append(list(indices))
        if len(calls) == 2:
            raise Unplugged
        return [int(y) for _, y in items]

    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=3, oracle=broken)
    data, model = make_data(), Net("none")
    with pytest.raises(Unplugged):
        run(active, data, model, max_epochs=1)
    assert len(data.labelled_indices) == 10 and sorted(data.pending_indices) == sorted(calls[1])
    quiet_trainer([active], max_epochs=1).fit(model, datamodule=data)
    assert calls[2] == calls[1]
    assert [r.n_labelled for r in active.history] == [6, 10, 14, 18]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([0, 0, 1, 2], "different"),
        ([0, 1, 2], "asked for 4"),
        ([0, 1, 2, 3], "may not be asked"),
        ([0, 1, 2, 500], "may"),
    ],
)
def test_a_wrong_sampler_is_caught_before_anything_is_asked(chosen, message):
    class Wrong(QuerySampler):
        def select(self, data, query_size, generator):
            return Query(np.array(chosen), np.zeros(len(chosen)))

    data = make_data()
    with pytest.raises(InvalidIndexError, match=message):
        run(ActiveLearning(Wrong(), query_size=4, max_rounds=1), data, max_epochs=1)
    assert len(data.labelled_indices) == 6 and len(data.pending_indices) == 0


def test_hooks_of_rounds_reach_callbacks_module_and_data_module():
    calls = []

    class Told(Net):
        def on_round_start(self, trainer):
            calls.append(("module", "start"))
            trainer.fit_loop.max_epochs = 3

    class Data(ActiveDataModule):
        def on_round_end(self, trainer):
            calls.append(("data", len(ActiveLearning.from_trainer(trainer).history)))

    class Listen(pl.Callback):
        def on_round_start(self, trainer):
            calls.append(("callback", "start"))

    model = Told("none")
    data = Data(TRAIN, initial_labels=START, batch_size=6)
    run(ActiveLearning(RandomSampler(), query_size=4, max_rounds=1), data, model, [Listen()], max_epochs=1)
    assert calls == [("callback", "start"), ("module", "start"), ("data", 1)] + [
        ("callback", "start"),
        ("module", "start"),
        ("data", 2),
    ]
    assert {epoch for epoch, *_ in model.losses} == {0, 1, 2}


def test_learning_rate_finder_trains_beside_the_run(tmp_path):
    def weights(callbacks):
        torch.manual_seed(1)
        snapshots = Snapshots()
        active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=2, seed=3)
        run(active, callbacks=[snapshots, *callbacks], enable_checkpointing=True, default_root_dir=tmp_path)
        return snapshots.weights

    finder = pl_callbacks.LearningRateFinder(num_training_steps=5, update_attr=False)
    plain, found = weights([]), weights([finder])
    assert all(same_weights(a, b) for a, b in zip(plain, found, strict=True)) and len(plain) == 3


def test_learning_rate_finder_at_a_cold_start(tmp_path):
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=2, seed=3)
    finder = pl_callbacks.LearningRateFinder(num_training_steps=5)
    run(active, make_data(initial_labels=0), callbacks=[finder], enable_checkpointing=True, default_root_dir=tmp_path)
    assert [r.n_labelled for r in active.history] == [0, 6, 12]


def test_learning_rate_finder_waits_for_first_answers(tmp_path):
    """It trains in `on_fit_start`, where nobody has answered yet."""
    answers = {}
    finder = pl_callbacks.LearningRateFinder(num_training_steps=5)
    active = ActiveLearning(
        RandomSampler(),
        query_size=6,
        max_rounds=2,
        seed=3,
        oracle=lambda indices, items: [answers.get(int(i), PENDING) for i in indices],
    )
    data = make_data(initial_labels=0)
    settings = {"callbacks": [finder], "enable_checkpointing": True, "default_root_dir": tmp_path}
    trainer, model, _ = run(active, data, **settings)
    assert "waiting for answers" in active.history[-1].stop_reason and finder.optimal_lr is None
    for _ in range(2):
        answers.update((int(i), int(TRAIN.tensors[1][i])) for i in data.pending_indices)
        trainer.fit(model, datamodule=data)
    assert [r.n_labelled for r in active.history] == [0, 6, 12] and finder.optimal_lr is not None


@pytest.mark.parametrize("keeps", [{"save_top_k": 0}, {"monitor": None}])
def test_best_weights_need_a_checkpoint_that_keeps_them(keeps, tmp_path):
    checkpoint = pl_callbacks.ModelCheckpoint(tmp_path, **{"monitor": "val_loss", **keeps})
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=1, weights="best")
    with pytest.raises(ConfigurationError, match="`save_top_k` is not 0"):
        run(active, callbacks=[checkpoint], enable_checkpointing=True)


def test_best_weights_are_what_queries_and_metrics_use(tmp_path):
    checkpoint = pl_callbacks.ModelCheckpoint(tmp_path, monitor="val_loss")
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=1, weights="best", test_each_round=True)

    class Worse(Net):
        """Is best after the first epoch."""

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 30.0)]

    _, model, _ = run(active, model=Worse(), callbacks=[checkpoint], max_epochs=3, enable_checkpointing=True)
    saved = torch.load(checkpoint.best_model_path, weights_only=True)
    assert same_weights(saved["state_dict"], model.state_dict())
    assert active.history[-1].metrics["val_loss"] == pytest.approx(float(checkpoint.best_model_score))
    assert saved["epoch"] < 2
