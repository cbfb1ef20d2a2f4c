"""Hugging Face's data sets, PyTorch Tabular, and data modules of the other Lightning package."""

import importlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_diffal import ActiveDataModule
from lightning_diffal._lightning import pl
from lightning_diffal.exceptions import InvalidTypeError
from tests.clients.rounds import input_of, two_rounds

N, C, D = 30, 3, 8
X = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
X[:, 0] = torch.arange(N)  # tells items apart
Y = torch.randint(0, C, (N,), generator=torch.Generator().manual_seed(1))
NAMES = ["cat", "dog", "owl"]


class Model(pl.LightningModule):
    def __init__(self, key):
        super().__init__()
        self.body, self.head, self.key = nn.Sequential(nn.Linear(D, 16), nn.ReLU()), nn.Linear(16, C), key

    def forward(self, x):
        return self.head(self.body(x))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch["x"]), batch[self.key])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


@pytest.mark.parametrize("key", ["label", "kind"])
def test_class_labels_of_a_hugging_face_data_set(key):
    datasets = pytest.importorskip("datasets")
    features = {"x": datasets.List(datasets.Value("float32")), key: datasets.ClassLabel(names=NAMES)}
    rows = {"x": X.tolist(), key: Y.tolist()}
    dataset = datasets.Dataset.from_dict(rows, features=datasets.Features(features)).with_format("torch")
    data = ActiveDataModule(dataset, initial_labels=6, batch_size=8, target="auto" if key == "label" else key)
    two_rounds(
        Model(key),
        data,
        Y,
        lambda batch: zip(batch["x"][:, 0].round().int().tolist(), batch[key].int().tolist(), strict=True),
        lambda module: module.body(X),
    )
    assert (data.class_names, data.num_classes) == (NAMES, C)


def test_pytorch_tabular():
    tabular = pytest.importorskip("pytorch_tabular")
    pandas = importlib.import_module("pandas")
    if pl.__name__ != "pytorch_lightning":
        pytest.skip("it is made for pytorch_lightning")
    frame = pandas.DataFrame(X[:, :4].numpy(), columns=list("abcd"))
    frame["kind"], frame["y"] = [NAMES[i % 3] for i in range(N)], Y.numpy()
    model = tabular.TabularModel(
        data_config=tabular.config.DataConfig(
            target=["y"], continuous_cols=list("abcd"), categorical_cols=["kind"], normalize_continuous_features=False
        ),
        model_config=tabular.models.CategoryEmbeddingModelConfig(task="classification", layers="16-8"),
        optimizer_config=tabular.config.OptimizerConfig(),
        trainer_config=tabular.config.TrainerConfig(batch_size=8, max_epochs=1, accelerator="cpu"),
        verbose=False,
    )
    prepared = model.prepare_dataloader(train=frame, validation=frame, seed=0)
    dataset = prepared.train_dataset
    everything = torch.utils.data.default_collate([dataset[i] for i in range(N)])
    del everything["target"]
    two_rounds(
        model.prepare_model(prepared),
        ActiveDataModule(dataset, initial_labels=6, batch_size=8, num_classes=C),
        Y,
        lambda batch: zip(batch["continuous"][:, 0].int().tolist(), batch["target"].flatten().tolist(), strict=True),
        lambda module: input_of(module.head.layers[-1], lambda: module(everything)),
    )


def test_a_data_module_of_the_other_lightning():
    theirs = {"pytorch_lightning": "lightning.pytorch", "lightning.pytorch": "pytorch_lightning"}[pl.__name__]
    other = pytest.importorskip(theirs)

    class Data(other.LightningDataModule):
        def train_dataloader(self):
            return torch.utils.data.DataLoader([(0.0, 1)])

    with pytest.raises(InvalidTypeError, match=rf'made for {theirs}.*for_lightning\("{theirs}"\)'):
        ActiveDataModule.from_datamodule(Data(), initial_labels=1)
