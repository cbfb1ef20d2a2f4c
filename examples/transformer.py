"""A Hugging Face model in a LightningModule that knows nothing of active learning: needs `pip install transformers`.

Its weights are random and its texts are made up, so that the example runs in seconds and offline. Take
`AutoModelForSequenceClassification.from_pretrained(...)` and a tokenizer for real texts.
"""

import pytorch_lightning as pl
import torch
from transformers import BertConfig, BertForSequenceClassification

from lightning_diffal import ActiveDataModule, ActiveLearning


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        config = BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_labels=3)
        self.model = BertForSequenceClassification(config)

    def forward(self, **inputs):
        return self.model(**inputs)

    def training_step(self, batch, batch_idx):
        return self(**batch).loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def texts(n=300):
    """Twelve tokens each; every class has words that it prefers."""
    labels = torch.arange(n) % 3
    words = torch.randint(3, 60, (n, 12))
    topical = torch.rand(n, 12) < 0.4
    words = torch.where(topical, 3 + 19 * labels[:, None] + words % 19, words)
    return [
        {"input_ids": w, "attention_mask": torch.ones_like(w), "labels": y} for w, y in zip(words, labels, strict=True)
    ]


def main(quick=False):
    pl.seed_everything(0)
    data = ActiveDataModule(texts(60 if quick else 300), initial_labels=10, batch_size=8, num_classes=3)
    active = ActiveLearning(query_size=10, max_rounds=2, run_dir=False)  # features: what the classifier is given
    trainer = pl.Trainer(max_epochs=1 if quick else 10, callbacks=[active], logger=False, enable_checkpointing=False)
    trainer.fit(Classifier(), datamodule=data)
    print(f"Features come from the input of {active.extractor.head.name!r}.")
    print(active.history)


if __name__ == "__main__":
    main()
