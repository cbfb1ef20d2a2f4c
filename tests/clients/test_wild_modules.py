"""LightningModules as people write them: two rounds, with people who answer otherwise than the data set."""

import copy
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from torchmetrics import Accuracy, ConfusionMatrix, MetricCollection

from lightning_diffal import ActiveDataModule
from lightning_diffal._lightning import pl
from tests.clients.rounds import input_of, two_rounds
from tests.clients.test_wild_batches import Base, C, D, W, X, Y, data, shown

ITEMS = list(zip(X, Y, strict=True))


def of_pairs(batch):
    return shown(batch[0], batch[1])


def check(model, expected=lambda m: m.body(X), module=None):
    two_rounds(model, module or data(ITEMS), Y, of_pairs, expected)


class Trains(Base):
    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])


Named = namedtuple("Named", "embedding logits")


@dataclass
class Output:
    hidden: Tensor
    scores: Tensor


RETURNED = {
    "scores first": lambda z, scores: (scores, z),
    "scores last": lambda z, scores: (z, scores),
    "dict": lambda z, scores: {"features": z, "prediction": scores},
    "logits in a dict": lambda z, scores: {"probabilities": scores.softmax(1), "logits": scores},
    "named tuple": Named,
    "dataclass": Output,
    "classes too": lambda z, scores: (scores, scores.softmax(-1), scores.argmax(-1)),
    "no loss yet": lambda z, scores: (0, scores),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_what_forward_returns(kind):
    class Model(Base):
        def forward(self, x):
            z = self.body(x)
            return RETURNED[kind](z, self.head(z))

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self.head(self.body(batch[0])), batch[1])

    check(Model())


def test_an_output_of_transformers():
    outputs = pytest.importorskip("transformers.modeling_outputs")

    class Model(Base):
        def forward(self, x, labels=None):
            scores = self.head(self.body(x))
            loss = None if labels is None else F.cross_entropy(scores, labels)
            return outputs.SequenceClassifierOutput(loss=loss, logits=scores, hidden_states=(x,))

        def training_step(self, batch, batch_idx):
            return self(**batch).loss

    items = [{"x": x, "labels": y} for x, y in ITEMS]
    two_rounds(Model(), data(items), Y, lambda batch: shown(batch["x"], batch["labels"]), lambda m: m.body(X))


def test_labels_that_forward_takes_for_a_margin():
    class Model(Base):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(C, W))

        def forward(self, x, labels=None):
            cosine = F.linear(F.normalize(self.body(x)), F.normalize(self.weight))
            return 30 * (cosine if labels is None else cosine - 0.2 * F.one_hot(labels.long(), C))

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(*batch), batch[1])

    check(Model())


def test_shared_steps_without_forward():
    class Model(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters()
            self.body, self.classify = nn.Sequential(nn.Linear(D, W), nn.ReLU()), nn.Linear(W, C)
            metrics = {"accuracy": Accuracy("multiclass", num_classes=C)}
            metrics["confusion"] = ConfusionMatrix("multiclass", num_classes=C)
            self.metrics = MetricCollection(metrics)

        def step(self, batch):
            scores = self.classify(self.body(batch[0]))
            self.metrics.update(scores, batch[1])
            self.log("loss", F.cross_entropy(scores, batch[1]))
            return {"loss": F.cross_entropy(scores, batch[1]), "classes": scores.argmax(1)}

        def training_step(self, batch, batch_idx):
            return self.step(batch)

        def validation_step(self, batch, batch_idx):
            return self.step(batch)

        def on_train_epoch_end(self):
            assert int(self.metrics.compute()["confusion"].sum()) == len(self.trainer.datamodule.labelled_indices)
            self.metrics.reset()

        configure_optimizers = Base.configure_optimizers

    check(Model())


class Compiled(pl.LightningModule):
    def __init__(self, how):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(D, W), nn.ReLU()), nn.Linear(W, C)
        self.net = nn.Sequential(self.body, self.head)
        if how == "part":
            self.net = torch.compile(self.net, backend="eager")
        elif how == "in place":
            self.net.compile(backend="eager")

    def forward(self, x):
        return self.net(x)

    training_step, configure_optimizers = Trains.training_step, Base.configure_optimizers


@pytest.mark.parametrize("how", ["part", "in place", "whole"])
def test_compiled(how):
    model = Compiled(how)
    check(torch.compile(model, backend="eager") if how == "whole" else model)


def test_autocast_inside():
    class Model(Trains):
        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x).float()

    def expected(module):
        with torch.autocast("cpu", torch.bfloat16):
            return module.body(X)

    check(Model(), expected)


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.experts, self.gate = nn.ModuleList(nn.Linear(W, C) for _ in range(3)), nn.Linear(W, 3)

    def forward(self, x):
        scores = torch.stack([expert(x) for expert in self.experts], 1)
        return (self.gate(x).softmax(-1)[..., None] * scores).sum(1)


class Ensemble(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(W, C) for _ in range(4))

    def forward(self, x):
        return torch.stack([head(x).softmax(-1) for head in self.heads]).mean(0).log()


class LowRank(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(2, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, 2))

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T


HEADS = {
    "experts": Experts,
    "ensemble": Ensemble,
    "low rank": lambda: LowRank(nn.Linear(W, C)),
    "spectral norm": lambda: spectral_norm(nn.Linear(W, C)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(W, C)),
}


@pytest.mark.parametrize("kind", HEADS)
def test_heads(kind):
    model = Trains()
    model.head = HEADS[kind]()
    check(model)


def test_a_coarse_decision_that_helps_the_fine_one():
    class Model(Trains):
        def __init__(self):
            super().__init__()
            self.coarse, self.head = nn.Linear(W, 2), nn.Linear(W + 2, C)

        def forward(self, x):
            z = self.body(x)
            return self.head(torch.cat([z, self.coarse(z).softmax(-1)], -1))

    check(Model(), lambda m: input_of(m.head, lambda: m(X)))


@pytest.mark.parametrize("always", [False, True])
def test_an_auxiliary_head(always):
    class Model(Base):
        def __init__(self):
            super().__init__()
            self.middle, self.auxiliary = nn.Sequential(nn.Linear(W, W), nn.ReLU()), nn.Linear(W, C)

        def forward(self, x):
            z = self.body(x)
            scores = self.head(self.middle(z))
            return (scores, self.auxiliary(z)) if always or self.training else scores

        def training_step(self, batch, batch_idx):
            scores, others = self(batch[0])
            return F.cross_entropy(scores, batch[1]) + 0.4 * F.cross_entropy(others, batch[1])

    check(Model(), lambda m: m.middle(m.body(X)))


def test_several_tasks():
    class Model(Base):
        def __init__(self):
            super().__init__()
            self.decode, self.turn = nn.Linear(W, D), nn.Linear(W, 4)

        def forward(self, x):
            z = self.body(x)
            return {"again": self.decode(z), "turn": self.turn(z), "class": self.head(z)}

        def training_step(self, batch, batch_idx):
            output = self(batch[0])
            return F.cross_entropy(output["class"], batch[1]) + F.mse_loss(output["again"], batch[0])

    check(Model())


def test_prompts_as_classes():
    class Model(Trains):
        def __init__(self):
            super().__init__()
            self.project, self.prompts = nn.Linear(W, 10, bias=False), nn.Embedding(C, D)
            self.read, self.scale = nn.Linear(D, 10), nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            images = F.normalize(self.project(self.body(x)), dim=-1)
            return self.scale.exp() * images @ F.normalize(self.read(self.prompts.weight), dim=-1).T

    check(Model(), lambda m: m.project(m.body(X)))


class DataWithWeights(pl.LightningDataModule):
    def __init__(self):
        super().__init__()
        self.mean = X.mean(0)

    def setup(self, stage):
        self.class_weights = torch.tensor([1.0, 2.0, 3.0])

    def normalise(self, x):
        return x - self.mean

    def train_dataloader(self):
        return DataLoader(ITEMS, 8, shuffle=True)


def test_what_a_model_reads_of_its_data_module():
    class Model(Base):
        def setup(self, stage):
            self.weights = self.trainer.datamodule.class_weights

        def forward(self, x):
            return super().forward(self.trainer.datamodule.normalise(x))

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch[0]), batch[1], weight=self.weights)

    module = ActiveDataModule.from_datamodule(DataWithWeights(), initial_labels=6, num_classes=C)
    check(Model(), lambda m: m.body(X - X.mean(0)), module)


@pytest.mark.parametrize("has_forward", [True, False])
def test_manual_optimisation(has_forward):
    class Model(Base if has_forward else pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.body, self.head = nn.Sequential(nn.Linear(D, W), nn.ReLU()), nn.Linear(W, C)
            self.critic = nn.Linear(W, 1)

        def loss(self, batch):
            return F.cross_entropy(self.head(self.body(batch[0])), batch[1])

        def training_step(self, batch, batch_idx):
            values = lambda: self.critic(self.body(batch[0]).detach()).square().mean()  # noqa: E731
            for optimizer, loss in zip(self.optimizers(), (lambda: self.loss(batch), values), strict=True):
                self.toggle_optimizer(optimizer)
                optimizer.zero_grad()
                self.manual_backward(loss())
                optimizer.step()
                self.untoggle_optimizer(optimizer)

        def validation_step(self, batch, batch_idx):
            self.log("loss", self.loss(batch))

        def configure_optimizers(self):
            classifier = [*self.body.parameters(), *self.head.parameters()]
            return torch.optim.SGD(classifier, 1e-3), torch.optim.Adam(self.critic.parameters())

    check(Model())


class Teacher(Trains):
    """Predicts with a moving average of itself."""

    def __init__(self, wrapped):
        super().__init__()
        self.wrapped, net = wrapped, nn.Sequential(self.body, self.head)
        self.teacher = AveragedModel(net) if wrapped else copy.deepcopy(net).requires_grad_(False)

    def forward(self, x):
        return super().forward(x) if self.training else self.teacher(x)

    def on_train_batch_end(self, *args):
        net = nn.Sequential(self.body, self.head)
        if self.wrapped:
            self.teacher.update_parameters(net)
            return
        for mean, value in zip(self.teacher.parameters(), net.parameters(), strict=True):
            mean.data.lerp_(value.data, 0.1)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_moving_average(wrapped):
    check(Teacher(wrapped), lambda m: (m.teacher.module if wrapped else m.teacher)[0](X))


def test_a_memory_bank():
    class Model(Trains):
        def __init__(self):
            super().__init__()
            self.register_buffer("queue", torch.zeros(0, W))
            self.lists = []

        def training_step(self, batch, batch_idx):
            z = self.body(batch[0])
            self.queue = torch.cat([z.detach(), self.queue])[:20]
            self.lists.append(len(z))
            return F.cross_entropy(self.head(z), batch[1])

    check(Model())


def test_mixed_up_batches():
    class Model(Trains):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch[0] + (0.01 if self.trainer.training else 0), batch[1]

        def training_step(self, batch, batch_idx):
            x, y = batch
            other = torch.randperm(len(x))
            scores = self(0.7 * x + 0.3 * x[other])
            return 0.7 * F.cross_entropy(scores, y) + 0.3 * F.cross_entropy(scores, y[other])

    check(Model())


def test_a_head_that_is_a_parameter():
    class Model(Trains):
        def __init__(self):
            super().__init__()
            self.fc, self.weight = nn.Linear(D, W), nn.Parameter(torch.randn(W, C))

        def forward(self, x):
            return F.softmax(F.relu(self.fc(x)) @ self.weight, -1)

    check(Model(), lambda m: m.fc(X).relu())
