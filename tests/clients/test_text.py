"""transformers and peft: BERT and ViT, with `forward` and without."""

import importlib
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lightning_diffal import ActiveDataModule
from lightning_diffal._lightning import pl
from tests.clients.rounds import input_of, two_rounds

transformers = pytest.importorskip("transformers")

N, C = 30, 3
IDS = torch.randint(5, 90, (N, 7), generator=torch.Generator().manual_seed(0))
IDS[:, 1] = torch.arange(N) + 5  # tells items apart
MASK = torch.ones(N, 7, dtype=torch.long)
Y = torch.randint(0, C, (N,), generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(N, 3, 16, 16, generator=torch.Generator().manual_seed(2))
IMAGES[:, 0, 0, 0] = torch.arange(N)
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "num_labels": C}


def bert():
    return transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=100, **SMALL))


def vit():
    return transformers.ViTForImageClassification(transformers.ViTConfig(image_size=16, patch_size=8, **SMALL))


class WithForward(pl.LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, **inputs):
        return self.net(**inputs)

    def training_step(self, batch, batch_idx):
        return self(**batch).loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class WithoutForward(pl.LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def training_step(self, batch, batch_idx):
        labels = batch["labels"]
        logits = self.net(**{name: value for name, value in batch.items() if name != "labels"}).logits
        return F.cross_entropy(logits, labels)

    configure_optimizers = WithForward.configure_optimizers


TOKENS = [{"input_ids": IDS[i], "attention_mask": MASK[i], "labels": Y[i]} for i in range(N)]
PICTURES = [{"pixel_values": IMAGES[i], "labels": Y[i]} for i in range(N)]


def tokens(batch):
    return zip((batch["input_ids"][:, 1] - 5).tolist(), batch["labels"].tolist(), strict=True)


def pictures(batch):
    return zip(batch["pixel_values"][:, 0, 0, 0].int().tolist(), batch["labels"].tolist(), strict=True)


@pytest.mark.parametrize("kind", [WithForward, WithoutForward])
def test_bert(kind):
    two_rounds(
        kind(bert()),
        ActiveDataModule(TOKENS, initial_labels=6, batch_size=8, num_classes=C),
        Y,
        tokens,
        lambda module: input_of(module.net.classifier, lambda: module.net(input_ids=IDS, attention_mask=MASK)),
    )


@pytest.mark.parametrize("kind", [WithForward, WithoutForward])
def test_vit(kind):
    two_rounds(
        kind(vit()),
        ActiveDataModule(PICTURES, initial_labels=6, batch_size=8, num_classes=C),
        Y,
        pictures,
        lambda module: input_of(module.net.classifier, lambda: module.net(pixel_values=IMAGES)),
    )


@pytest.mark.parametrize("dora", [False, True])
def test_peft_on_the_classifier(dora):
    peft = pytest.importorskip("peft")
    net = peft.get_peft_model(bert(), peft.LoraConfig(target_modules=["query", "classifier"], use_dora=dora, r=2))
    two_rounds(
        WithForward(net),
        ActiveDataModule(TOKENS, initial_labels=6, batch_size=8, num_classes=C),
        Y,
        tokens,
        lambda module: input_of(
            module.net.base_model.model.classifier, lambda: module.net(input_ids=IDS, attention_mask=MASK)
        ),
    )


def test_the_example(monkeypatch, capsys):
    pytest.importorskip("pytorch_lightning")
    if pl.__name__ != "pytorch_lightning":
        import sys

        monkeypatch.setitem(sys.modules, "pytorch_lightning", pl)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    importlib.import_module("transformer").main(quick=True)
    printed = capsys.readouterr().out
    assert "input of 'model.classifier'" in printed and "History of 3 rounds" in printed
