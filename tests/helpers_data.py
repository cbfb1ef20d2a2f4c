"""Data sets, data modules and models in the shapes that people bring."""

import random
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_diffal import Query, QuerySampler
from lightning_diffal._lightning import pl

N, D, C = 40, 8, 3


def inputs(n=N, d=D, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def classes(n=N, c=C):
    return torch.arange(n) % c


def points(n=N, d=D, c=C):
    return TensorDataset(inputs(n, d), classes(n, c))


class Item(NamedTuple):
    x: torch.Tensor
    y: int


class Listed(Dataset):
    """Items as they are in a list, and how often each was read."""

    def __init__(self, items):
        self.items = list(items)
        self.reads = []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.reads.append(index)
        return self.items[index]


class Untouchable(Dataset):
    def __init__(self, n=N):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        raise AssertionError(f"item {index} was read")


class Augmented(Dataset):
    """Noise from all three global generators."""

    def __init__(self, n=N, scale=1.0):
        self.x, self.y, self.scale = inputs(n), classes(n), scale

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        noise = torch.randn(D) + random.random() + float(np.random.rand())
        return self.x[index] + self.scale * noise, int(self.y[index])


class Model(pl.LightningModule):
    """Any network, trained with plain SGD on `(x, y)`."""

    def __init__(self, net=None, loss=nn.functional.cross_entropy):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, C)) if net is None else net
        self.loss = loss

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        output = self(batch[0])
        output = output[0] if isinstance(output, tuple) else output
        return self.loss(output, batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Recorder(QuerySampler):
    """Asks candidates from the end, and keeps what it was told."""

    requires = frozenset({"features"})

    def __init__(self, *requires):
        self.requires = frozenset(requires or {"features"})
        self.seen = []

    def select(self, data, query_size, generator):
        self.seen.append(data)
        chosen = data.candidates[-query_size:]
        return Query(chosen, np.zeros(len(chosen)))


class PlainModule(pl.LightningDataModule):
    """What most data modules look like: data sets made in `setup`, loaders with settings of their own."""

    def __init__(self, **loader):
        super().__init__()
        self.loader = {"batch_size": 5, "shuffle": True, **loader}
        self.n_setups = 0
        self.n_transfers = 0

    def setup(self, stage):
        self.n_setups += 1
        full = points()
        generator = torch.Generator().manual_seed(3)
        self.train, self.val = torch.utils.data.random_split(full, [30, 10], generator=generator)

    def train_dataloader(self):
        return DataLoader(self.train, **self.loader)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=7)
