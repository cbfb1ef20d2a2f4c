"""Samplers compared on a network that is pretrained on some classes and fine-tuned, as a whole, on the others.

    python -m tests.benchmarks.fine_tuned mnist.npz --seeds 20-24 --out runs/fine_tuned

The file holds images, as `lightning_diffal.datasets.npz` reads them. The lower half of the classes pretrains the small
convolutional network of `diffal compare`, once; the other half is the task: a new head, and all layers train, in each
round from the pretrained weights. Real Trainers; runs that the output folder holds are not run again.
"""

from __future__ import annotations

import argparse
import functools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lightning_diffal import ActiveDataModule, datasets
from lightning_diffal.comparison import compare_samplers
from lightning_diffal.comparison.specs import parse_samplers, parse_seeds
from lightning_diffal.comparison.tasks.networks import Classifier
from lightning_diffal.comparison.tasks.task import InMemoryData

SAMPLERS = "diffusion,diffusion:criterion=paper,random,margin,uherding"


def of_classes(part: TensorDataset, first: int, end: int) -> TensorDataset:
    """The items of the classes from `first` to before `end`, counted from 0."""
    items, labels = part.tensors
    kept = (labels >= first) & (labels < end)
    return TensorDataset(items[kept], labels[kept] - first)


@functools.cache
def read(path: str) -> tuple[TensorDataset, TensorDataset, int]:
    """Training and test set, and how many classes."""
    train, test = datasets.npz(path)
    return train, test, int(train.tensors[1].max()) + 1


@functools.cache
def pretrained(path: str, n: int) -> dict[str, torch.Tensor]:
    """Weights after three epochs on `n` images of the lower half of the classes; nothing random is moved by it."""
    train, _, classes = read(path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        source = of_classes(train, 0, classes // 2)
        items, labels = (tensor[:n] for tensor in source.tensors)
        model = Classifier("conv", tuple(items.shape[1:]), classes // 2)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
        for _ in range(3):
            for batch in torch.randperm(len(labels)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(items[batch]), labels[batch]).backward()
                optimizer.step()
    return model.net[:-1].state_dict()  # all but the head


@dataclass(frozen=True)
class FineTuned:
    """Makes the pretrained model, and the images of the classes that it has not seen."""

    data: str
    n: int = 3000
    initial: int = 5
    n_pretrain: int = 10_000

    def __call__(self, seed: int) -> tuple[pl.LightningModule, ActiveDataModule]:
        """Everything a run starts from."""
        train, test, classes = read(self.data)
        target, test = (of_classes(part, classes // 2, classes) for part in (train, test))
        generator = np.random.default_rng(seed)
        chosen = generator.choice(len(target), self.n, replace=False)
        items, labels = (tensor[chosen] for tensor in target.tensors)
        model = Classifier("conv", tuple(items.shape[1:]), classes - classes // 2)
        model.net[:-1].load_state_dict(pretrained(self.data, self.n_pretrain))
        data = InMemoryData(
            TensorDataset(items, labels),
            test_dataset=test,
            initial_labels=generator.choice(self.n, self.initial, replace=False),
            targets=labels.numpy(),
            num_classes=classes - classes // 2,
            batch_size=32,
            pool_batch_size=250,
        )
        return model, data


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="an .npz file of images")
    parser.add_argument("--samplers", default=SAMPLERS)
    parser.add_argument("--seeds", default="20-24")
    parser.add_argument("--n", type=int, default=3000, help="images to choose from, drawn anew for each seed")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--query-size", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/fine_tuned"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result = compare_samplers(
        FineTuned(options.data, options.n),
        parse_samplers(options.samplers),
        seeds=parse_seeds(options.seeds),
        query_size=options.query_size,
        rounds=options.rounds,
        trainer_kwargs={"accelerator": "cpu", "max_epochs": 1000},
        out=options.out,
    )
    print(result.table(reach=(0.8, 0.9, 0.95), against=result.names[0], markdown=True))


if __name__ == "__main__":
    main(sys.argv[1:])
