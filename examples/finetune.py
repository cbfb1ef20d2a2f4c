"""A torchvision backbone: frozen to choose the first labels cheaply, then fine-tuned on all of them.

    python examples/finetune.py [--quick]

The weights are random, so that this runs offline; say `weights="DEFAULT"` for pretrained ones. For timm write
`timm.create_model(name, num_classes=0)` in the place of the backbone.
"""

import argparse

import pytorch_lightning as pl
import torch
from torch import nn
from torchvision.models import resnet18

from lightning_diffal import ActiveDataModule, ActiveLearning, datasets


class Classifier(pl.LightningModule):
    def __init__(self, frozen: bool):
        super().__init__()
        self.backbone = resnet18(weights=None)
        self.backbone.fc = nn.Identity()
        self.head = nn.Linear(512, 10)
        self.frozen = frozen
        self.backbone.requires_grad_(not frozen)

    def train(self, mode: bool = True):
        super().train(mode)
        if self.frozen:
            self.backbone.eval()  # else batch norm would learn from the labelled points
        return self

    def forward(self, images):
        return self.head(self.backbone(images.expand(-1, 3, -1, -1)))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=1e-3)


def trainer(epochs: int, *callbacks) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(max_epochs=epochs, callbacks=list(callbacks), accelerator="cpu", **quiet)


def main(quick: bool = False) -> None:
    pl.seed_everything(0)
    train_set, _ = datasets.digits()
    data = ActiveDataModule(train_set, initial_labels=10, batch_size=16, pool_batch_size=128, seed=0)
    # the features of a frozen backbone do not change, so its graph is built once
    active = ActiveLearning(query_size=10, max_rounds=1 if quick else 10, run_dir=False)
    trainer(2 if quick else 20, active).fit(Classifier(frozen=True), datamodule=data)
    print(active.history)

    model = Classifier(frozen=False)
    trainer(1 if quick else 20).fit(model, datamodule=data)  # without the callback: one fit on all labels
    print(f"fine-tuned on {len(data.labelled_indices)} labels")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round")
    main(parser.parse_args().quick)
