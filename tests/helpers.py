"""A small problem, a small model and a quiet Trainer, shared by the tests that train."""

import copy
import csv

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from lightning_diffal._lightning import pl, pl_callbacks

N_CLASSES = 3


def blobs(n=120, d=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    centers = torch.randn(N_CLASSES, d, generator=torch.Generator().manual_seed(99)) * 2
    y = torch.randint(N_CLASSES, (n,), generator=g)
    return TensorDataset(centers[y] + torch.randn(n, d, generator=g), y)


TRAIN, VAL = blobs(), blobs(40, seed=1)


class Net(pl.LightningModule):
    """Batch norm and dropout, so that modes, buffers and random draws all count."""

    def __init__(self, schedule="step", lr=1e-2):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 6), nn.ReLU()
        )
        self.head = nn.Linear(6, N_CLASSES)
        self.schedule, self.lr = schedule, lr
        self.losses = []

    def forward(self, x):
        return self.head(self.body(x))

    def step(self, batch):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def training_step(self, batch, batch_idx):
        loss = self.step(batch)
        self.log("train_loss", loss, prog_bar=True)
        self.losses.append((self.current_epoch, self.global_step, len(batch[1]), float(loss)))
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch), prog_bar=True)

    def test_step(self, batch, batch_idx):
        self.log("test_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def predict_step(self, batch, batch_idx):
        return self(batch[0])

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        if self.schedule == "step":
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)]
        if self.schedule == "onecycle":
            steps = int(self.trainer.estimated_stepping_batches)
            scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]
        if self.schedule == "plateau":
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}
        return optimizer


class Snapshots(pl.Callback):
    """Weights, losses and labelled points at the end of every round."""

    def __init__(self):
        self.weights, self.losses, self.labelled = [], [], []

    def on_round_end(self, trainer):
        module = trainer.lightning_module
        self.weights.append(copy.deepcopy(module.state_dict()))
        self.losses.append(list(getattr(module, "losses", ())))
        self.labelled.append(trainer.datamodule.labelled_indices.tolist())
        if hasattr(module, "losses"):
            module.losses.clear()


QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def quiet_trainer(callbacks=(), **kwargs):
    return pl.Trainer(**{**QUIET, "max_epochs": 2, **kwargs}, callbacks=list(callbacks))


def loaders(indices, batch_size=4, workers=0, train=TRAIN):
    """What a user without this package would write for these labelled points."""
    subset = Subset(train, list(indices))
    return (
        DataLoader(subset, batch_size=batch_size, shuffle=True, num_workers=workers),
        DataLoader(VAL, batch_size=batch_size, num_workers=workers),
    )


def same_weights(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def fill(path, label, rows=slice(None), **dialect):
    """Write labels into some of the rows of a query file, as a spreadsheet would."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    for row in table[rows]:
        row["label"] = label(int(row["index"]))
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\r\n", **dialect)
        writer.writeheader()
        writer.writerows(table)


__all__ = [
    "QUIET",
    "TRAIN",
    "VAL",
    "Net",
    "Snapshots",
    "blobs",
    "fill",
    "loaders",
    "pl",
    "pl_callbacks",
    "quiet_trainer",
    "same_weights",
]
