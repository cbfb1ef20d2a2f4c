"""Active learning on handwritten digits: an ordinary LightningModule, an ordinary Trainer, and one callback.

python examples/quickstart.py [--quick]
"""

import argparse

import pytorch_lightning as pl
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler, datasets


class Model(pl.LightningModule):
    """Nothing in it knows of active learning."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10)),
        )
        self.accuracy = MulticlassAccuracy(num_classes=10, average="micro")

    def forward(self, images):
        return self.net(images)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self(images), labels)

    def test_step(self, batch, batch_idx):
        images, labels = batch
        self.accuracy(self(images), labels)
        self.log("test_acc", self.accuracy)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(quick: bool = False) -> None:
    pl.seed_everything(0)
    train_set, test_set = datasets.digits()
    data = ActiveDataModule(train_set, test_dataset=test_set, initial_labels=10, batch_size=32, seed=0)
    active = ActiveLearning(DiffusionSampler(), query_size=10, max_rounds=2 if quick else 10, test_each_round=True)
    trainer = pl.Trainer(
        max_epochs=5 if quick else 40,  # per round
        callbacks=[active],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Model(), datamodule=data)
    print(active.history)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    main(parser.parse_args().quick)
