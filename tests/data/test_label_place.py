"""Where items hold their label: no label reaches the features, answers train, and doubt is refused."""

import logging
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Subset, TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal._lightning import pl
from lightning_diffal.exceptions import DiffalError, InvalidLabelError, LabelPlaceError
from tests.helpers import quiet_trainer
from tests.helpers_data import Listed

N = 36
X = torch.randn(N, 5, generator=torch.Generator().manual_seed(0))
X[:, 0] = torch.arange(N)
Y = torch.randint(0, 3, (N,), generator=torch.Generator().manual_seed(1))
Datum = namedtuple("Datum", "x v y weight")


@dataclass
class Thing:
    x: torch.Tensor
    y: object


@dataclass(frozen=True)
class Frozen:
    x: torch.Tensor
    y: object


def things(items):
    return Thing(torch.stack([item.x for item in items]), torch.tensor([float(item.y) for item in items]))


def dropping_names(items):
    return torch.stack([item[0] for item in items]), torch.tensor([item[2] for item in items])


def swapping(items):
    return torch.stack([x for _, x in items]), torch.tensor([y for y, _ in items])


def floats(items):
    return {
        "image": torch.stack([i["image"] for i in items]),
        "label": torch.tensor([float(i["label"]) for i in items]),
    }


FORMS = {
    "pairs": ([(x, float(y > 0)) for x, y in zip(X, Y, strict=True)], {}),
    "field dropped": (
        [(x, "name.png", float(y > 0)) for x, y in zip(X, Y, strict=True)],
        {"collate_fn": dropping_names},
    ),
    "field dropped, said": (
        [(x, "name.png", float(y > 0)) for x, y in zip(X, Y, strict=True)],
        {"collate_fn": dropping_names, "target": 2},
    ),
    "swapped": ([(float(y > 0), x) for x, y in zip(X, Y, strict=True)], {"collate_fn": swapping, "target": 0}),
    "dicts": ([{"image": x, "label": float(y > 0)} for x, y in zip(X, Y, strict=True)], {"collate_fn": floats}),
    "objects": ([Thing(x, float(y > 0)) for x, y in zip(X, Y, strict=True)], {"collate_fn": things}),
    "frozen objects": (
        [Frozen(x, float(y > 0)) for x, y in zip(X, Y, strict=True)],
        {"collate_fn": things, "target": "y"},
    ),
    "named tuples": ([Datum(x, 0.0, float(y > 0), 1.0) for x, y in zip(X, Y, strict=True)], {}),
    "named tuples, said": ([Datum(x, 0.0, float(y > 0), 1.0) for x, y in zip(X, Y, strict=True)], {"target": "y"}),
    "three, said": ([(x, float(y > 0), 1.0) for x, y in zip(X, Y, strict=True)], {"target": 1}),
}


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 1)
        self.trained = {}

    def forward(self, batch):
        return self.layer(self.parts(batch)[0])

    def parts(self, batch):
        if isinstance(batch, dict):
            return batch["image"], batch["label"]
        if hasattr(batch, "x"):
            return batch.x, batch.y
        return batch[0], batch[1]

    def training_step(self, batch, batch_idx):
        x, y = self.parts(batch)
        self.trained |= {int(row[0]): int(label) for row, label in zip(x, y, strict=True)}
        return F.binary_cross_entropy_with_logits(self.layer(x)[:, 0], y.float())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Spy(DiffusionSampler):
    def select(self, data, query_size, generator):
        self.features = data.features
        return super().select(data, query_size, generator)


def contrary(indices, items):
    return [int(Y[i] <= 0) for i in indices]


def dataset(items):
    return Listed(items)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("start", [6, {3: 1, 8: 0, 20: 1}], ids=["own", "given"])
def test_no_label_is_a_feature_and_answers_train(form, start):
    items, settings = FORMS[form]
    start = {i: int(Y[i] > 0) for i in start} if isinstance(start, dict) else start
    data = ActiveDataModule(dataset(items), initial_labels=start, batch_size=4, **settings)
    spy, net = Spy(), Net()
    active = ActiveLearning(spy, query_size=4, max_rounds=2, seed=0, oracle=contrary, features="inputs", run_dir=False)
    quiet_trainer([active], max_epochs=1).fit(net, datamodule=data)
    labels = (Y > 0).float().numpy()
    for column in spy.features.T:
        assert not np.array_equal(column, labels) and (len(set(column)) == 1 or len(set(column)) > 2)
    assert any(np.array_equal(column, X[:, 0].numpy()) for column in spy.features.T)
    asked = data.labelled_indices[data.pool.rounds_of(data.labelled_indices) > 0].tolist()
    assert len(asked) == 8 and {i: net.trained[i] for i in asked} == {i: int(Y[i] <= 0) for i in asked}


class TestThreeFields:
    """The last of three may be anything."""

    def test_known_labels_settle_it(self, caplog):
        items = [(x, int(y), 1.0) for x, y in zip(X, Y, strict=True)]
        data = ActiveDataModule(dataset(items), initial_labels=6, targets=Y, batch_size=36)
        with caplog.at_level(logging.INFO):
            x, y, weight = next(iter(data.train_dataloader()))
        assert data.target == 1 and weight.tolist() == [1.0] * 6
        assert y.tolist() == [int(Y[int(row[0])]) for row in x]

    @pytest.mark.parametrize(
        "items",
        [
            [(x, int(y), 1.0) for x, y in zip(X, Y, strict=True)],
            [(x, int(y), i) for i, (x, y) in enumerate(zip(X, Y, strict=True))],
            [(x, torch.rand(4, 4), i) for i, x in enumerate(X)],
            [(x, int(y), "name.png") for x, y in zip(X, Y, strict=True)],
        ],
        ids=["weight", "index", "mask and index", "name"],
    )
    def test_doubt_is_refused_with_the_fields(self, items):
        data = ActiveDataModule(dataset(items), initial_labels=6)
        with pytest.raises(LabelPlaceError, match=r"3 fields \(0: Tensor of shape \(5,\); 1: .*; 2: .*target=1"):
            _ = data.labels

    def test_two_inputs_and_a_label(self):
        items = [(x, -x, int(y)) for x, y in zip(X, Y, strict=True)]
        data = ActiveDataModule(dataset(items), initial_labels=[4, 7])
        assert data.labels.tolist() == Y[[4, 7]].tolist() and data.target == 2


def begun(data, **kwargs):
    active = ActiveLearning(query_size=2, max_rounds=1, features="inputs", run_dir=False, seed=0, **kwargs)
    quiet_trainer([active], max_epochs=1).fit(Net(), datamodule=data)


@pytest.mark.parametrize("target", [2, -1])
def test_targets_that_items_contradict_are_refused(target):
    items = [(x, int(y), 1 - int(y > 0)) for x, y in zip(X, Y, strict=True)]
    with pytest.raises(InvalidLabelError, match=r"`targets` and the items .* disagree .*say where with `target`"):
        begun(ActiveDataModule(dataset(items), initial_labels=6, targets=Y, target=target))


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        ([(x, torch.zeros(4, 4, dtype=torch.long)) for x in X], "Segmentation"),
        ([{"image": x, "mask": torch.zeros(4, 4)} for x in X], "Segmentation"),
        ([{"image": x, "boxes": torch.zeros(2, 4)} for x in X], "Object detection"),
        ([(x, {"boxes": torch.zeros(2, 4), "labels": torch.zeros(2)}) for x in X], "Object detection"),
        ([(x, float(x[1])) for x in X], "Regression"),
        ([{"image": x, "y": x[1:3]} for x in X], "Regression"),
    ],
)
def test_other_tasks_are_refused_as_such(items, kind):
    with pytest.raises(DiffalError, match=f"{kind} .*targets are not supported|{kind} targets are not supported"):
        begun(ActiveDataModule(dataset(items), initial_labels=0, num_classes=3), oracle=contrary)


class Images(TensorDataset):
    classes = ("cat", "dog")

    def __init__(self):
        super().__init__(X, (Y > 0).float())
        self.targets = (Y > 0).long().tolist()


class TestWhatTheDataSetSays:
    """`targets` and `classes` of the data set, where nobody gave others."""

    def test_names(self):
        data = ActiveDataModule(Subset(Images(), range(30)), initial_labels={1: "dog", 2: "cat", 4: "dog"})
        assert data.labels.tolist() == [1, 0, 1]
        begun(data, oracle=lambda indices, items: ["cat"] * len(indices))
        assert list(data.class_names) == ["cat", "dog"] and data.num_classes == 2

    def test_balanced_draw(self):
        data = ActiveDataModule(Images(), initial_labels=6, stratified=True)
        assert data.labels.tolist() == (Y > 0).long()[data.labelled_indices].tolist()
        assert sorted(data.labels.tolist()) == [0, 0, 0, 1, 1, 1]

    def test_labels_that_items_change_are_read_from_items(self):
        images = Images()
        images.targets = [1 - y for y in images.targets]
        data = ActiveDataModule(images, initial_labels=20)
        assert data.labels.tolist() == (Y > 0).long()[data.labelled_indices].tolist()
