"""One run whose labels come from a Label Studio server, in a process of its own.

python label_studio_script.py FOLDER URL [kill]

The key is in LABEL_STUDIO_API_KEY. With `kill` it dies between the import of its tasks and the server's reply.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal.oracle import LabelStudioOracle
from tests.helpers import TRAIN, VAL, Net, Snapshots, pl, quiet_trainer
from tests.oracle.label_studio_server import CHOICES
from tests.run.resume_script import START, digest


def shown(index, item, id_):
    return {"text": f"point {id_}"}


def fit(folder, oracle):
    pl.seed_everything(5)
    model, snapshots = Net(), Snapshots()
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=START, batch_size=4, class_names=CHOICES)
    active = ActiveLearning(
        DiffusionSampler(), query_size=6, max_rounds=2, oracle=oracle, seed=11, run_dir=Path(folder) / "run"
    )
    quiet_trainer([active, snapshots], default_root_dir=folder).fit(model, datamodule=data)
    return {
        "picks": [None if r.query is None else r.query.indices.tolist() for r in active.history],
        "labels": dict(zip(map(str, data.labelled_indices.tolist()), data.labels.tolist(), strict=True)),
        "pending": data.pending_indices.tolist(),
        "skipped": data.skipped_indices.tolist(),
        "reason": active.history[-1].stop_reason,
        "weights": digest(model),
    }


def main(folder, url, mode=""):
    if mode == "kill":
        import httpx

        send = httpx.Client.send

        def deadly(self, request, **kwargs):
            reply = send(self, request, **kwargs)
            if request.url.path.endswith("/import"):
                os.kill(os.getpid(), signal.SIGKILL)
            return reply

        httpx.Client.send = deadly
    print(json.dumps(fit(folder, LabelStudioOracle(url=url, project="people", task_data=shown))))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
