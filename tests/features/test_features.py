"""The penultimate layer of models of all shapes, and a pass that leaves everything as it was."""

import dataclasses
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal._lightning import pl
from lightning_diffal.exceptions import FeatureError
from lightning_diffal.features.extractor import FeatureExtractor
from tests.helpers import quiet_trainer
from tests.helpers_data import D, Model, Recorder, classes, inputs, points

START = [31, 4, 17, 8]


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(D, 16), nn.ReLU())
        self.head = nn.Linear(16, 3)

    def embed(self, x):
        return self.body(x)

    def forward(self, x):
        return self.head(self.embed(x))


class HeadFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 3)
        self.body = nn.Sequential(nn.Linear(D, 16), nn.ReLU())

    embed, forward = Plain.embed, Plain.forward


class Auxiliary(Plain):
    """The auxiliary head runs last, the main output is returned first."""

    def __init__(self):
        super().__init__()
        self.auxiliary = nn.Linear(16, 7)

    def forward(self, x):
        z = self.embed(x)
        return self.head(z), self.auxiliary(z)


class LogSoftmax(Plain):
    def forward(self, x):
        return super().forward(x).log_softmax(-1)


class Softmax(Plain):
    def forward(self, x):
        return super().forward(x).softmax(-1)


class Projection(Plain):
    """The projection head is declared last and unused in `forward`."""

    def __init__(self):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))


class Normalised(Projection):
    def embed(self, x):
        return F.normalize(self.body(x))


class Reused(Plain):
    """The head changes nothing of its input, what comes after does."""

    def forward(self, x):
        z = self.embed(x)
        output = self.head(z)
        z.zero_()
        return output


class WithEmbedding(Plain):
    def forward(self, x):
        z = self.embed(x)
        return {"embedding": z, "logits": self.head(z)}


class HuggingFace(Plain):
    """The loss comes first where there are labels."""

    def forward(self, x=None, labels=None):
        assert labels is None
        logits = self.head(self.embed(x))
        return OrderedDict(loss=logits.sum(), logits=logits, hidden_states=(x,))


@dataclasses.dataclass
class Output:
    loss: torch.Tensor
    logits: torch.Tensor


class AsDataclass(Plain):
    def forward(self, x):
        logits = self.head(self.embed(x))
        return Output(logits.mean(), logits)


class Tuples(Plain):
    def forward(self, x):
        logits = self.head(self.embed(x))
        return logits.mean(), [logits]


FOUND = [Plain, HeadFirst, Auxiliary, LogSoftmax, Softmax, Projection, Normalised, WithEmbedding, HuggingFace]
FOUND += [AsDataclass, Tuples, Reused]


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True)
        self.head = nn.Linear(D, 3)

    def embed(self, x):
        return self.encode(x)[:, 0]

    def forward(self, x):
        return self.head(self.embed(x))


class HeadThenMean(Tokens):
    def embed(self, x):
        return self.encode(x).mean(1)

    def forward(self, x):
        return self.head(self.encode(x)).mean(1)


class HeadThenFirst(Tokens):
    def forward(self, x):
        return self.head(self.encode(x))[:, 0]


class HeadThenLastOfEach(Tokens):
    """As causal language models classify: the logits of each text's last token."""

    def last(self, x):
        return torch.arange(len(x)), x[:, 0, 0].gt(0).long() + 1

    def embed(self, x):
        return self.encode(x)[self.last(x)]

    def forward(self, x):
        return self.head(self.encode(x))[self.last(x)]


class ConvHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.head(self.body(x).relu()).mean((2, 3))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.weight = nn.Linear(D, 16), nn.Parameter(torch.randn(3, 16))

    def forward(self, x):
        return F.linear(self.body(x).relu(), self.weight)


def extract(
    model, dataset=None, features="auto", wanted=("features",), trainer=None, batch_size=7, indices=None, **kwargs
):
    """What the extractor reads, in a fit that stops before it trains."""
    found = {}

    class Look(pl.Callback):
        def on_fit_start(self, trainer, module):
            extractor = FeatureExtractor(features)
            found["outputs"] = extractor.prepare(trainer, data, frozenset(wanted))
            rows = np.arange(len(data.pool)) if indices is None else indices
            found.update(extractor(trainer, data, rows, frozenset(wanted), seed=0))
            found["head"] = extractor.head
            trainer.should_stop = True

    data = ActiveDataModule(
        points() if dataset is None else dataset, **{"initial_labels": START, "batch_size": batch_size} | kwargs
    )
    module = model if hasattr(model, "training_step") else Model(model)  # compiled ones count
    quiet_trainer([Look()], max_epochs=1, limit_train_batches=0, **(trainer or {})).fit(module, datamodule=data)
    return found


def assert_same_rows(found, expected, **tolerance):
    assert found.dtype == np.float32
    tolerance = {"atol": 1e-6, "rtol": 1e-5} | tolerance
    np.testing.assert_allclose(found, expected.detach().float().numpy(), **tolerance)


class TestShapesOfModels:
    """What goes into the layer that makes the output, found by running the model."""

    @pytest.mark.parametrize("kind", FOUND)
    def test_linear_heads(self, kind):
        net = kind()
        found = extract(net, wanted=("features", "probabilities"), num_classes=3)
        assert found["head"].name == "net.head" and found["outputs"] == 3
        assert_same_rows(found["features"], net.embed(inputs()))
        assert_same_rows(found["probabilities"], net.head(net.embed(inputs())).softmax(1))

    @pytest.mark.parametrize("kind", [Tokens, HeadThenMean, HeadThenFirst, HeadThenLastOfEach])
    def test_heads_over_tokens(self, kind):
        torch.manual_seed(0)
        net, x = kind(), torch.randn(20, 4, D, generator=torch.Generator().manual_seed(0))
        found = extract(net, TensorDataset(x, classes(20)), initial_labels=[9, 3])
        assert found["head"].name == "net.head"
        assert_same_rows(found["features"], net.eval().embed(x), atol=1e-5)

    def test_a_convolution_as_head(self):
        net, x = ConvHead(), torch.randn(10, 3, 8, 8)
        found = extract(net, TensorDataset(x, classes(10)), initial_labels=[2])
        assert_same_rows(found["features"], net.body(x).relu().mean((2, 3)))

    def test_a_parameter_as_head(self):
        net = Functional()
        assert_same_rows(extract(net)["features"], net.body(inputs()).relu())  # where no module is given it

    def test_number_of_classes_tells_outputs_apart(self):
        class EmbeddingFirst(Plain):
            def forward(self, x):
                z = self.body[0](x)
                return z, self.head(z.relu()).log_softmax(1)

        net = EmbeddingFirst()
        found = extract(net, num_classes=3)
        assert found["head"].name == "net.head" and found["outputs"] == 3
        assert_same_rows(found["features"], net.embed(inputs()))

    @pytest.mark.parametrize(
        "last", [nn.Identity(), nn.Flatten(0), nn.Sigmoid(), nn.Sequential(nn.Flatten(0), nn.Sigmoid())]
    )
    def test_one_output(self, last):
        net = nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, 1), last)
        found = extract(net, TensorDataset(inputs(), classes(c=2)), wanted=("features", "probabilities"))
        positive = net[:3](inputs()).sigmoid()
        assert found["outputs"] == 2
        assert_same_rows(found["features"], net[:2](inputs()))
        assert_same_rows(found["probabilities"], torch.cat([1 - positive, positive], 1))

    @pytest.mark.parametrize("batch_size", [3, 13])
    def test_squeezed_outputs(self, batch_size):
        class Squeezed(nn.Sequential):
            def forward(self, x):
                return super().forward(x).squeeze()

        net = Squeezed(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, 1))
        wanted = ("features", "probabilities")
        found = extract(net, points(c=2), wanted=wanted, batch_size=batch_size)  # 40 = 13 * 3 + 1
        positive = nn.Sequential.forward(net, inputs()).sigmoid()
        assert_same_rows(found["probabilities"], torch.cat([1 - positive, positive], 1))

    def test_small_logits_are_no_probabilities(self):
        net = nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, 1))
        with torch.no_grad():
            net[2].weight.zero_()
            net[2].bias.fill_(0.25)
        found = extract(net, points(c=2), wanted=("probabilities",))
        assert_same_rows(found["probabilities"][:, 1], torch.tensor(0.25).sigmoid().expand(40))

    def test_no_forward(self):
        class Without(pl.LightningModule):
            configure_optimizers, training_step = Model.configure_optimizers, Model.training_step

            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(D, 3)

            def embed(self, batch):
                return self.layer(batch[0])

        with pytest.raises(FeatureError, match="Without defines no `forward`"):
            extract(Without())
        module = Without()
        assert_same_rows(extract(module, features="embed")["features"], module.layer(inputs()))

    @pytest.mark.parametrize("part", ["net", "module"])
    def test_compiled(self, part):
        net = Plain()
        expected = net.embed(inputs())
        module = Model(torch.compile(net, backend="eager")) if part == "net" else Model(net)
        if part == "module":
            module = torch.compile(module, backend="eager")
        module(inputs())  # hooks that are added later would silently not be called
        found = extract(module)
        assert found["head"].name.endswith("head")
        assert_same_rows(found["features"], expected)
        assert_same_rows(extract(module, features="net.body")["features"], expected)


class TestNamedFeatures:
    """`features=` a submodule or a method."""

    @pytest.mark.parametrize("features", ["net.body", "net.body.1", "net.embed"])
    def test_submodules_and_their_methods(self, features):
        net = Plain()
        found = extract(net, features=features)
        assert found["head"] is None and found["outputs"] is None
        assert_same_rows(found["features"], net.embed(inputs()))

    def test_with_probabilities(self):
        net = Plain()
        found = extract(net, features="net.body.0", wanted=("features", "probabilities"))
        assert found["outputs"] == 3
        assert_same_rows(found["features"], net.body[0](inputs()))
        assert_same_rows(found["probabilities"], net(inputs()).softmax(1))

    def test_methods_of_the_model(self):
        class Methods(Model):
            def of_inputs(self, x):
                return x * 2

            def of_batch(self, batch):
                return batch[0] * 3

        assert_same_rows(extract(Methods(), features="of_inputs")["features"], inputs() * 2)
        assert_same_rows(extract(Methods(), features="of_batch")["features"], inputs() * 3)

    @pytest.mark.parametrize("wanted", [("features",), ("features", "probabilities")])
    def test_several_are_unit_vectors_side_by_side(self, wanted):
        net = Plain()
        found = extract(net, features="inputs + net.body.0 + auto + net.embed", wanted=wanted)
        x = inputs()
        parts = [F.normalize(part) for part in (x, net.body[0](x), net.embed(x), net.embed(x))]
        assert found["outputs"] == 3
        assert_same_rows(found["features"], torch.cat(parts, dim=1))
        if "probabilities" in wanted:
            assert_same_rows(found["probabilities"], net(x).softmax(1))

    def test_inputs(self):
        assert_same_rows(extract(Functional(), features="inputs")["features"], inputs())  # no head is looked for
        images = torch.randn(10, 3, 5, 5)
        found = extract(ConvHead(), TensorDataset(images, classes(10)), features="inputs", initial_labels=[3])
        assert_same_rows(found["features"], images.flatten(1))
        numbers = torch.randn(10)
        found = extract(nn.Linear(1, 3), TensorDataset(numbers, classes(10)), features="inputs", initial_labels=[3])
        assert_same_rows(found["features"], numbers[:, None])

    def test_the_inputs_of_the_model_go_first(self):
        class Own(Model):
            def inputs(self, x):
                return x * 2

        assert_same_rows(extract(Own(), features="inputs")["features"], inputs() * 2)

    def test_a_row_of_zeros_stays_one(self):
        x = inputs()
        x[5] = 0
        found = extract(Plain(), TensorDataset(x, classes()), features="inputs+auto")["features"]
        assert not found[5, :D].any() and np.isfinite(found).all()

    def test_an_output_changed_in_place_afterwards(self):
        net = nn.Sequential(nn.Linear(D, 16), nn.ReLU(inplace=True), nn.Linear(16, 3))
        assert_same_rows(extract(net, features="net.0")["features"], net[0](inputs()))

    @pytest.mark.parametrize(
        ("shape", "rows"),
        [
            ((10, 6), lambda x: x),
            ((10, 6, 1, 1), lambda x: x[..., 0, 0]),
            ((10, 6, 1), lambda x: x[..., 0]),
            ((10, 6, 3, 2), lambda x: x.mean((2, 3))),
            ((10, 5, 6), lambda x: x.mean(1)),
        ],
    )
    def test_shapes(self, shape, rows):
        class Shaped(Model):
            def shaped(self, x):
                return x

            def forward(self, x):
                return self.net(x.flatten(1)[:, :6])

        x = torch.randn(shape)
        module = Shaped(nn.Linear(6, 3))
        found = extract(module, TensorDataset(x, classes(10)), features="shaped", initial_labels=[3])
        assert_same_rows(found["features"], rows(x))

    @pytest.mark.parametrize(
        ("features", "message"),
        [
            ("net.nothing", "submodule or a method of Odd, but got 'net.nothing'"),
            ("nothing.embed", "but got 'nothing.embed'"),
            ("number", "but got 'number'"),
            ("unused", "did not run in `forward`"),
            ("words", "return a tensor, but got str"),
            ("needs_more", "needs_more` cannot be called with a batch without its label: missing .*'more'"),
            ("half", "each of 2 points, but got 1"),
            ("silent", "'silent' to return a tensor"),
            ("auto+nothing", "but got 'nothing'"),
            ("inputs+silent", "'silent' to return a tensor"),
            ("inputs+half", r"as many rows from all parts of the features, but got \[2, 1\]"),
        ],
    )
    def test_refused_before_training(self, features, message):
        class Silent(nn.Module):
            def forward(self, x):
                return "nothing"

        class Odd(Model):
            number = 3

            def __init__(self):
                super().__init__()
                self.unused, self.silent = nn.Linear(2, 2), Silent()

            def forward(self, x):
                self.silent(x)
                return super().forward(x)

            def words(self, x):
                return "words"

            def needs_more(self, x, more):
                return x

            def half(self, x):
                return x[::2]

            def training_step(self, batch, batch_idx):
                raise AssertionError("it trained")

        data = ActiveDataModule(points(), initial_labels=START)
        active = ActiveLearning(Recorder(), features=features)
        with pytest.raises(FeatureError, match=message):
            quiet_trainer([active]).fit(Odd(), datamodule=data)
