"""Settings and machines that changed while a run was away are named."""

import warnings

import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.run.resuming import sameness
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, pl_callbacks, quiet_trainer

CHANGES = {
    "batch_size": ({"batch_size": 8}, {}, "batch_size=4 and goes on with batch_size=8"),
    "max_epochs": ({}, {"max_epochs": 3}, "max_epochs=2 and goes on with max_epochs=3"),
    "precision": ({}, {"precision": "bf16-mixed"}, "precision=32-true and goes on with precision=bf16-mixed"),
    "accumulate": ({}, {"accumulate_grad_batches": 2}, "accumulate_grad_batches=1 and goes on with"),
}


def run(folder, data=None, ckpt_path=None, **settings):
    torch.manual_seed(1)
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=[90, 3, 41, 17], **{"batch_size": 4} | (data or {}))
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=1, seed=3, run_dir=folder / "run")
    saves = pl_callbacks.ModelCheckpoint(folder / "checkpoints", save_top_k=-1, filename="{round}-{epoch}")
    trainer = quiet_trainer([active, saves], enable_checkpointing=True, **settings)
    trainer.fit(Net(), datamodule=data, ckpt_path=ckpt_path)


@pytest.mark.parametrize("how", ["folder", "checkpoint"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_named(how, change, tmp_path):
    data, settings, message = CHANGES[change]
    run(tmp_path)
    path = tmp_path / "checkpoints" / "round=0-epoch=0.ckpt" if how == "checkpoint" else None
    with pytest.warns(UserWarning, match=message):
        run(tmp_path, data, path, **settings)


@pytest.mark.parametrize("how", ["folder", "checkpoint"])
def test_another_machine_is_named_and_the_same_one_is_not(how, tmp_path, monkeypatch):
    run(tmp_path)
    path = tmp_path / "checkpoints" / "round=0-epoch=0.ckpt" if how == "checkpoint" else None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(tmp_path, ckpt_path=path)
    assert not any("This run began with" in str(warning.message) for warning in caught)
    other = {**sameness.environment(), "threads": "64", "torch": "9.9"}
    monkeypatch.setattr(sameness, "environment", lambda: other)
    with pytest.warns(UserWarning, match=r"began with torch .* \(now 9\.9\), threads 1 \(now 64\): it goes on"):
        run(tmp_path, ckpt_path=path)
