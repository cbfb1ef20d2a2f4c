"""Lightning's own callbacks and loggers do, round by round, what people expect of them."""

import csv
from importlib import import_module
from pathlib import Path

import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal._lightning import NAMESPACE
from lightning_diffal.samplers import DiffusionSampler, RandomSampler
from tests.helpers import TRAIN, VAL, Net, pl_callbacks, quiet_trainer

loggers = import_module(f"{NAMESPACE}.loggers")


def run(tmp_path, callbacks=(), model=None, max_rounds=2, **kwargs):
    torch.manual_seed(1)
    active = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=max_rounds, seed=3)
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=12, batch_size=4)
    settings = {"default_root_dir": tmp_path, "log_every_n_steps": 1, "enable_checkpointing": True} | kwargs
    trainer = quiet_trainer([active, *callbacks], **settings)
    trainer.fit(model or Net(), datamodule=data)
    return trainer, active


def names(folder):
    return sorted(path.name for path in folder.glob("*.ckpt"))


def test_default_checkpoints_of_all_rounds_stay(tmp_path):
    checkpoint = pl_callbacks.ModelCheckpoint(tmp_path / "c")
    run(tmp_path, [checkpoint])
    assert names(tmp_path / "c") == [
        "round=0-epoch=1-step=6.ckpt",
        "round=1-epoch=1-step=10.ckpt",
        "round=2-epoch=1-step=12.ckpt",
    ]
    assert checkpoint.filename is None  # put back
    assert "round=2" in checkpoint.best_model_path


def test_monitored_checkpoints_are_the_best_of_each_round(tmp_path):
    class Worsening(Net):
        """Every round is worse than the one before it, and every epoch than the first."""

        count = 0

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", float(self.count))

        def on_validation_epoch_end(self):
            if not self.trainer.sanity_checking:
                type(self).count += 1

    checkpoint = pl_callbacks.ModelCheckpoint(tmp_path / "c", monitor="val_loss", save_last=True, save_top_k=1)
    run(tmp_path, [checkpoint], Worsening())
    assert names(tmp_path / "c") == ["last.ckpt"] + [
        f"round={r}-epoch=0-step={steps}.ckpt" for r, steps in enumerate((3, 5, 6))
    ]
    assert float(checkpoint.best_model_score) == 4
    last = torch.load(tmp_path / "c" / "last.ckpt", weights_only=True)
    assert last["active_learning"]["round"] == 2


def test_all_checkpoints_with_a_name_of_ones_own(tmp_path):
    checkpoint = pl_callbacks.ModelCheckpoint(
        tmp_path / "c", filename="{round}-{epoch}", save_top_k=-1, every_n_epochs=1
    )
    run(tmp_path, [checkpoint])
    assert names(tmp_path / "c") == [f"round={r}-epoch={e}.ckpt" for r in range(3) for e in range(2)]


def test_checkpoint_without_the_round_in_its_name_overwrites_nothing(tmp_path):
    checkpoint = pl_callbacks.ModelCheckpoint(tmp_path / "c", filename="model")
    run(tmp_path, [checkpoint])
    assert names(tmp_path / "c") == ["model-v1.ckpt", "model-v2.ckpt", "model.ckpt"]


def test_csv_logger_and_learning_rate_monitor(tmp_path):
    logger = loggers.CSVLogger(tmp_path)
    run(tmp_path, [pl_callbacks.LearningRateMonitor()], logger=logger)
    with Path(logger.log_dir, "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    train = [(int(row["step"]), int(row["epoch"])) for row in rows if row["train_loss"]]
    steps = [step for step, _ in train]
    assert steps == sorted(set(steps)) and len(steps) == 6 + 10 + 12  # one axis over all rounds
    assert [epoch for _, epoch in train] == [0] * 3 + [1] * 3 + [0] * 5 + [1] * 5 + [0] * 6 + [1] * 6
    rates = [float(row["lr-Adam"]) for row in rows if row["lr-Adam"]]
    assert rates == pytest.approx([0.01, 0.007] * 3)  # the schedule begins anew
    rounds = [row for row in rows if row.get("active/n_labelled")]
    assert [float(row["active/n_labelled"]) for row in rounds] == [12, 18, 24]
    shares = [float(row["active/exploration_share"]) for row in rows if row.get("active/exploration_share")]
    assert len(shares) == 2 and all(0 <= share <= 1 for share in shares)


def test_tensorboard_logger(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = loggers.TensorBoardLogger(tmp_path)
    run(tmp_path, logger=logger)
    events = accumulator.EventAccumulator(logger.log_dir).Reload()
    assert [event.value for event in events.Scalars("active/n_labelled")] == [12, 18, 24]
    steps = [event.step for event in events.Scalars("train_loss")]
    assert steps == sorted(set(steps)) and len(steps) == 28


@pytest.mark.parametrize("bar", ["TQDMProgressBar", "RichProgressBar"])
def test_progress_bars_show_every_round(tmp_path, bar, capsys):
    if bar == "RichProgressBar":
        pytest.importorskip("rich")
    seen = []

    class Watch(getattr(pl_callbacks, bar)):
        def on_train_epoch_start(self, trainer, *args):
            super().on_train_epoch_start(trainer, *args)
            seen.append((trainer.current_epoch, int(self.total_train_batches)))

    _, active = run(tmp_path, [Watch()], enable_progress_bar=True)
    assert seen == [(0, 3), (1, 3), (0, 5), (1, 5), (0, 6), (1, 6)]
    assert len(active.history) == 3
    assert "Epoch 1" in capsys.readouterr().out + capsys.readouterr().err or bar == "RichProgressBar"


def test_early_stopping_counts_anew(tmp_path):
    class Flat(Net):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", 1.0)

    stopping = pl_callbacks.EarlyStopping("val_loss", patience=2)
    trainer, active = run(tmp_path, [stopping], Flat("none"), max_epochs=20)
    # one epoch sets the score, two more have patience
    assert [len(r.labelled) for r in active.history] == [12, 18, 24]
    assert trainer.current_epoch == 3 and stopping.stopped_epoch == 2
    active.max_rounds = 3
    trainer.fit(trainer.lightning_module, datamodule=trainer.datamodule)
    assert stopping.stopped_epoch == 2 and active.history[-1].n_labelled == 30


def test_each_trainer_restarts_callbacks_of_its_own(tmp_path):
    """Also where a new callback lies where a forgotten one lay in memory."""

    class Flat(Net):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", 1.0)

    torch.manual_seed(1)
    active, model = ActiveLearning(RandomSampler(), query_size=6, max_rounds=0), Flat("none")
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=12, batch_size=4)
    for patience in (1, 3, 2, 5):
        active.max_rounds += 1
        stopping = pl_callbacks.EarlyStopping("val_loss", patience=patience)
        trainer = quiet_trainer([active, stopping], max_epochs=20)
        trainer.fit(model, datamodule=data)
        assert stopping.patience == patience and trainer.current_epoch == patience + 1
        del trainer, stopping


def test_device_stats_and_model_summary_do_not_mind(tmp_path):
    _, active = run(tmp_path, [pl_callbacks.ModelSummary(max_depth=1)], logger=loggers.CSVLogger(tmp_path))
    assert len(active.history) == 3


def test_test_loop_inside_the_fit_changes_no_training(tmp_path):
    def weights(**kwargs):
        torch.manual_seed(1)
        model = Net()
        active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=2, seed=3, **kwargs)
        data = ActiveDataModule(TRAIN, val_dataset=VAL, test_dataset=VAL, initial_labels=12, batch_size=4)
        quiet_trainer([active]).fit(model, datamodule=data)
        return model.state_dict(), active

    plain, _ = weights()
    tested, active = weights(test_each_round=True)
    assert all(torch.equal(plain[k], tested[k]) for k in plain)
    assert all("test_acc" in record.metrics for record in active.history)
