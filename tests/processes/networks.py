"""Networks whose processes differ, fail or agree, for runs over two processes."""

import torch
from torch import nn

from lightning_diffal import ActiveLearning
from tests.helpers import Net


class DriftingNet(Net):
    """The generators of its processes drift apart, as under augmentation."""

    def training_step(self, batch, batch_idx):
        torch.rand(1 + self.global_rank)
        return super().training_step((batch[0] + 0.1 * torch.randn_like(batch[0]), batch[1]), batch_idx)


class FailingNet(Net):
    def training_step(self, batch, batch_idx):
        if self.global_rank == 1 and self.current_epoch == 1:
            raise ArithmeticError("loss is gone on process 1")
        return super().training_step(batch, batch_idx)


class NormlessNet(Net):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 6), nn.ReLU())


class AgreeingNet(Net):
    """Its processes train on the same points with the same labels, and not on the labelled ones alone."""

    def on_train_start(self):
        data, ranks = self.trainer.datamodule, ActiveLearning.from_trainer(self.trainer)._context.ranks
        view = data.training_dataset
        first, second = ranks.everyone((view.indices.tolist(), view.labels))
        if first != second:
            raise AssertionError("other points on the second process")
        if (len(view) > 80) != (ActiveLearning.from_trainer(self.trainer)._context.state.round > 0):
            raise AssertionError(f"{len(view)} points train")
