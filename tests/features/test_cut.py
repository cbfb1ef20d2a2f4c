"""The penultimate layer by cause: heads of every kind, and an error where there is none."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.data import TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.exceptions import ConfigurationError, DiffalError, FeatureError
from lightning_diffal.samplers import RandomSampler
from tests.features.test_features import assert_same_rows, extract
from tests.helpers import quiet_trainer
from tests.helpers_data import D, Model, classes, inputs, points

W = 16


class Body(nn.Module):
    """Everything before the head."""

    def __init__(self, head=None, width=W):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(D, width), nn.BatchNorm1d(width), nn.ReLU())
        self.head = head

    def forward(self, x):
        return self.head(self.body(x))


class LoRA(nn.Module):
    """Zero at first, as peft makes it."""

    def __init__(self):
        super().__init__()
        self.base, self.a, self.b = nn.Linear(W, 3), nn.Linear(W, 2, bias=False), nn.Linear(2, 3, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


class DoRA(LoRA):
    def __init__(self):
        super().__init__()
        self.magnitude = nn.Parameter(torch.ones(3))

    def forward(self, x):
        weight = self.base.weight + self.b.weight @ self.a.weight
        return F.linear(x, self.magnitude[:, None] * F.normalize(weight), self.base.bias)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.out, self.gate = nn.Linear(W, 3), nn.Linear(3, 3)

    def forward(self, x):
        logits = self.out(x)
        return logits * self.gate(logits).sigmoid()


class Residual(nn.Module):
    """A path that starts at zero and still counts."""

    def __init__(self):
        super().__init__()
        self.out, self.scale = nn.Linear(W, 3), nn.Parameter(torch.zeros(()))
        self.extra = nn.Sequential(nn.Linear(W, 5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x):
        return self.out(x) + self.scale * self.extra(x)


class Matmul(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(W, 3))

    def forward(self, x):
        return x @ self.weight


class Cosine(Matmul):
    def forward(self, x):
        return 10 * F.normalize(x) @ F.normalize(self.weight, dim=0)


class Prototypes(Matmul):
    def forward(self, x):
        return -torch.cdist(x, self.weight.T)


class Quadratic(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Bilinear(W, W, 3)

    def forward(self, x):
        return self.out(x, x)


def zero_head():
    head = nn.Linear(W, 3)
    nn.init.zeros_(head.weight)
    return head


HEADS = {
    "linear": lambda: nn.Linear(W, 3),
    "zero at first": zero_head,
    "dropout before": lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(W, 3)),
    "temperature after": lambda: nn.Sequential(nn.Linear(W, 3), nn.Softmax(1)),
    "calibrated": lambda: nn.Sequential(nn.Linear(W, 3), nn.Linear(3, 3)),
    "LoRA": LoRA,
    "DoRA": DoRA,
    "gated": Gated,
    "residual": Residual,
    "matmul": Matmul,
    "cosine": Cosine,
    "prototypes": Prototypes,
    "bilinear": Quadratic,
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(W, 3)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (W, 1, 1)), nn.Conv2d(W, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("how", ["plain", "compiled", "bf16"])
def test_heads(kind, how):
    if (kind, how) == ("bilinear", "bf16"):
        pytest.skip("torch has no autocast for nn.Bilinear")
    net = Body(HEADS[kind]())
    expected = net.eval().body(inputs())
    if how == "compiled":
        net = torch.compile(net, backend="eager")
        net(inputs())
    found = extract(net, trainer={"precision": "bf16-mixed"} if how == "bf16" else None, num_classes=3)
    assert_same_rows(found["features"], expected, atol=5e-2 if how == "bf16" else 1e-6)


class HeadInForward(Body):
    """The head is a parameter of the model itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(W, 3))

    def forward(self, x):
        return F.normalize(self.body(x)) @ self.weight


def test_the_output_of_the_last_layer_before_a_parameter():
    net = HeadInForward()
    assert_same_rows(extract(net)["features"], net.eval().body(inputs()))


def test_an_early_layer_as_wide_as_the_scores():
    net = Body(Matmul())
    net.body = nn.Sequential(nn.Linear(D, 3), nn.ReLU(), nn.Linear(3, W), nn.ReLU())
    assert_same_rows(extract(net)["features"], net.body(inputs()))


def test_an_embedding_as_wide_as_the_scores():
    net = Body(nn.Linear(3, 3), width=3)
    assert_same_rows(extract(net)["features"], net.eval().body(inputs()))


def test_linear_model_on_the_items():
    net = nn.Sequential(nn.Flatten(), nn.Linear(D, 3))
    assert_same_rows(extract(net)["features"], inputs())


class WideAndDeep(Body):
    def __init__(self):
        super().__init__(nn.Linear(W, 3))
        self.wide = nn.Linear(D, 3)

    def forward(self, x):
        return self.head(self.body(x)) + self.wide(x)


class TestNoCut:
    """Two layers make the scores."""

    def test_is_refused_with_the_candidates(self):
        with pytest.raises(FeatureError, match=rf"'net.head' \({W} numbers\), 'net.wide' \({D} numbers\).*head="):
            extract(WideAndDeep())

    def test_the_user_names_the_head(self):
        net = WideAndDeep()
        active = ActiveLearning(RandomSampler(), query_size=2, max_rounds=1, head="net.head", run_dir=False)
        active.sampler.requires = frozenset({"features"})
        data = ActiveDataModule(points(), initial_labels=4)
        seen = {}
        active.sampler.select, select = (
            lambda data, *rest: (seen.update(features=data.features), select(data, *rest))[1],
            active.sampler.select,
        )
        quiet_trainer([active], max_epochs=1, limit_train_batches=1).fit(Model(net), datamodule=data)
        assert seen["features"].shape == (40, W)

    @pytest.mark.parametrize("name", ["net.missing", 3])
    def test_a_name_of_nothing(self, name):
        with pytest.raises(DiffalError, match="head"):
            active = ActiveLearning(query_size=2, max_rounds=1, head=name, run_dir=False)
            quiet_trainer([active]).fit(Model(WideAndDeep()), datamodule=ActiveDataModule(points(), initial_labels=4))


class TwoTokens(nn.Module):
    """As DeiT: a class token and a distillation token, each with a head."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(D, D)
        self.norm, self.head, self.distilled = nn.LayerNorm(D), nn.Linear(D, 3), nn.Linear(D, 3)

    def tokens(self, x):
        return self.norm(self.encode(x))

    def forward(self, x):
        z = self.tokens(x)
        return (self.head(z[:, 0]) + self.distilled(z[:, 1])) / 2


def test_two_heads_on_two_tokens():
    net, x = TwoTokens(), torch.randn(20, 6, D)
    found = extract(net, TensorDataset(x, classes(20)), initial_labels=[3])
    assert_same_rows(found["features"], net.tokens(x)[:, :2].flatten(1))


def test_parameters_are_put_back():
    net = Body(LoRA())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    extract(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net.head.b.weight.any()


@pytest.mark.parametrize("wanted", [("features",), ("probabilities",)])
def test_outputs_of_another_width_are_no_class_scores(wanted):
    with pytest.raises(ConfigurationError, match="has 5 outputs, but the data module says `num_classes=3`"):
        extract(nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, 5)), wanted=wanted, num_classes=3)


def test_probabilities_need_no_linear_layer():
    net = Body(Cosine())
    found = extract(net, wanted=("features", "probabilities"), features="net.body")
    assert_same_rows(found["probabilities"], net.eval()(inputs()).softmax(1))
