"""One run in a process of its own, which kills itself where it is told to.

python resume_script.py FOLDER WHERE[:ROUND[:EPOCH]] full|resume [checkpoint|folder] [pseudo]

It resumes from Lightning's last checkpoint, or from an explicit `run_dir` without any checkpoint of Lightning's.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler, PseudoLabels
from tests.helpers import TRAIN, VAL, Net, pl, pl_callbacks, quiet_trainer

START = [3, 17, 40, 41, 58, 63, 77, 90, 101, 113, 5, 119]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def digest(module):
    import hashlib

    sha = hashlib.sha256()
    for name, value in module.state_dict().items():
        sha.update(name.encode())
        sha.update(value.detach().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


class Kill(pl.Callback):
    def __init__(self, active, where, round_, epoch):
        self.active, self.where, self.round, self.epoch = active, where, round_, epoch

    def at(self, where, trainer, epoch=True):
        on_time = not epoch or trainer.current_epoch == self.epoch
        if where == self.where and self.active._context.state.round == self.round and on_time:
            if where == "sigterm":
                os.kill(os.getpid(), signal.SIGTERM)  # as a cluster does first; Lightning ends the fit by itself
            else:
                die()

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 1:
            self.at("batch", trainer)
            self.at("sigterm", trainer)

    def on_train_epoch_start(self, trainer, module):
        self.at("epoch_start", trainer)

    def on_train_epoch_end(self, trainer, module):
        self.at("epoch_end", trainer)

    def on_validation_start(self, trainer, module):
        if not trainer.sanity_checking:
            self.at("validation", trainer)

    def on_train_end(self, trainer, module):
        self.at("train_end", trainer, epoch=False)

    def on_round_end(self, trainer):
        self.at("round_end", trainer, epoch=False)

    def on_round_start(self, trainer):
        self.at("round_start", trainer, epoch=False)


class Log(pl.Callback):
    def __init__(self, path, active):
        self.path, self.active = path, active

    def on_round_end(self, trainer):
        record = self.active.history[-1]
        row = {
            "round": record.round,
            "labelled": record.labelled.tolist(),
            "weights": digest(trainer.lightning_module),
            "metrics": record.metrics,
            "trained": len(trainer.datamodule.training_dataset),
        }
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def main(folder, spec, mode, how="checkpoint", pseudo=""):
    folder = Path(folder)
    run_dir = folder / "run" if how == "folder" else None
    where, round_, epoch = ([*spec.split(":"), "-1", "-1"])[:3]
    resuming = mode == "resume"
    pl.seed_everything(12345 if resuming else 5)  # the resuming process makes another model
    model = Net()
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=0 if resuming else START, batch_size=4)

    def label(indices, items):
        with (folder / "bought.jsonl").open("a") as file:
            file.write(json.dumps(list(indices)) + "\n")
        if where == "oracle" and active._context.state.round == int(round_):
            die()
        return [int(y) for _, y in items]

    class Sampler(DiffusionSampler):
        def select(self, known, query_size, generator):
            query = super().select(known, query_size, generator)
            if where == "select" and active._context.state.round == int(round_):
                die()
            return query

    settings = {
        "pseudo_labels": PseudoLabels(label_equivalents=1.0, min_labels=0) if pseudo else False,
        "run_dir": run_dir,
    }
    active = ActiveLearning(Sampler(), query_size=6, max_rounds=3, oracle=label, seed=11, **settings)
    checkpoint = pl_callbacks.ModelCheckpoint(folder / "checkpoints", save_last=True)
    if where == "checkpoint":
        save = pl.Trainer.save_checkpoint

        def torn(self, filepath, *args, **kwargs):
            if active._context.state.round == int(round_) and self.current_epoch == int(epoch):
                Path(filepath).with_suffix(".tmp").write_bytes(b"half of a checkpoint")
                die()
            return save(self, filepath, *args, **kwargs)

        pl.Trainer.save_checkpoint = torn
    kill = Kill(active, where, int(round_), int(epoch))
    log = Log(folder / "log.jsonl", active)
    checkpoints = [] if how == "folder" else [checkpoint]
    settings = {"max_epochs": 3, "enable_checkpointing": bool(checkpoints), "default_root_dir": folder}
    trainer = quiet_trainer([active, kill, log, *checkpoints], **settings)
    trainer.fit(model, datamodule=data, ckpt_path="last" if resuming and checkpoints else None)
    picks = [None if r.query is None else r.query.indices.tolist() for r in active.history]
    done = {
        "picks": picks,
        "labelled": data.labelled_indices.tolist(),
        "labels": data.labels.tolist(),
        "metrics": [r.metrics for r in active.history],
        "seeds": [r.seed for r in active.history],
        "weights": digest(model),
        "reason": active.history[-1].stop_reason,
    }
    (folder / "done.json").write_text(json.dumps(done))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
