"""torchgeo, torchvision, timm, MONAI, lightly, torch_uncertainty and pytorch-metric-learning."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from lightning_diffal import ActiveDataModule
from lightning_diffal._lightning import pl
from tests.clients.rounds import input_of, two_rounds

N, C = 30, 3
X = torch.randn(N, 3, 32, 32, generator=torch.Generator().manual_seed(0))
X[:, 0, 0, 0] = torch.arange(N) / 10  # tells items apart
Y = torch.randint(0, C, (N,), generator=torch.Generator().manual_seed(1))


def shown(images, labels):
    return zip((images[:, 0, 0, 0] * 10).round().int().tolist(), labels.int().tolist(), strict=True)


class Pairs(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        return X[i], Y[i]


class Dicts(Pairs):
    def __init__(self, name="image"):
        self.name = name

    def __getitem__(self, i):
        return {self.name: X[i], "label": Y[i]}


class Named(Pairs):
    """As lightly's data set: image, label, file name."""

    def __getitem__(self, i):
        return X[i], int(Y[i]), f"{i}.png"


class Classifier(pl.LightningModule):
    """As in the libraries' tutorials: a network of theirs, and no `forward` beyond calling it."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-5)


def pairs(**kwargs):
    return ActiveDataModule(Pairs(), initial_labels=6, batch_size=16, num_classes=C, **kwargs)


def of_pairs(batch):
    return shown(batch[0], batch[1])


def test_torchgeo():
    trainers = pytest.importorskip("torchgeo.trainers")
    task = trainers.ClassificationTask(model="resnet18", weights=None, in_channels=3, num_classes=C, loss="ce")

    class Data(pl.LightningDataModule):  # as torchgeo's: training loaders drop the last batch
        def train_dataloader(self):
            return DataLoader(Dicts(), 8, shuffle=True, drop_last=True)

        def val_dataloader(self):
            return DataLoader(Dicts(), 8)

    data = ActiveDataModule.from_datamodule(Data(), initial_labels=6, num_classes=C)
    two_rounds(
        task,
        data,
        Y,
        lambda batch: shown(batch["image"], batch["label"]),
        lambda module: input_of(module.model.fc, lambda: module(X)),
    )


@pytest.mark.parametrize("name", ["mnasnet0_5", "squeezenet1_1", "resnet18"])
def test_torchvision(name):
    models = pytest.importorskip("torchvision.models")
    net = getattr(models, name)(num_classes=C)
    head = net.fc if name == "resnet18" else net.classifier[1]

    def expected(module):
        given = input_of(head, lambda: module(X))
        return given.mean((2, 3)) if given.ndim == 4 else given

    two_rounds(Classifier(net), pairs(), Y, of_pairs, expected)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_timm(name):
    timm = pytest.importorskip("timm")
    size = {} if name == "resnet18" else {"img_size": 32}
    net = timm.create_model(name, num_classes=C, **size)

    def expected(module):
        heads = [net.get_classifier()] if "deit" not in name else [net.head, net.head_dist]
        return torch.cat([input_of(head, lambda: module(X)) for head in heads], dim=1)

    two_rounds(Classifier(net), pairs(), Y, of_pairs, expected)


def test_monai():
    nets = pytest.importorskip("monai.networks.nets")

    class Model(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nets.DenseNet(2, 3, C, init_features=8, growth_rate=4, block_config=(2, 2))

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch["image"]), batch["label"])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    two_rounds(
        Model(),
        ActiveDataModule(Dicts(), initial_labels=6, batch_size=8, num_classes=C),
        Y,
        lambda batch: shown(batch["image"], batch["label"]),
        lambda module: input_of(module.net.class_layers.out, lambda: module(X)),
    )


def test_lightly():
    modules = pytest.importorskip("lightly.models.modules")

    class Model(pl.LightningModule):
        """Linear evaluation beside a projection head; items are (image, label, file name)."""

        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.projection = modules.SimCLRProjectionHead(8, 8, 6)
            self.classifier = nn.Linear(8, C)

        def forward(self, x):
            return self.classifier(self.backbone(x))

        def training_step(self, batch, batch_idx):
            images, targets, _names = batch
            return (
                F.cross_entropy(self(images), targets) + 1e-3 * self.projection(self.backbone(images)).square().mean()
            )

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    two_rounds(
        Model(),
        ActiveDataModule(Named(), initial_labels=6, batch_size=8, num_classes=C, target=1),
        Y,
        of_pairs,
        lambda module: module.backbone(X),
    )


def test_torch_uncertainty():
    routines = pytest.importorskip("torch_uncertainty.routines")
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, C))
    routine = routines.ClassificationRoutine(
        model=net,
        num_classes=C,
        loss=nn.CrossEntropyLoss(),
        optim_recipe=torch.optim.SGD(net.parameters(), lr=1e-3),
    )
    two_rounds(routine, pairs(), Y, of_pairs, lambda module: net[:4](X))


def test_pytorch_metric_learning():
    losses = pytest.importorskip("pytorch_metric_learning.losses")

    class Model(pl.LightningModule):
        """`forward` gives an embedding; prototypes inside the loss make scores of it."""

        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.loss = losses.NormalizedSoftmaxLoss(num_classes=C, embedding_size=8)

        def forward(self, x):
            return self.body(x)

        def training_step(self, batch, batch_idx):
            return self.loss(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    two_rounds(Model(), pairs(), Y, of_pairs, lambda module: module.body(X), features="body")
