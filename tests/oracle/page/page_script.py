"""A run that people label on a page. Usage: page_script.py WHAT RUN_DIR [SLOW]; prints its labels as JSON."""

import json
import sys
import time

import torch
from torch import nn

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal._lightning import pl
from lightning_diffal.datasets import digits
from lightning_diffal.oracle import PageOracle
from lightning_diffal.samplers import RandomSampler
from lightning_diffal.view import ItemView

SENTENCES = ["a fine film", "it was dreadful", "what a joy", "a waste of time", "lovely to look at", "dull and long"]
HOSTILE = '<img src=x onerror="document.title=`hacked`">'


class Words(nn.Module):
    """Length and a few letters: enough to train on."""

    def forward(self, texts):
        return torch.tensor([[len(t) / 20, t.count("e") / 4, t.count("a") / 4, t.count("<")] for t in texts]).float()


class Model(pl.LightningModule):
    def __init__(self, what, slow, n_classes):
        super().__init__()
        first = [Words(), nn.Linear(4, 16)] if what in ("text", "hostile") else [nn.Flatten(), nn.Linear(64, 16)]
        self.net = nn.Sequential(*first, nn.ReLU(), nn.Linear(16, n_classes))
        self.what, self.slow = what, slow

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        time.sleep(self.slow)
        x, y = batch
        if self.what == "multilabel":
            return nn.functional.binary_cross_entropy_with_logits(self(x), y.float())
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("train_acc", (self(x).argmax(1) == y).float().mean(), on_epoch=True, on_step=False)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


def make_data(what):
    if what in ("text", "hostile"):
        texts = [f"{sentence} ({n})" for n in range(6) for sentence in SENTENCES]
        if what == "hostile":
            texts = [f"{HOSTILE} {text}" for text in texts]
        labels = {0: 1, 1: 0, 2: 1, 3: 0}
        names = (
            ["bad", "good"]
            if what == "text"
            else [f"{HOSTILE} bad", "</script><script>document.title='hacked'</script>"]
        )
        ids = None if what == "text" else [f"../../{HOSTILE}/{n}" for n in range(len(texts))]
        return ActiveDataModule(texts, initial_labels=labels, class_names=names, ids=ids, batch_size=4)
    images, truth = (part[:200] for part in digits()[0].tensors)
    images = images.reshape(-1, 1, 8, 8)
    truth = truth.tolist()
    view = ItemView(mean=0.0, std=1.0)
    if what == "multilabel":
        both = torch.tensor([[int(y % 2), int(y > 4), int(y in (0, 6, 8))] for y in truth])
        first = {n: tuple(both[n].tolist()) for n in range(6)}
        names = ["odd", "above four", "with a hole"]
        return ActiveDataModule(list(images), initial_labels=first, class_names=names, view=view, batch_size=4)
    first = {n: int(truth[n]) for n in range(12)}
    return ActiveDataModule(list(images), initial_labels=first, class_names=list("0123456789"), view=view, batch_size=4)


def truths():
    return digits()[0].tensors[1][:200].tolist()


def main(what, run_dir, slow=0.0, port=0, **oracle):
    torch.set_num_threads(1)
    data = make_data(what)
    active = ActiveLearning(
        sampler=RandomSampler() if what == "multilabel" else None,
        query_size=4,
        max_rounds=2,
        oracle=PageOracle(port=port, open_browser=False, poll_seconds=0.2, **oracle),
        run_dir=run_dir,
        seed=0,
    )
    trainer = pl.Trainer(
        max_epochs=4,
        callbacks=[active],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Model(what, slow, len(data.class_names)), datamodule=data)
    bought = {int(i): label for i, label in data.pool.labels_of(data.labelled_indices).items()}
    print(
        json.dumps({"labels": bought, "skipped": data.skipped_indices.tolist(), "n": len(active.history)}), flush=True
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
