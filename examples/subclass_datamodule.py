"""A data module of your own: derive from ActiveDataModule and give the data sets in `setup`.

Here the training images are augmented; `pool_dataset` holds the same images without augmentation, in the same order,
and is what features are computed from.

python examples/subclass_datamodule.py [--quick]
"""

import argparse

import pytorch_lightning as pl
import torch
from quickstart import Model
from torch.utils.data import Dataset

from lightning_diffal import ActiveDataModule, ActiveLearning, datasets


class Shifted(Dataset):
    """Images moved by up to one pixel, at random each time one is read."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image, label = self.dataset[index]
        down, right = torch.randint(-1, 2, (2,)).tolist()
        return torch.roll(image, (down, right), dims=(1, 2)), label


class Digits(ActiveDataModule):
    def __init__(self, n_test=500, **kwargs):
        super().__init__(**kwargs)
        self.n_test = n_test

    def setup(self, stage):
        # Lightning may call this several times; labels are kept, since they are held by position in the data set.
        images, self.test_dataset = datasets.digits(n_test=self.n_test)
        self.train_dataset = Shifted(images)
        self.pool_dataset = images


def main(quick: bool = False) -> None:
    pl.seed_everything(0)
    data = Digits(initial_labels=10, batch_size=32, seed=0)
    active = ActiveLearning(query_size=10, max_rounds=2 if quick else 10, test_each_round=True)
    trainer = pl.Trainer(
        max_epochs=5 if quick else 60,
        callbacks=[active],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Model(), datamodule=data)
    print(active.history)
    print(f"asked last: {active.history[-2].query.indices.tolist()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    main(parser.parse_args().quick)
