"""What every round starts from lies once in the run's folder, and checkpoints find it there or say that it is gone."""

import shutil
from pathlib import Path

import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.exceptions import ResumeError
from lightning_diffal.history.folder import INITIAL, STATE
from lightning_diffal.history.history import records_equal
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, pl_callbacks, quiet_trainer


def run(root, ckpt_path=None, *, seed=1, max_rounds=2, name="checkpoints", **settings):
    torch.manual_seed(seed)
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=[90, 3, 41, 17], batch_size=4)
    settings = {"query_size": 6, "seed": 3} | settings
    active = ActiveLearning(RandomSampler(), max_rounds=max_rounds, **settings)
    saves = pl_callbacks.ModelCheckpoint(root / name, filename="{round}-{epoch}", save_top_k=-1)
    trainer = quiet_trainer([active, saves], max_epochs=2, default_root_dir=root, enable_checkpointing=True)
    model = Net("none")
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return active, model


def same(a, b):
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.fixture
def straight(tmp_path):
    return run(tmp_path)


def checkpoint(root, place="round=1-epoch=0"):
    return root / "checkpoints" / f"{place}.ckpt"


def folder_of(root):
    (found,) = (root / "active").iterdir()
    return found


def test_a_checkpoint_holds_weights_and_labels_once(tmp_path, straight):
    saved = torch.load(checkpoint(tmp_path), weights_only=True)
    run_ = saved["active_learning"]
    assert run_["initial_weights"] is None and run_["initial_weights_beside"]
    assert run_["data"]["pool"] is saved["ActiveDataModule"]["pool"]
    kept = torch.load(folder_of(tmp_path) / INITIAL, weights_only=True)
    assert kept["id"] == run_["initial_weights_beside"] and kept["weights"].keys() == saved["state_dict"].keys()


@pytest.mark.parametrize("settings", [{}, {"on_journal_ahead": "branch"}, {"run_dir": False}, {"reset": "warm"}])
@pytest.mark.parametrize("place", ["round=0-epoch=1", "round=1-epoch=0"])
def test_it_resumes_with_the_weights_of_the_folder(settings, place, tmp_path):
    reset = {"reset": settings.get("reset", "initial")}
    active, model = run(tmp_path, **reset)
    again, other = run(tmp_path, checkpoint(tmp_path, place), seed=99, name="again", **settings)
    assert records_equal(active.history, again.history) and same(model, other)


def test_without_a_folder_a_checkpoint_holds_them_itself(tmp_path):
    active, model = run(tmp_path, run_dir=False)
    saved = torch.load(checkpoint(tmp_path), weights_only=True)["active_learning"]
    assert saved["initial_weights"] and "initial_weights_beside" not in saved
    again, other = run(tmp_path, checkpoint(tmp_path), seed=99, name="again", run_dir=False)
    assert records_equal(active.history, again.history) and same(model, other)


def test_a_folder_that_was_moved_is_given_and_one_that_is_gone_is_named(tmp_path, straight):
    then = folder_of(tmp_path)
    shutil.move(then, tmp_path / "moved")
    with pytest.raises(ResumeError, match=rf"starts from are in its folder .* {then / INITIAL} is not there: give"):
        run(tmp_path, checkpoint(tmp_path), seed=99, name="none")
    assert not then.exists()  # so that it can be put back
    active, model = straight
    again, other = run(tmp_path, checkpoint(tmp_path), seed=99, name="again", run_dir=tmp_path / "moved")
    assert records_equal(active.history, again.history) and same(model, other)


def test_a_run_that_was_started_again_does_not_lend_its_weights(tmp_path):
    run(tmp_path, run_dir=tmp_path / "run")
    (tmp_path / "run" / STATE).unlink()  # as the error for a damaged one says
    run(tmp_path, seed=5, name="anew", run_dir=tmp_path / "run")
    with pytest.raises(ResumeError, match=r"initial\.ckpt was written anew since"):
        run(tmp_path, checkpoint(tmp_path), name="old", run_dir=tmp_path / "run")
    active, _ = run(tmp_path, Path(tmp_path / "anew" / "round=1-epoch=0.ckpt"), run_dir=tmp_path / "run", name="b")
    assert [record.n_labelled for record in active.history] == [4, 10, 16]


def test_a_state_that_is_gone_leaves_them_to_older_checkpoints(tmp_path):
    active, model = run(tmp_path, run_dir=tmp_path / "run")
    (tmp_path / "run" / STATE).unlink()
    for name in ("first", "second"):
        again, other = run(tmp_path, checkpoint(tmp_path), seed=99, name=name, run_dir=tmp_path / "run")
        assert records_equal(active.history, again.history) and same(model, other)
