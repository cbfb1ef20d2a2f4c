"""Heads that are parameters: the penultimate layer is what a function of torch is given together with them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_diffal.exceptions import FeatureError
from tests.features.test_features import assert_same_rows, extract
from tests.helpers_data import D, inputs

W = 16


class Functional(nn.Module):
    """A layer, and heads of every kind as parameters beside it."""

    def __init__(self, scores):
        super().__init__()
        self.fc, self.norm, self.drop = nn.Linear(D, W), nn.BatchNorm1d(W), nn.Dropout(0.3)
        self.weight, self.bias = nn.Parameter(torch.randn(W, 3)), nn.Parameter(torch.randn(3))
        self.prototypes, self.scale = nn.Parameter(torch.randn(3, W)), nn.Parameter(torch.tensor(8.0))
        self.first, self.second = nn.Parameter(torch.randn(W, 12)), nn.Parameter(torch.randn(12, 3))
        self.scores = scores

    def forward(self, x):
        return self.scores(self, x)


def unit(z):
    return z / z.norm(dim=1, keepdim=True)


def relu(m, x):
    return F.relu(m.fc(x))


KINDS = {
    "softmax": (lambda m, x: F.softmax(relu(m, x) @ m.weight, -1), relu),
    "log_softmax": (lambda m, x: F.log_softmax(torch.tanh(m.fc(x)) @ m.weight, -1), lambda m, x: m.fc(x).tanh()),
    "linear": (lambda m, x: F.linear(F.gelu(m.fc(x)), m.prototypes, m.bias), lambda m, x: F.gelu(m.fc(x))),
    "no activation": (lambda m, x: m.fc(x) @ m.weight + m.bias, lambda m, x: m.fc(x)),
    "dropout": (lambda m, x: m.drop(relu(m, x)) @ m.weight, relu),
    "batch norm": (lambda m, x: torch.mm(m.norm(m.fc(x)).tanh(), m.weight), lambda m, x: m.norm(m.fc(x)).tanh()),
    "cosine": (lambda m, x: m.scale * F.normalize(relu(m, x)) @ F.normalize(m.weight, dim=0), relu),
    "cosine, no activation": (lambda m, x: F.normalize(m.fc(x)) @ F.normalize(m.weight, dim=0), lambda m, x: m.fc(x)),
    "unit vectors": (lambda m, x: unit(m.fc(x).tanh()) @ m.weight, lambda m, x: m.fc(x).tanh()),
    "einsum": (lambda m, x: torch.einsum("bd,dc->bc", F.silu(m.fc(x)), m.weight), lambda m, x: F.silu(m.fc(x))),
    "distances": (lambda m, x: -torch.cdist(relu(m, x), m.prototypes), relu),
    "differences": (lambda m, x: -(relu(m, x)[:, None] - m.prototypes).square().sum(-1), relu),
    "similarity": (lambda m, x: F.cosine_similarity(relu(m, x)[:, None], m.prototypes[None], dim=-1), relu),
    "two layers": (lambda m, x: F.relu(relu(m, x) @ m.first) @ m.second, lambda m, x: F.relu(relu(m, x) @ m.first)),
    "no module": (lambda m, x: F.relu(F.linear(x, m.fc.weight)) @ m.weight, lambda m, x: F.relu(x @ m.fc.weight.T)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["plain", "compiled", "bf16"])
def test_what_the_parameter_is_combined_with(kind, how):
    scores, before = KINDS[kind]
    net = Functional(scores)
    expected = before(net.eval(), inputs())
    if how == "compiled":
        net = torch.compile(net, backend="eager")
        net(inputs())
    found = extract(net, trainer={"precision": "bf16-mixed"} if how == "bf16" else None, num_classes=3)
    assert_same_rows(found["features"], expected, atol=6e-2 if how == "bf16" else 1e-6)


class TwoLayers(nn.Module):
    """A head of one's own that has no layers inside."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(12, W)), nn.Parameter(torch.randn(3, 12))

    def hidden(self, x):
        return F.relu(F.linear(x, self.first))

    def forward(self, x):
        return F.linear(self.hidden(x), self.second)


def test_inside_a_head_without_layers():
    net = nn.Sequential(nn.Linear(D, W), nn.ReLU(), TwoLayers())
    assert_same_rows(extract(net)["features"], net[2].hidden(net[:2](inputs())))


def test_wide_and_deep_is_still_refused():
    def scores(m, x):
        return relu(m, x) @ m.weight + x @ m.weight[:D]

    with pytest.raises(FeatureError, match="does not depend on its items through one layer alone"):
        extract(Functional(scores))
