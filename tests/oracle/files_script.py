"""One run with labels from files, in a process of its own, which may kill itself in the middle of a round.

python files_script.py FOLDER SEED TIMEOUT [KILL_ROUND]
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.oracle import FileOracle
from tests.helpers import TRAIN, VAL, Net, pl, quiet_trainer
from tests.run.resume_script import digest

START = [3, 17, 40, 41, 58, 63, 77, 90, 101, 113, 5, 119]
NAMES = ["ape", "bee", "cow"]


def outcome(oracle, folder, seed=5, callbacks=()):
    pl.seed_everything(seed)  # of the weights: only those of the first process count
    model = Net()
    labels = {i: int(TRAIN[i][1]) for i in START}
    inputs = [(x,) for x, _ in TRAIN]
    data = ActiveDataModule(inputs, val_dataset=VAL, initial_labels=labels, class_names=NAMES, batch_size=4)
    active = ActiveLearning(query_size=6, max_rounds=2, oracle=oracle, seed=11, run_dir=folder)
    quiet_trainer([active, *callbacks]).fit(model, datamodule=data)
    return {
        "picks": [None if r.query is None else r.query.indices.tolist() for r in active.history],
        "labels": dict(zip(data.labelled_indices.tolist(), data.labels.tolist(), strict=True)),
        "metrics": [r.metrics for r in active.history],
        "weights": digest(model),
        "reason": active.history[-1].stop_reason,
    }


class Kill(pl.Callback):
    def __init__(self, round_):
        self.round = round_

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 1 and int(trainer.callback_metrics["round"]) == self.round:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    oracle = FileOracle(timeout=float(sys.argv[3]), poll_seconds=0.05)
    kill = [Kill(int(sys.argv[4]))] if len(sys.argv) > 4 else []
    done = outcome(oracle, folder / "run", seed=int(sys.argv[2]), callbacks=kill)
    (folder / "done.json").write_text(json.dumps(done))
