"""What cannot work is refused before people label for it, and rounds without validation points do not fail."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal._lightning import pl_callbacks
from lightning_diffal.exceptions import ConfigurationError, LoaderMismatchError, StorageError
from lightning_diffal.fresh_trainers import fit_rounds
from lightning_diffal.oracle import FileOracle, LabelStudioOracle
from lightning_diffal.samplers import RandomSampler
from lightning_diffal.stopping import TargetMetric
from tests.helpers import TRAIN, VAL, Net, quiet_trainer

ITEMS = list(TRAIN.tensors[0])


class WholeSet(ActiveDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(*TRAIN.tensors), batch_size=4)


class Dropping(ActiveDataModule):
    def train_dataloader(self):
        return DataLoader(self.labelled_dataset, batch_size=32, drop_last=True)


class Balanced(ActiveDataModule):
    def train_dataloader(self):
        counts = torch.bincount(torch.as_tensor(self.labels), minlength=3)
        assert (counts > 0).sum() > 1, "both classes are needed"
        return DataLoader(self.labelled_dataset, batch_size=4)


def cold_start(kind=ActiveDataModule, callbacks=(), run_dir=False, oracle=None, **settings):
    asked = []

    def people(indices, items):
        asked.extend(indices)
        return [i % 2 for i in range(len(indices))]

    data = kind(ITEMS, val_dataset=VAL, num_classes=3, ids=[f"{i}.png" for i in range(len(ITEMS))])
    active = ActiveLearning(
        RandomSampler(), query_size=4, max_rounds=1, run_dir=run_dir, seed=0, oracle=oracle or people
    )
    try:
        quiet_trainer([active, *callbacks], max_epochs=settings.pop("max_epochs", 1), **settings).fit(
            Net(), datamodule=data
        )
    finally:
        cold_start.asked = len(asked)
    return active


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"val_check_interval": 100}, r"`Trainer\(val_check_interval=100\)`.* one batch at most"),
        ({"limit_train_batches": 0.1}, r"`Trainer\(limit_train_batches=0.1\)` leaves nothing"),
        ({"limit_train_batches": 0}, r"`Trainer\(limit_train_batches=0\)` no round trains"),
        ({"max_epochs": 0}, r"`Trainer\(max_epochs=0\)` no round trains"),
        ({"max_steps": 0}, r"`Trainer\(max_steps=0\)` no round trains"),
        ({"limit_val_batches": 0.01, "num_sanity_val_steps": 0}, r"`Trainer\(limit_val_batches=0.01\)`"),
        ({"kind": Dropping}, "holds no batch: leave out `drop_last`"),
    ],
)
def test_impossible_settings(settings, said):
    with pytest.raises(ConfigurationError, match=said):
        cold_start(**settings)
    assert cold_start.asked == 0


def test_a_loader_that_will_not_do():
    with pytest.raises(LoaderMismatchError, match="goes over 120 points, but 4 are labelled"):
        cold_start(WholeSet)
    assert cold_start.asked == 0


def test_a_loader_that_looks_at_the_labels_is_left_to_the_first_round():
    assert len(cold_start(Balanced).history) == 2 and cold_start.asked == 4


def test_validation_over_several_epochs_is_possible():
    assert len(cold_start(val_check_interval=3, check_val_every_n_epoch=None).history) == 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda f: {"run_dir": f},
            r"`ActiveLearning\(run_dir=...\)`: .*runs cannot be written to, since .* not a folder",
        ),
        (lambda f: {"oracle": FileOracle(f)}, r"`FileOracle\(folder=...\)`"),
        (lambda f: {"oracle": LabelStudioOracle(f)}, r"`LabelStudioOracle\(folder=...\)`"),
        (lambda f: {"callbacks": [pl_callbacks.ModelCheckpoint(f)], "enable_checkpointing": True}, "ModelCheckpoint"),
        (lambda f: {"run_dir": None, "default_root_dir": f}, r"`Trainer\(default_root_dir=...\)`"),
    ],
)
def test_folders_that_cannot_be_written(tmp_path, make, said):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=said):
        cold_start(**make(tmp_path / "file" / "runs"))
    assert cold_start.asked == 0


def test_a_round_that_would_train_nothing_buys_no_labels(tmp_path):
    asked = []
    data = Dropping(TRAIN, val_dataset=VAL, initial_labels=12)
    active = ActiveLearning(RandomSampler(), query_size=4, run_dir=False, oracle=lambda i, x: asked.append(i))
    with pytest.raises(ConfigurationError, match="Round 0 trained nothing: its training loader over 12 points"):
        quiet_trainer([active]).fit(Net(), datamodule=data)
    assert not asked


def monitoring(tmp_path):
    return [pl_callbacks.EarlyStopping("val_loss"), pl_callbacks.ModelCheckpoint(tmp_path, monitor="val_loss")]


def few_points():
    return ActiveDataModule(TRAIN, initial_labels=3, val_fraction=0.05, batch_size=4)


def run_of(**settings):
    return ActiveLearning(RandomSampler(), query_size=8, max_rounds=4, run_dir=False, seed=0, **settings)


def test_without_a_validation_point_monitors_rest(tmp_path, recwarn):
    active = run_of(weights="best", stopping=[TargetMetric("val_loss", 0.0, "min")])
    callbacks = monitoring(tmp_path)
    quiet_trainer([active, *callbacks], enable_checkpointing=True).fit(Net("plateau"), datamodule=few_points())
    have = ["val_loss" in record.metrics for record in active.history]
    assert have == sorted(have) and have[0] is False and have[-1] is True
    said = [str(w.message) for w in recwarn if "validates yet" in str(w.message)]
    assert len(said) == 1 and "EarlyStopping, ModelCheckpoint, ReduceLROnPlateau rest" in said[0]
    assert not [w for w in recwarn if "conditioned on" in str(w.message)]
    assert callbacks[0].strict and {p.name.split("-")[0] for p in tmp_path.glob("*.ckpt")} == {
        f"round={i}" for i, there in enumerate(have) if there
    }


@pytest.mark.filterwarnings("ignore:None of the 3 labelled points validates yet")
def test_so_they_do_with_a_trainer_per_round(tmp_path):
    def make(round_):
        return quiet_trainer(monitoring(tmp_path), enable_checkpointing=True)

    history = fit_rounds(make, Net("plateau"), few_points(), run_of())
    assert "val_loss" not in history[0].metrics and "val_loss" in history[-1].metrics


def test_a_metric_that_nobody_logs_still_fails():
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=12)
    with pytest.raises(RuntimeError, match="Early stopping conditioned on metric `val_los`"):
        quiet_trainer([run_of(), pl_callbacks.EarlyStopping("val_los")]).fit(Net(), datamodule=data)
