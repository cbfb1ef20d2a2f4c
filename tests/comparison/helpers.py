"""A task small enough to run many times."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from lightning_diffal import ActiveDataModule, datasets
from lightning_diffal._lightning import pl

_X, _Y = datasets.blobs(200, n_classes=4, n_features=6, spread=4.0)


class Linear(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 4))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def test_step(self, batch, batch_idx):
        self.log("test_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


def _data(seed):
    x, y = torch.from_numpy(_X), torch.from_numpy(_Y)
    return ActiveDataModule(
        TensorDataset(x[:140], y[:140]),
        test_dataset=TensorDataset(x[140:], y[140:]),
        initial_labels=6,
        num_classes=4,
        batch_size=8,
        seed=seed,
    )


def blobs_task(seed):
    return Linear(), _data(seed)


blobs_task.trainer_kwargs = {"accelerator": "cpu", "max_epochs": 2}


def forgetful_task(seed):
    forgetful_task.calls += 1
    return Linear(), _data(forgetful_task.calls)


forgetful_task.trainer_kwargs = blobs_task.trainer_kwargs
