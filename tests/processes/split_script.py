"""Runs whose model is split over processes; `test_split.py` starts them and reads what each process wrote.

python split_script.py SCENARIO FOLDER LAYOUT [ARGUMENT]
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal.history.history import records_equal
from tests.helpers import VAL, Net, loaders, pl, pl_callbacks, quiet_trainer
from tests.processes.distributed_script import POINTS, RULE, START, FixedFeatures, digest, rank_of_process

LAYOUTS = {  # data parallel, tensor parallel, one folder for each process's part of a checkpoint
    "ddp": None,
    "fsdp2": (2, 1, True),
    "fsdp2-full": (2, 1, False),
    "tensor": (1, 2, True),
    "fsdp2-tensor": (2, 2, True),
}


class SplitNet(Net):
    """Without what differs between strategies for good reason: batch statistics and dropout of each process."""

    fails = False

    def __init__(self):
        super().__init__("none")
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 6), nn.ReLU())
        self.is_split = False

    def configure_model(self):
        mesh = getattr(self, "_device_mesh", None)
        if self.is_split or mesh is None:
            return
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        if mesh["tensor_parallel"].size() > 1:
            parallelize_module(self.body, mesh["tensor_parallel"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
        if mesh["data_parallel"].size() > 1:
            for part in (self.body, self.head):
                fully_shard(part, mesh=mesh["data_parallel"])
        self.is_split = True

    def training_step(self, batch, batch_idx):
        if self.fails and self.global_rank == 1 and self.current_epoch == 1:
            raise ArithmeticError("loss is gone on process 1")
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch), sync_dist=True)


class FailingFeatures(SplitNet):
    """Fails in the middle of the feature pass, on one process."""

    def forward(self, x):
        if self.trainer.predicting and self.global_rank == 1 and len(self.trainer.datamodule.labelled_indices) > 13:
            raise ArithmeticError("no features on process 1")
        return super().forward(x)


class Local(pl.Callback):
    """This process's part of the weights at the end of every round."""

    def __init__(self):
        self.weights = []

    def on_round_end(self, trainer):
        self.weights.append(local(trainer.lightning_module))


def local(module):
    state = module.state_dict()
    return {name: (value.to_local() if hasattr(value, "to_local") else value).clone() for name, value in state.items()}


def launch(layout):
    sizes = LAYOUTS[layout]
    if sizes is None:
        return {"strategy": "ddp", "devices": 2}
    strategy = pl.strategies.ModelParallelStrategy(
        data_parallel_size=sizes[0],
        tensor_parallel_size=sizes[1],
        save_distributed_checkpoint=sizes[2],
        process_group_backend="gloo",
    )
    return {"strategy": strategy, "devices": sizes[0] * sizes[1]}


def make(folder, layout, net=SplitNet, sampler=None, monitor=None, **settings):
    torch.manual_seed(5)
    model = net()
    data = ActiveDataModule(POINTS, val_dataset=VAL, initial_labels=START, batch_size=4)
    settings = {"query_size": 3, "max_rounds": 2, "seed": 7, "run_dir": folder / "run"} | settings
    active, parts = ActiveLearning(sampler or FixedFeatures(), **settings), Local()
    saves = pl_callbacks.ModelCheckpoint(
        folder / "checkpoints", filename="{round}-{epoch}", monitor=monitor, save_top_k=1 if monitor else -1
    )
    trainer = quiet_trainer(
        [active, parts, saves], default_root_dir=folder, enable_checkpointing=True, **launch(layout)
    )
    return model, data, active, parts, trainer


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def whole(module):
    """Digest of all weights, whoever holds them."""
    state = {n: v.full_tensor() if hasattr(v, "full_tensor") else v for n, v in module.state_dict().items()}
    return digest(state)


def picks(active):
    return [None if r.query is None else r.query.indices.tolist() for r in active.history]


def kept(folder):
    """Whether whole weights lie in a run's folder, and in a checkpoint's account of the run."""
    state = torch.load(folder / "run" / "state.ckpt", weights_only=True)
    initial = torch.load(folder / "run" / "initial.ckpt", weights_only=True)
    checkpoint = folder / "checkpoints" / "round=1-epoch=0.ckpt"
    checkpoint = checkpoint / "meta.pt" if checkpoint.is_dir() else checkpoint
    run_ = torch.load(checkpoint, weights_only=True)["active_learning"]
    parts = {path.name for path in (folder / "run").glob("*.parts")}
    assert parts == {found["parts"]["name"] for found in (state, initial) if found["parts"]}
    return [bool(state["state_dict"]), bool(initial["weights"]), bool(run_["initial_weights"]), len(parts)]


def write(folder, found):
    (folder / f"rank{rank_of_process()}.json").write_text(json.dumps(found))


def run(folder, layout, _=""):
    """A run, each of its rounds as a plain fit, and the same run resumed from checkpoints."""
    model, data, active, parts, trainer = make(folder / "first", layout)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer.fit(model, datamodule=data)
    equal = []
    for record, weights in zip(active.history, parts.weights, strict=True):
        fresh = SplitNet()
        fresh.load_state_dict(before)
        pl.seed_everything(record.seed)
        quiet_trainer(**launch(layout)).fit(fresh, *loaders(record.labelled, train=POINTS))
        equal.append(same(local(fresh), weights))
    resumed = []
    for place in ("round=0-epoch=0", "round=1-epoch=0", "round=1-epoch=1"):
        again, known, other, _, trainer = make(folder / place, layout, run_dir=folder / place)
        torch.manual_seed(99)
        trainer.fit(again, datamodule=known, ckpt_path=folder / "first" / "checkpoints" / f"{place}.ckpt")
        resumed.append(records_equal(active.history, other.history) and same(local(again), local(model)))
    again, known, other, _, trainer = make(folder / "none", layout, max_rounds=3, run_dir=folder / "first" / "run")
    trainer.fit(again, datamodule=known)  # from the run's folder
    found = {
        "picks": picks(active),
        "labelled": data.labelled_indices.tolist(),
        "metrics": [r.metrics for r in active.history],
        "equal": equal,
        "resumed": resumed,
        "goes on": [r.n_labelled for r in other.history],
        "same start": records_equal(active.history[:2], other.history[:2]),
        "weights": whole(model),
        "kept": kept(folder / "first"),
    }
    write(folder, found)


def settings(folder, layout, _=""):
    """Every way to begin a round, pseudo-labels, the best weights, and the model's own features."""
    cases = {
        "warm": {"reset": "warm"},
        "shrunk": {"reset": 0.5},
        "pseudo": {"pseudo_labels": RULE},
        "best": {"weights": "best", "monitor": "val_loss"},
        "diffusion": {"sampler": DiffusionSampler()},
    }
    found = {}
    for name, case in cases.items():
        model, data, active, _, trainer = make(folder / name, layout, **case)
        trainer.fit(model, datamodule=data)
        found[name] = {"picks": picks(active), "weights": whole(model), "metrics": [r.metrics for r in active.history]}
    write(folder, found)


def killed(folder, layout, mode):
    """Killed in its second round, and resumed from the folder."""

    class Kill(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if mode == "kill" and len(active.history) == 1 and trainer.current_epoch == 1:
                time.sleep(1)
                os.kill(os.getpid(), signal.SIGKILL)

    model, data, active, _, trainer = make(folder, layout)
    trainer.callbacks.append(Kill())
    trainer.fit(model, datamodule=data)
    write(folder, {"picks": picks(active), "weights": whole(model)})


def on(folder, layout, max_rounds):
    """Begun, or gone on with in the same folder, perhaps by other processes."""
    model, data, active, _, trainer = make(folder, layout, max_rounds=int(max_rounds))
    torch.manual_seed(99 + trainer.global_rank)
    trainer.fit(model, datamodule=data)
    write(folder, {"picks": picks(active), "metrics": active.history[-1].metrics, "weights": whole(model)})


def fails(folder, layout, where):
    SplitNet.fails = where == "training"
    model, data, _, _, trainer = make(folder, layout, FailingFeatures if where == "features" else SplitNet)
    trainer.fit(model, datamodule=data)


if __name__ == "__main__":
    torch.set_num_threads(1)
    globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
