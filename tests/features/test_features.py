"""The penultimate layer of models of all shapes, and a pass that leaves everything as it was."""

import dataclasses
import random
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal._lightning import pl
from lightning_diffal.exceptions import FeatureError
from lightning_diffal.features.calls import call_method, floating_tensors, ways_to_call
from lightning_diffal.features.extractor import FeatureExtractor
from lightning_diffal.features.head import find_head, find_scores, rows_before, to_probabilities
from tests.helpers import quiet_trainer
from tests.helpers_data import Augmented, D, Model, Recorder, classes, inputs, points

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
        assert_same_rows(extract(net)["features"], net.body(inputs()))  # what comes after the last module is not seen

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


class TestBatches:
    """How a batch reaches the model."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(2 * D, 16), nn.Linear(16, 3)

        def embed(self, a, b):
            return self.body(torch.cat([a, b], 1)).relu()

        def forward(self, a, b):
            return self.head(self.embed(a, b))

    def module(self, forward):
        module = type("Batched", (Model,), {"forward": forward})(self.Two())
        return module, module.net.embed(inputs(), -inputs())

    def test_several_inputs(self):
        module, expected = self.module(lambda self, a, b: self.net(a, b))
        found = extract(module, TensorDataset(inputs(), -inputs(), classes()))
        assert_same_rows(found["features"], expected)

    def test_inputs_as_one_tuple(self):
        module, expected = self.module(lambda self, both: self.net(*both))
        found = extract(module, TensorDataset(inputs(), -inputs(), classes()))
        assert_same_rows(found["features"], expected)

    @pytest.mark.parametrize(
        "forward",
        [
            lambda self, a, b: self.net(a, b),
            lambda self, a, b=None, labels=None: self.net(a, b),
            lambda self, **inputs: self.net(inputs["a"], inputs["b"]),
            lambda self, given: self.net(given["a"], given["b"]),
            lambda self, batch: self.net(batch["a"], batch["b"]) + 0 * batch["label"].unsqueeze(1),
        ],
    )
    def test_dicts(self, forward):
        module, expected = self.module(forward)
        items = [
            {"a": a, "b": -a, "label": int(y), "name": f"p{i}"}
            for i, (a, y) in enumerate(zip(inputs(), classes(), strict=True))
        ]
        assert_same_rows(extract(module, items)["features"], expected)

    def test_inputs_are_all_that_the_model_is_given(self):
        labels = F.one_hot(torch.as_tensor(classes()), 4).float()
        items = [
            {"name": f"p{i}", "label": y, "b": -a, "a": a.reshape(2, -1)}
            for i, (a, y) in enumerate(zip(inputs(), labels, strict=True))
        ]
        found = extract(self.module(lambda self, a, b: 0)[0], items, features="inputs", num_classes=4)
        assert_same_rows(found["features"], torch.cat([-inputs(), inputs()], 1))

    def test_inputs_without_a_number(self):
        items = [(torch.arange(3) + i, int(y)) for i, y in enumerate(classes())]
        with pytest.raises(FeatureError, match="floating-point numbers for features='inputs'"):
            extract(Plain(), items, features="inputs")

    def test_a_collate_function_that_makes_dicts(self):
        def collate(items):
            a = torch.stack([x for x, _ in items])
            return {"a": a, "b": -a, "labels": torch.tensor([int(y) for _, y in items])}

        module, expected = self.module(lambda self, a, b: self.net(a, b))
        assert_same_rows(extract(module, target=1, collate_fn=collate)["features"], expected)

    @pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: (x, None)])
    def test_items_without_labels(self, wrap):
        net = Plain()
        found = extract(net, [wrap(x) for x in inputs()], initial_labels={3: 1, 30: 0})
        assert_same_rows(found["features"], net.embed(inputs()))

    def test_forward_that_wants_the_label(self):
        class Wants(Model):
            def forward(self, x, y):
                return F.cross_entropy(self.net(x), y)

        with pytest.raises(FeatureError, match=r"forward` cannot be called .* missing a required argument: 'y'"):
            extract(Wants())

    def test_a_collate_function_that_drops_items(self):
        def collate(items):
            return tuple(map(torch.stack, zip(*items[:1], strict=True)))

        with pytest.raises(FeatureError, match="each of 2 points, but got 1: the collate function"):
            extract(Plain(), collate_fn=collate)

    def test_rows_of_different_lengths(self):
        class Growing(Model):
            def grow(self, x):
                return x[:, : 4 + int(len(x) == 5)]

        with pytest.raises(FeatureError, match="features of the same length for all points, but got 4 and then 5"):
            extract(Growing(), features="grow")  # 40 = 5 * 7 + 5

    def test_some_points_in_the_order_asked(self):
        net, indices = Plain(), np.array([30, 2, 2, 39, 11])
        assert_same_rows(extract(net, indices=indices)["features"], net.embed(inputs()[indices]))

    def test_nothing_wanted_reads_nothing(self):
        class Silent(Plain):
            def forward(self, x):
                raise AssertionError("it ran")

        assert extract(Silent(), wanted=()) == {"outputs": None, "head": None}


class TestLeavesEverythingAsItWas:
    """Modes, hooks, random state."""

    def test_modes_are_put_back_one_by_one(self):
        modes = []

        class Frozen(Model):
            def __init__(self):
                parts = (nn.Linear(D, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3))
                super().__init__(nn.Sequential(*parts))

            def forward(self, x):
                if not self.training:
                    modes.append([part.training for part in self.modules()])
                return super().forward(x)

        class Before(pl.Callback):
            def on_fit_start(self, trainer, module):
                module.train()
                module.net[1].eval()
                self.modes = [part.training for part in module.modules()]
                data = trainer.datamodule
                extractor = FeatureExtractor()
                extractor.prepare(trainer, data, frozenset({"features"}))
                extractor(trainer, data, np.arange(40), frozenset({"features"}), seed=0)
                self.after = [part.training for part in module.modules()]
                self.hooks = [len(part._forward_hooks) for part in module.modules()]
                self.stage = trainer.state.stage
                self.tracked = int(module.net[1].num_batches_tracked)

        before = Before()
        data = ActiveDataModule(points(), initial_labels=START)
        quiet_trainer([before], max_epochs=1).fit(Frozen(), datamodule=data)
        assert before.modes == before.after and True in before.modes and False in before.modes
        assert modes and not any(map(any, modes))
        assert set(before.hooks) == {0} and before.stage.value != "predict" and before.tracked == 0

    def test_hooks_go_where_forward_fails(self):
        class Failing(Plain):
            def forward(self, x):
                raise KeyError("user's own")

        net = Failing()
        with pytest.raises(FeatureError, match=r"KeyError: .user's own") as raised:
            extract(net)
        assert isinstance(raised.value.__cause__, Exception)
        assert all(not part._forward_hooks for part in net.modules()) and net.training

    @pytest.mark.parametrize("workers", [0, 1])
    @pytest.mark.filterwarnings("ignore:Item 0 of")
    def test_random_state_with_augmentation_and_workers(self, workers):
        class RandomForward(Model):
            def forward(self, x):
                return super().forward(x + torch.randn_like(x) * random.random() * np.random.rand())

        states = []

        class Watch(pl.Callback):
            def on_fit_start(self, trainer, module):
                def state():
                    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1:3]

                before = state()
                data, extractor = trainer.datamodule, FeatureExtractor()
                extractor.prepare(trainer, data, frozenset({"features"}))
                self.rows = [
                    extractor(trainer, data, np.arange(40), frozenset({"features"}), seed)["features"]
                    for seed in (5, 5, 6)
                ]
                states.append((before, state()))

        watch = Watch()
        data = ActiveDataModule(Augmented(), initial_labels=START, num_workers=workers)
        quiet_trainer([watch], max_epochs=1).fit(RandomForward(), datamodule=data)
        ((torch_before, python_before, numpy_before), (torch_after, python_after, numpy_after)) = states[0]
        assert torch_before == torch_after and python_before == python_after
        assert np.array_equal(numpy_before[0], numpy_after[0]) and numpy_before[1] == numpy_after[1]
        # the same seed reads the same: a resumed run asks the same points
        np.testing.assert_array_equal(watch.rows[0], watch.rows[1])
        assert not np.array_equal(watch.rows[0], watch.rows[2])

    def test_transfer_hooks_see_prediction(self):
        class Augmenting(Model):
            def on_after_batch_transfer(self, batch, dataloader_idx):
                x, y = batch
                return (x if self.trainer.predicting else x + torch.randn_like(x)), y

        module = Augmenting(Plain())
        assert_same_rows(extract(module)["features"], module.net.embed(inputs()))


class TestPrecision:
    """float32 rows whatever the model runs in."""

    @pytest.mark.parametrize(
        ("precision", "tolerance"), [("bf16-mixed", 2e-2), ("64-true", 1e-6), ("bf16-true", 3e-2), ("16-true", 1e-2)]
    )
    def test_rows(self, precision, tolerance):
        net = Plain()
        expected = net.embed(inputs()), net(inputs()).softmax(1)
        found = extract(net, wanted=("features", "probabilities"), trainer={"precision": precision})
        assert found["head"].name == "net.head"
        assert_same_rows(found["features"], expected[0], atol=tolerance, rtol=tolerance)
        assert_same_rows(found["probabilities"], expected[1], atol=tolerance, rtol=tolerance)


class TestParts:
    """`find_head`, `rows_before`, `to_probabilities`, `floating_tensors`, calls."""

    @staticmethod
    def head_of(net, num_classes=None):
        run = lambda x: [*floating_tensors(net(x))]  # noqa: E731
        scores = find_scores(net, lambda: net(inputs()[:2]), 2, num_classes)
        return find_head(net, run, scores, [inputs()[:2], inputs()[2:4]])

    def test_as_wide_as_the_scores_and_no_scores(self):
        net = nn.Sequential(nn.Linear(D, 3), nn.ReLU(), nn.Linear(3, 3), nn.Softmax(1))
        assert self.head_of(net).name == "2"

    def test_find_head_is_not_misled_by_a_loss(self):
        class Scored(Plain):
            def forward(self, x):
                z = self.embed(x)
                return self.score(z).mean(), self.head(z).softmax(1)

        net = Scored()
        net.score = nn.Linear(16, 1)
        head = self.head_of(net)
        assert (head.name, head.output, head.width) == ("head", 1, 3)

    def test_two_classes_and_one_output(self):
        class Two(Plain):
            def forward(self, x):
                z = self.embed(x)
                return self.head(z), self.score(z).squeeze(-1)

        net = Two()
        net.score = nn.Linear(16, 1)
        head = self.head_of(net, num_classes=2)
        assert (head.name, head.output, head.width) == ("score", 1, 1)
        with pytest.raises(FeatureError, match=r"several outputs .*\(0: \(2, 3\), 1: \(2,\)\): say how many classes"):
            self.head_of(net)

    def test_rows_before_mixes_per_item(self):
        tokens = torch.randn(3, 4, 5)
        head = nn.Linear(5, 2)
        outputs = head(tokens).detach()
        returned = torch.stack([outputs[0, 3], outputs[1].mean(0), outputs[2, 0]])
        rows = rows_before(tokens, outputs, returned)
        assert torch.allclose(rows, torch.stack([tokens[0, 3], tokens[1].mean(0), tokens[2, 0]]))
        assert rows_before(tokens, outputs, outputs).shape == (3, 5)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
    def test_probabilities_of_everything_a_model_returns(self, dtype):
        logits = torch.randn(50, 4) * 3
        expected = logits.to(dtype).float().softmax(1)
        for output in (logits, logits.log_softmax(1), logits.softmax(1)):
            found = to_probabilities(output.to(dtype))
            assert found.dtype == torch.float32 and torch.allclose(found, expected, atol=3e-2)
            assert torch.allclose(found.sum(1), torch.ones(50), atol=1e-6)

    def test_floating_tensors(self):
        a, b = torch.zeros(1), torch.ones(2)
        assert [*floating_tensors((a, None, {"x": b, "n": torch.arange(3)}))] == [a, b]
        assert [len(t) for t in floating_tensors({"a": a, "logits": b})] == [2, 1]
        assert list(floating_tensors("text")) == []

    def test_calls(self):
        batch, labels = [torch.zeros(2), torch.ones(2)], [(1,)]
        assert call_method(lambda x: x + 1, batch, labels).tolist() == [1, 1]
        with pytest.raises(FeatureError, match="to return a tensor, but got tuple"):
            call_method(lambda x: (x,), batch, labels)
        assert ways_to_call(nn.Identity().forward, {"x": 1, "label": 0}, [("label",)])["its inputs at once"][0] == (
            {"x": 1},
        )


@pytest.mark.parametrize(("features", "told"), [("auto", True), ("inputs+auto", True), ("inputs", False)])
def test_probabilities_come_along_with_the_penultimate_layer(features, told):
    data = ActiveDataModule(points(), initial_labels=START)
    active = ActiveLearning(DiffusionSampler(), query_size=3, max_rounds=2, features=features)
    quiet_trainer([active], max_epochs=1).fit(Model(), datamodule=data)
    assert [record.query is not None for record in active.history] == [True, True, False]
    for record in active.history[:2]:
        assert ("network_margin" in record.query.details) is told


def test_two_rounds_of_a_run():
    sampler = Recorder("features", "probabilities")
    data = ActiveDataModule(points(), initial_labels=START, batch_size=4)
    model, active = Model(Plain()), ActiveLearning(sampler, query_size=5, max_rounds=2, seed=0)
    quiet_trainer([active], max_epochs=1).fit(model, datamodule=data)
    first, second = sampler.seen
    assert first.labelled.tolist() == sorted(START) and len(second.labelled) == 9
    assert first.num_classes == data.num_classes == 3
    for seen in sampler.seen:
        assert seen.features.shape == (40, 16) and seen.probabilities.shape == (40, 3)
    assert not np.array_equal(first.features, second.features)  # another training


class SigmoidAfter(nn.Module):
    """Returns what each label's probability is, or the logits of them."""

    def __init__(self, after):
        super().__init__()
        self.body, self.head, self.after = nn.Linear(D, 16), nn.Linear(16, 3), after
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.after(self.head(self.drop(self.body(x).relu())))


@pytest.mark.parametrize(
    ("after", "loss"),
    [(nn.Identity(), F.binary_cross_entropy_with_logits), (nn.Sigmoid(), F.binary_cross_entropy)],
    ids=["logits", "sigmoid"],
)
def test_multi_label_probabilities_are_of_each_label(after, loss):
    """A softmax over labels would make them compete; two rounds, with and without Monte-Carlo dropout."""
    expected = []

    class Looking(Recorder):
        mc_passes = 400

        def select(self, data, query_size, generator):
            model.eval()
            with torch.no_grad():
                output = model(items)
            expected.append((output if isinstance(after, nn.Sigmoid) else output.sigmoid()).numpy())
            return super().select(data, query_size, generator)

    items = points().tensors[0]
    targets = torch.stack([items[:, 0] > 0, items[:, 1] > 0, items[:, 0] > 0], dim=1).float()
    model = Model(SigmoidAfter(after), loss=loss)
    sampler = Looking("features", "probabilities", "mc_probabilities")
    data = ActiveDataModule(TensorDataset(items, targets), initial_labels=START, batch_size=4)
    active = ActiveLearning(sampler, query_size=5, max_rounds=2, seed=0)
    quiet_trainer([active], max_epochs=10).fit(model, datamodule=data)
    assert [len(seen.labelled) for seen in sampler.seen] == [len(START), len(START) + 5]
    for seen, probabilities in zip(sampler.seen, expected, strict=True):
        assert seen.is_multilabel
        np.testing.assert_allclose(seen.probabilities, probabilities, atol=1e-6)
        assert np.abs(probabilities.sum(axis=1) - 1).max() > 0.1
        means, entropies = seen.mc_probabilities[:, :3], seen.mc_probabilities[:, 3]
        np.testing.assert_allclose(means, probabilities, atol=0.15)
        of_means = -(means * np.log(means) + (1 - means) * np.log(1 - means)).mean(axis=1)
        assert (entropies > 0).all() and (entropies < of_means).all()  # of one pass, less than of the mean
        assert (of_means - entropies).max() < 0.3
