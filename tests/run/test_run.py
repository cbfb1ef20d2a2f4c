"""A run through a real Trainer: who is labelled, what is asked, when it ends."""

import datetime
import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler, Query, QuerySampler
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, Snapshots, pl, quiet_trainer, same_weights

START = [90, 3, 41, 63, 17, 119]


def make_data(**kwargs):
    return ActiveDataModule(
        TRAIN, **{"val_dataset": VAL, "test_dataset": VAL, "initial_labels": START, "batch_size": 6} | kwargs
    )


def run(active, data=None, model=None, callbacks=(), **kwargs):
    data, model = data or make_data(), model or Net("none")
    trainer = quiet_trainer([active, *callbacks], **kwargs)
    trainer.fit(model, datamodule=data)
    return trainer, model, data


def test_each_round_trains_on_what_was_asked_before():
    seen = []

    class Watching(Net):
        def training_step(self, batch, batch_idx):
            if self.current_epoch == 0:
                seen[-1].append(batch[0])
            return super().training_step(batch, batch_idx)

        def on_train_start(self):
            seen.append([])

    active = ActiveLearning(DiffusionSampler(), query_size=5, max_rounds=3)
    _, _, data = run(active, model=Watching())
    expected = np.array(sorted(START))
    for record, batches in zip(active.history, seen, strict=True):
        np.testing.assert_array_equal(record.labelled, expected)
        trained_on = {tuple(row.tolist()) for row in torch.cat(batches)}
        assert trained_on == {tuple(TRAIN.tensors[0][i].tolist()) for i in expected}
        if record.query is None:
            continue
        assert len(set(record.query.indices.tolist()) & set(expected.tolist())) == 0
        expected = np.union1d(expected, record.query.indices)
    assert [r.n_labelled for r in active.history] == [6, 11, 16, 21]
    assert active.history[-1].query is None
    np.testing.assert_array_equal(data.labelled_indices, expected)
    np.testing.assert_array_equal(data.pool_indices, np.setdiff1d(np.arange(120), expected))
    np.testing.assert_array_equal(data.labels, TRAIN.tensors[1][torch.from_numpy(expected)])
    assert len(data.pending_indices) == 0


def test_sampler_sees_the_whole_data_set_and_no_hidden_label():
    class Spy(QuerySampler):
        requires = frozenset({"features", "probabilities"})
        seen = []

        def select(self, data, query_size, generator):
            self.seen.append(data)
            return Query(data.candidates[-query_size:][::-1], np.arange(query_size))

    spy = Spy()
    active = ActiveLearning(spy, query_size=4, max_rounds=2)
    _, model, _ = run(active)
    assert len(spy.seen) == 2
    for data, record in zip(spy.seen, active.history, strict=False):
        assert data.features.shape == (120, 6) and data.features.dtype == np.float32
        assert data.probabilities.shape == (120, 3)
        np.testing.assert_allclose(data.probabilities.sum(1), 1, atol=1e-5)
        np.testing.assert_array_equal(data.labelled, record.labelled)
        np.testing.assert_array_equal(data.labels, TRAIN.tensors[1][record.labelled])
        assert data.num_classes == 3
    assert active.history[0].query.indices.tolist() == [118, 117, 116, 115]
    assert active.history[1].query.indices.tolist() == [114, 113, 112, 111]
    model.eval()
    with torch.no_grad():
        assert not torch.equal(torch.from_numpy(spy.seen[0].features), model.body(TRAIN.tensors[0]))


def test_features_are_those_of_the_model_at_the_end_of_the_round():
    class Spy(QuerySampler):
        requires = frozenset({"features"})

        def select(self, data, query_size, generator):
            self.features = np.array(data.features)
            return Query(data.candidates[:query_size], np.zeros(query_size))

    class Keep(pl.Callback):
        expected = None

        def on_round_end(self, trainer):
            module = trainer.lightning_module
            if self.expected is None:
                modes = [m.training for m in module.modules()]
                module.eval()
                with torch.no_grad():
                    self.expected = module.body(TRAIN.tensors[0]).numpy()
                for part, training in zip(module.modules(), modes, strict=True):
                    part.training = training

    spy, keep = Spy(), Keep()
    run(ActiveLearning(spy, query_size=4, max_rounds=1), callbacks=[keep])
    np.testing.assert_allclose(spy.features, keep.expected, atol=1e-6)


def test_feature_pass_leaves_modes_and_random_state_alone():
    class Frozen(Net):
        def on_fit_start(self):
            self.body[1].eval()  # a user's frozen batch norm

    states = []

    class Watch(QuerySampler):
        requires = frozenset({"features"})

        def select(self, data, query_size, generator):
            states.append((torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()))
            return Query(data.candidates[:query_size], np.zeros(query_size))

    class Before(pl.Callback):
        def on_round_end(self, trainer):
            self.modes = {n: m.training for n, m in trainer.lightning_module.named_modules()}
            self.state = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())

        def on_round_start(self, trainer):
            if trainer.lightning_module.trainer.callback_metrics["round"] > 0:
                assert self.modes == {n: m.training for n, m in trainer.lightning_module.named_modules()}
                self.checked = True

    class Augmented(TensorDataset):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x + torch.randn(8) + np.random.rand() + random.random(), y

    before = Before()
    data = make_data()
    data.train_dataset = Augmented(*TRAIN.tensors)
    run(ActiveLearning(Watch(), query_size=4, max_rounds=2), data, Frozen(), [before])
    assert before.checked and not before.modes["body.1"] and before.modes["body.3"]
    assert torch.equal(states[-1][0], states[-1][0]) and len(states) == 2


def test_random_state_after_a_query_is_that_before_it():
    class Ends(pl.Callback):
        def on_round_end(self, trainer):
            self.after_training = torch.get_rng_state()

        def on_round_start(self, trainer):
            if hasattr(self, "after_training"):
                assert torch.equal(self.after_training, torch.get_rng_state())
                self.compared = True

    ends = Ends()
    run(ActiveLearning(DiffusionSampler(), query_size=4, max_rounds=1, test_each_round=True), callbacks=[ends])
    assert ends.compared


def test_augmentation_does_not_reach_the_feature_pass():
    class Augmented(Dataset):
        def __len__(self):
            return 120

        def __getitem__(self, index):
            x, y = TRAIN[index]
            return x * 1000, y

    class Spy(DiffusionSampler):
        def select(self, data, query_size, generator):
            self.features = data.features
            return super().select(data, query_size, generator)

    class Identity(Net):
        def forward(self, x):
            self.inputs = x
            return super().forward(x)

        def on_after_batch_transfer(self, batch, dataloader_idx):
            return (batch[0] + 5000, batch[1]) if self.trainer.training else batch

    data = ActiveDataModule(Augmented(), pool_dataset=TRAIN, initial_labels=START, batch_size=120)
    model = Identity("none")
    inputs = []
    model.head.register_forward_hook(lambda *_: inputs.append((model.training, model.inputs.detach().clone())))
    run(ActiveLearning(Spy(), query_size=4, max_rounds=1), data, model, max_epochs=1)
    passes = [x for training, x in inputs if not training and len(x) == 120]
    assert len(passes) == 1 and torch.equal(passes[0], TRAIN.tensors[0])
    assert all(x.abs().max() > 4000 for training, x in inputs if training)


def test_cold_start_asks_first():
    active = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=3)
    _, _, data = run(active, make_data(initial_labels=0))
    assert [r.n_labelled for r in active.history] == [0, 6, 12, 18]
    first = active.history[0]
    assert first.metrics == {} and len(first.query) == 6 and active.history[1].metrics
    assert data.labelled_indices.tolist() != list(range(18))


def test_cold_start_with_schedules_that_ask_for_the_length(tmp_path):
    active = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=2)
    model = Net("onecycle")
    run(active, make_data(initial_labels=0), model)
    assert [r.n_labelled for r in active.history] == [0, 6, 12]


def test_cold_start_equals_fit_on_the_first_query():
    snapshots, model = Snapshots(), Net("onecycle")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    active = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=1, seed=4)
    run(active, make_data(initial_labels=0), model, [snapshots])
    alone = Net("onecycle")
    alone.load_state_dict(before)
    record = active.history[1]
    pl.seed_everything(record.seed)
    quiet_trainer().fit(alone, datamodule=make_data(initial_labels=record.labelled.tolist()))
    assert same_weights(snapshots.weights[0], alone.state_dict())


def test_last_query_takes_what_is_left():
    train = TensorDataset(*(t[:20] for t in TRAIN.tensors))
    data = ActiveDataModule(train, initial_labels=[2, 9], batch_size=4)
    active = ActiveLearning(DiffusionSampler(), query_size=8, max_rounds=10)
    run(active, data, max_epochs=1)
    assert [r.n_labelled for r in active.history] == [2, 10, 18, 20]
    assert active.history[-1].stop_reason == "the pool is empty" and len(data.pool_indices) == 0


def test_budget_cuts_the_last_query():
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=None, budget=10)
    run(active, max_epochs=1)
    assert [r.n_labelled for r in active.history] == [6, 10, 14, 16]
    assert active.history[-1].stop_reason == "budget=10 spent"


def test_max_time_ends_the_run_after_a_round():
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=5, max_time=datetime.timedelta(0))
    run(active, max_epochs=1)
    assert len(active.history) == 1 and "max_time" in active.history[-1].stop_reason


def test_stop_and_stopping_rules():
    def enough(history):
        return "enough" if history[-1].n_labelled >= 14 else None

    active = ActiveLearning(RandomSampler(), query_size=4, stopping=enough)
    run(active, max_epochs=1)
    assert active.history[-1].n_labelled == 14 and active.history[-1].stop_reason == "enough"

    class Stop(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            ActiveLearning.from_trainer(trainer).stop("seen enough")

    active = ActiveLearning(RandomSampler(), query_size=4)
    run(active, callbacks=[Stop()], max_epochs=1)
    assert len(active.history) == 1 and active.history[-1].stop_reason == "seen enough"


def test_fit_again_continues_and_without_more_rounds_does_nothing():
    straight = ActiveLearning(DiffusionSampler(), query_size=4, max_rounds=3, seed=5)
    torch.manual_seed(1)
    _, expected, _ = run(straight)

    active = ActiveLearning(DiffusionSampler(), query_size=4, max_rounds=1, seed=5)
    torch.manual_seed(1)
    trainer, model, data = run(active)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    trainer.fit(model, datamodule=data)
    assert len(active.history) == 2 and same_weights(weights, model.state_dict())
    assert active.history[-1].stop_reason == "max_rounds=1 reached"
    active.max_rounds = 3
    trainer.fit(model, datamodule=data)
    assert [r.n_labelled for r in active.history] == [6, 10, 14, 18]
    assert same_weights(expected.state_dict(), model.state_dict())
    for a, b in zip(straight.history, active.history, strict=True):
        np.testing.assert_array_equal(a.labelled, b.labelled)
        assert a.metrics == b.metrics
    active.max_rounds = 4
    quiet_trainer([active]).fit(model, datamodule=data)  # a new Trainer goes on as well
    assert active.history[-1].n_labelled == 22


def test_same_seed_same_picks_whatever_the_workers():
    picks = []
    for workers in (0, 2):
        torch.manual_seed(1)
        active = ActiveLearning(DiffusionSampler(), query_size=4, max_rounds=2, seed=5)
        run(active, make_data(num_workers=workers), max_epochs=1)
        picks.append([r.query.indices.tolist() for r in active.history if r.query])
    assert picks[0] == picks[1] and len(picks[0]) == 2


def test_another_model_or_data_module_is_refused():
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=1)
    _, model, data = run(active, max_epochs=1)
    active.max_rounds = 2
    with pytest.raises(ConfigurationError, match="another model or data module"):
        run(active, data, Net("none"))
    with pytest.raises(ConfigurationError, match="another model or data module"):
        run(active, make_data(), model)
    assert len(active.history) == 2


def test_validate_test_predict_change_nothing():
    data, model, active = make_data(), Net("none"), ActiveLearning(RandomSampler(), query_size=4, max_rounds=1)
    trainer = quiet_trainer([active])

    def look():
        trainer.validate(model, datamodule=data)
        (tested,) = trainer.test(model, datamodule=data)
        predicted = trainer.predict(model, datamodule=data)
        return tested, predicted

    look()
    assert data.labelled_indices.tolist() == sorted(START) and len(active.history) == 0
    trainer.fit(model, datamodule=data)
    labelled = data.labelled_indices.tolist()
    tested, predicted = look()
    assert data.labelled_indices.tolist() == labelled and len(labelled) == 10 and "test_acc" in tested
    assert len(torch.cat(predicted)) == 120
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(predicted), model.eval()(TRAIN.tensors[0]))
