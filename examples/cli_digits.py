"""A model and a data module for the command line, without a word on active learning: see `cli_digits.yaml`.

cd examples && diffal fit --config cli_digits.yaml
"""

import pytorch_lightning as pl
from quickstart import Model
from torch.utils.data import DataLoader

from lightning_diffal import datasets

__all__ = ["Digits", "Model"]


class Digits(pl.LightningDataModule):
    """An ordinary data module."""

    def __init__(self, batch_size: int = 32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        self.train_set, self.test_set = datasets.digits()

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=256)
