"""One Trainer a round gives the picks, weights and history of the callback on one Trainer."""

import numpy as np
import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.fresh_trainers import fit_rounds
from lightning_diffal.samplers import BALDSampler, EntropySampler, RandomSampler
from tests.helpers import TRAIN, VAL, Net, Snapshots, blobs, pl_callbacks, quiet_trainer, same_weights


def make_data(**kwargs):
    settings = {"val_dataset": VAL, "test_dataset": VAL, "initial_labels": [90, 3, 41, 17], "batch_size": 4}
    return ActiveDataModule(TRAIN, **settings | kwargs)


def early_stopping():
    return [pl_callbacks.EarlyStopping("val_loss", patience=1, min_delta=0.05)]


@pytest.mark.parametrize(
    ("sampler", "schedule", "callbacks", "settings"),
    [
        (DiffusionSampler, "step", list, {}),
        (DiffusionSampler, "onecycle", list, {"precision": "bf16-mixed"}),
        (EntropySampler, "none", early_stopping, {"max_epochs": 12}),
        (BALDSampler, "plateau", list, {"max_epochs": -1, "max_steps": 10}),
        (RandomSampler, "step", list, {"reload_dataloaders_every_n_epochs": 1}),
    ],
)
@pytest.mark.parametrize("reset", ["initial", "warm"])
@pytest.mark.parametrize("initial", [[90, 3, 41, 17], 0])
def test_same_as_on_one_trainer(sampler, schedule, callbacks, settings, reset, initial):
    def start():
        torch.manual_seed(1)
        active = ActiveLearning(
            sampler(), query_size=6, max_rounds=2, seed=3, reset=reset, test_each_round=True, run_dir=False
        )
        return Net(schedule), make_data(initial_labels=initial), active, Snapshots()

    model, data, active, snapshots = start()
    quiet_trainer([active, snapshots, *callbacks()], **settings).fit(model, datamodule=data)
    again, other, fresh, fresh_snapshots = start()
    history = fit_rounds(lambda _: quiet_trainer([fresh_snapshots, *callbacks()], **settings), again, other, fresh)
    assert history is fresh.history and len(history) == 3
    for a, b in zip(active.history, history, strict=True):
        assert (a.round, a.seed, a.metrics, a.stop_reason) == (b.round, b.seed, b.metrics, b.stop_reason)
        np.testing.assert_array_equal(a.labelled, b.labelled)
        assert (a.query is None) == (b.query is None)
        if a.query is not None:
            np.testing.assert_array_equal(a.query.indices, b.query.indices)
            np.testing.assert_array_equal(a.query.scores, b.query.scores)
    assert snapshots.losses == fresh_snapshots.losses
    assert all(same_weights(a, b) for a, b in zip(snapshots.weights, fresh_snapshots.weights, strict=True))


def test_goes_on_from_its_folder(tmp_path):
    def run(max_rounds, folder, data):
        active = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=max_rounds, seed=3, run_dir=folder)
        torch.manual_seed(1)
        model = Net()
        return fit_rounds(lambda _: quiet_trainer(), model, data, active), model

    expected, straight = run(3, tmp_path / "a", make_data())
    run(1, tmp_path / "b", make_data())
    history, model = run(3, tmp_path / "b", make_data(initial_labels=0))
    assert [r.labelled.tolist() for r in history] == [r.labelled.tolist() for r in expected]
    assert same_weights(straight.state_dict(), model.state_dict())


def test_data_sets_made_in_setup():
    class Mine(ActiveDataModule):
        def setup(self, stage):
            self.train_dataset, self.val_dataset = blobs(), VAL

    active = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=1)
    history = fit_rounds(lambda _: quiet_trainer(), Net(), Mine(initial_labels=10, batch_size=4), active)
    assert [r.n_labelled for r in history] == [10, 16]
    assert "predict_step" not in vars(Net())


@pytest.mark.parametrize(
    ("make_trainer", "message"),
    [
        (lambda _: quiet_trainer([ActiveLearning()]), "must not add"),
        (lambda _: quiet_trainer(fast_dev_run=True), "not as a dry run"),
    ],
)
def test_trainers_that_cannot_be_used(make_trainer, message):
    with pytest.raises(ConfigurationError, match=message):
        fit_rounds(make_trainer, Net(), make_data(), ActiveLearning())
