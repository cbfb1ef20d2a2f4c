"""How many labels does diffusion save on MNIST? Samplers side by side, each on the same seeds, on a model of your own.

10,000 of the training images are the data set; 10 random labels to begin with, 10 more in each of 16 rounds; a small
network trained from the start on each; test accuracy on all 10,000 test images. Runs go in parallel, one thread each;
finished ones are kept in --out and not run again.

python examples/mnist.py --data mnist.npz [--seeds 5-14] [--samplers diffusion,random] [--points 10000] [--rounds 16]

The file holds x_train, y_train, x_test and y_test, as the one that Keras distributes. `diffal compare --data mnist.npz
--points 10000` does the same without a line of Python; here it is spelled out, to be changed.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_diffal import ActiveDataModule, datasets
from lightning_diffal.comparison import compare_samplers
from lightning_diffal.comparison.specs import parse_samplers, parse_seeds

INITIAL = QUERY_SIZE = 10


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(32 * 49, 64), nn.ReLU()),
        )
        self.dropout = nn.Dropout(0.25)
        self.head = nn.Linear(64, 10)
        self.accuracy = MulticlassAccuracy(num_classes=10, average="micro")

    def forward(self, images):
        return self.head(self.dropout(self.features(images)))

    def on_round_start(self, trainer):
        # few labels need more epochs: about as many steps in each round
        trainer.fit_loop.max_epochs = max(15, min(60, 6000 // len(trainer.datamodule.labelled_indices)))

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self(images), labels)

    def test_step(self, batch, batch_idx):
        images, labels = batch
        self.accuracy(self(images), labels)
        self.log("test_acc", self.accuracy)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3, weight_decay=1e-4)


class Mnist(ActiveDataModule):
    def test_dataloader(self):
        # each batch is indexed at once, since the images are in memory; larger ones fall out of the processor's cache
        batches = BatchSampler(SequentialSampler(self.test_dataset), batch_size=250, drop_last=False)
        return DataLoader(self.test_dataset, batch_size=None, sampler=batches)


@dataclass(frozen=True)  # of a class rather than a closure: it has to reach other processes
class Task:
    data: str
    n: int

    def __call__(self, seed):
        """Everything a run starts from; it may depend on the seed only."""
        train_set, test_set = datasets.npz(self.data)
        generator = np.random.default_rng(seed)
        chosen = generator.choice(len(train_set), self.n, replace=False)
        train_set = TensorDataset(*(tensor[chosen] for tensor in train_set.tensors))
        initial = generator.choice(self.n, INITIAL, replace=False)
        data = Mnist(train_set, test_dataset=test_set, initial_labels=initial, batch_size=32, pool_batch_size=250)
        return Model(), data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", default="0,1", help="2, 5-14 or 0,1 (default: 0,1)")
    parser.add_argument("--samplers", default="diffusion,random", help="default: diffusion,random")
    parser.add_argument("--points", "--n", dest="n", type=int, default=10_000, help="images to take (default: 10,000)")
    parser.add_argument("--rounds", type=int, default=16, help="queries per run (default: 16)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at a time (default: one per core)")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"))
    options = parser.parse_args()
    samplers = parse_samplers(options.samplers)
    result = compare_samplers(
        Task(options.data, options.n),
        samplers,
        seeds=parse_seeds(options.seeds),
        query_size=QUERY_SIZE,
        rounds=options.rounds,
        trainer_kwargs={"accelerator": "cpu"},
        workers=options.workers,
        out=options.out,
    )
    shown = {"against": "random" if "random" in samplers else None, "reach": (0.8, 0.9, 0.95)}
    print(result.table(**shown))
    print("\nPictures:", *result.save(options.out, **shown))


if __name__ == "__main__":
    main()
