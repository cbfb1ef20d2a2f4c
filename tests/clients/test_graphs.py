"""PyTorch Geometric and chemprop: items and batches that are objects and named tuples."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_diffal import ActiveDataModule
from lightning_diffal._lightning import pl
from tests.clients.rounds import input_of, two_rounds

N = 30
Y = torch.randint(0, 3, (N,), generator=torch.Generator().manual_seed(1))


def test_torch_geometric():
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Batch, Data
    from torch_geometric.loader import DataLoader
    from torch_geometric.nn import MLP, GCNConv, global_mean_pool

    g = torch.Generator().manual_seed(0)
    graphs = []
    for i in range(N):
        size = 3 + i % 4
        x = torch.randn(size, 5, generator=g)
        x[:, 0] = i
        edges = torch.stack([torch.arange(size), (torch.arange(size) + 1) % size])
        graphs.append(Data(x=x, edge_index=edges, y=Y[i : i + 1]))

    class Model(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.conv, self.mlp = GCNConv(5, 8), MLP([8, 6, 3], norm=None)

        def forward(self, x, edge_index, batch):
            return self.mlp(global_mean_pool(self.conv(x, edge_index).relu(), batch))

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch.x, batch.edge_index, batch.batch), batch.y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    class Module(pl.LightningDataModule):
        def train_dataloader(self):
            return DataLoader(graphs, 8, shuffle=True)

    everything = Batch.from_data_list(graphs)
    two_rounds(
        Model(),
        ActiveDataModule.from_datamodule(Module(), initial_labels=6, num_classes=3),
        Y,
        lambda batch: zip((batch.x[batch.ptr[:-1], 0]).int().tolist(), batch.y.tolist(), strict=True),
        lambda module: input_of(
            module.mlp.lins[-1], lambda: module(everything.x, everything.edge_index, everything.batch)
        ),
    )


def test_chemprop():
    pytest.importorskip("chemprop")
    from chemprop import data as chem
    from chemprop import featurizers, models
    from chemprop import nn as chem_nn

    truth = (Y > 0).long()
    smiles = ["C" * (1 + i % 10) + ["O", "N", "Cl"][i // 10] for i in range(N)]
    points = [
        chem.MoleculeDatapoint.from_smi(s, [float(y)], x_d=torch.tensor([float(i)]).numpy())
        for i, (s, y) in enumerate(zip(smiles, truth.tolist(), strict=True))
    ]
    dataset = chem.MoleculeDataset(points, featurizers.SimpleMoleculeMolGraphFeaturizer())

    class Module(pl.LightningDataModule):
        def train_dataloader(self):
            return chem.build_dataloader(dataset, batch_size=8, shuffle=True)

    message_passing = chem_nn.BondMessagePassing(d_h=8, depth=2)
    predictor = chem_nn.BinaryClassificationFFN(input_dim=9, hidden_dim=6)
    model = models.MPNN(message_passing, chem_nn.MeanAggregation(), predictor)
    everything = next(iter(chem.build_dataloader(dataset, batch_size=N, shuffle=False)))
    last = [part for part in predictor.modules() if isinstance(part, nn.Linear)][-1]
    two_rounds(
        model,
        ActiveDataModule.from_datamodule(Module(), initial_labels=6, num_classes=2, target="y"),
        truth,
        lambda batch: zip(batch.X_d[:, 0].int().tolist(), batch.Y[:, 0].int().tolist(), strict=True),
        lambda module: input_of(last, lambda: module(everything.bmg, everything.V_d, everything.X_d)),
        n_classes=2,
    )
