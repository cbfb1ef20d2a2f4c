"""Running models as Lightning does: batches of every kind, steps without a trace, and what is said where none works."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics import Accuracy, MetricCollection, Precision

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal._lightning import pl
from lightning_diffal.exceptions import FeatureError
from lightning_diffal.samplers import MarginSampler
from tests.features.test_features import assert_same_rows, extract
from tests.helpers import quiet_trainer
from tests.helpers_data import D, Listed, classes, inputs, points

Fields = namedtuple("Fields", "x extra y weight")


@dataclass
class Graph:
    x: torch.Tensor
    size: torch.Tensor
    y: torch.Tensor


def graphs(items):
    return Graph(*(torch.stack([getattr(item, name) for item in items]) for name in ("x", "size", "y")))


class Base(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, 3))

    def training_step(self, batch, batch_idx):
        raise AssertionError("it trained")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class OneInput(Base):
    def forward(self, x):
        return self.net(x)


class Anything(Base):
    def forward(self, *args, **kwargs):
        return self.net(*args, **kwargs)


class ByName(Base):
    def forward(self, x, size=None, extra=None):
        return self.net(x)


class Whole(Base):
    def forward(self, data):
        return self.net(data.x)


X, Y = inputs(), torch.as_tensor(classes())
BATCHES = {
    "dict, one input": ([{"image": x, "label": y} for x, y in zip(X, Y, strict=True)], {}, OneInput),
    "dict, anything": ([{"image": x, "label": y} for x, y in zip(X, Y, strict=True)], {}, Anything),
    "dict, surplus": (
        [{"image": x, "label": y, "index": i, "name": f"{i}.png"} for i, (x, y) in enumerate(zip(X, Y, strict=True))],
        {},
        OneInput,
    ),
    "index": ([(x, y, i) for i, (x, y) in enumerate(zip(X, Y, strict=True))], {"target": 1}, OneInput),
    "file name": ([(x, y, f"{i}.png") for i, (x, y) in enumerate(zip(X, Y, strict=True))], {"target": 1}, OneInput),
    "index, optional": ([(x, y, i) for i, (x, y) in enumerate(zip(X, Y, strict=True))], {"target": 1}, ByName),
    "named tuple": ([Fields(x, 0.0, y, 1.0) for x, y in zip(X, Y, strict=True)], {}, ByName),
    "object by name": (
        [Graph(x, torch.tensor(1), y) for x, y in zip(X, Y, strict=True)],
        {"collate_fn": graphs},
        ByName,
    ),
    "object": ([Graph(x, torch.tensor(1), y) for x, y in zip(X, Y, strict=True)], {"collate_fn": graphs}, Whole),
}


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("features", ["auto", "net.1"])
def test_batches(kind, features):
    items, settings, model = BATCHES[kind]
    net = model()
    found = extract(net, Listed(items), features=features, **settings)
    assert_same_rows(found["features"], net.net[:2](X))


class Steps(pl.LightningModule):
    """No `forward`; steps that log, count and collect."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, 3))
        self.accuracy = MetricCollection(
            [Accuracy("multiclass", num_classes=3), Precision("multiclass", num_classes=3)]
        )
        self.register_buffer("bank", torch.zeros(0, 8))
        self.collected, self.seen = [], 0

    def step(self, batch):
        z = self.net[:2](batch[0])
        logits = self.net[2](z)
        loss = F.cross_entropy(logits, batch[1])
        self.accuracy.update(logits, batch[1])
        self.bank = torch.cat([self.bank, z.detach()])
        self.collected.append(float(loss))
        self.seen += len(z)
        self.log("loss", loss)
        self.log_dict({"a": loss})
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Predicts(Steps):
    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return {"logits": self.net(batch[0])}

    def training_step(self, batch, batch_idx):
        return self.step(batch)


class Validates(Steps):
    def validation_step(self, batch, batch_idx):
        self.step(batch)

    def training_step(self, batch, batch_idx):
        return self.step(batch)


class Trains(Steps):
    def training_step(self, batch, batch_idx):
        return self.step(batch)


@pytest.mark.parametrize("model", [Predicts, Validates, Trains])
@pytest.mark.parametrize("features", ["auto", "net.1"])
def test_steps_leave_no_trace(model, features):
    net = model()
    net.accuracy.update(torch.eye(3), torch.tensor([0, 1, 1]))
    before = {name: float(value) for name, value in net.accuracy.compute().items()}
    found = extract(net, features=features, wanted=("features", "probabilities"), num_classes=3)
    assert_same_rows(found["features"], net.net[:2](X))
    assert_same_rows(found["probabilities"], net.net(X).softmax(1))
    assert net.collected == [] and net.seen == 0 and net.bank.shape == (0, 8)
    assert {name: float(value) for name, value in net.accuracy.compute().items()} == before


def test_two_rounds_without_forward():
    net = Trains()
    active = ActiveLearning(MarginSampler(), query_size=4, max_rounds=2, seed=0, run_dir=False)
    data = ActiveDataModule(points(), initial_labels=6, batch_size=4, num_classes=3)
    quiet_trainer([active], max_epochs=1).fit(net, datamodule=data)
    assert [record.n_labelled for record in active.history] == [6, 10, 14]


def test_what_was_tried_is_told():
    class Fails(Base):
        def forward(self, first, second):
            return first

        def predict_step(self, batch, batch_idx):
            raise RuntimeError("no such table")

    message = r"\(1\) .*forward` cannot be called.*'second'; \(2\) `predict_step`: RuntimeError: no such table; \(3\)"
    with pytest.raises(FeatureError, match=message):
        extract(Fails())


def test_features_of_a_step():
    net = Predicts()
    assert_same_rows(extract(net, features="predict_step")["features"], net.net(X))


@pytest.mark.parametrize("drop", [False, True], ids=["one class only", "no label in the batch"])
def test_collate_functions_of_few_classes(drop):
    """A collate function that fails for any other class than the placeholder, or that leaves labels out."""

    def collate(items):
        x, y = torch.stack([item[0] for item in items]), [int(item[1]) for item in items]
        assert drop or set(y) <= {0}
        return (x, -x) if drop else (x, torch.tensor(y))

    class Model(Base):
        def forward(self, a, b=None):
            assert (b is not None) == drop
            return self.net(a)

    net = Model()
    assert_same_rows(extract(net, collate_fn=collate)["features"], net.net[:2](X))
