"""The pass over the data set: what it leaves alone, precision, parts, probabilities, two rounds."""

import random

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
from tests.features.test_features import START, Plain, assert_same_rows, extract
from tests.helpers import quiet_trainer
from tests.helpers_data import Augmented, D, Model, Recorder, inputs, points


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


@pytest.mark.parametrize("features", ["auto", "inputs+auto", "inputs", "net.body", "net.embed"])
def test_probabilities_come_along_whatever_the_features_are(features):
    data = ActiveDataModule(points(), initial_labels=START)
    active = ActiveLearning(DiffusionSampler(), query_size=3, max_rounds=2, features=features)
    quiet_trainer([active], max_epochs=1).fit(Model(Plain()), datamodule=data)
    assert [record.query is not None for record in active.history] == [True, True, False]
    for record in active.history[:2]:
        assert "network_margin" in record.query.details


class TwoScores(Model):
    """Nothing says which of its outputs holds class scores."""

    def __init__(self):
        super().__init__(nn.ModuleDict({"one": nn.Linear(D, 3), "other": nn.Linear(D, 5)}))

    def forward(self, x):
        return self.net["one"](x), self.net["other"](x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0])[0], batch[1])


def test_features_that_are_named_go_without_probabilities_that_are_not_found(caplog):
    data = ActiveDataModule(points(), initial_labels=START)
    active = ActiveLearning(DiffusionSampler(), query_size=3, max_rounds=1, features="inputs")
    with caplog.at_level("INFO"):
        quiet_trainer([active], max_epochs=1).fit(TwoScores(), datamodule=data)
    assert "network_margin" not in active.history[0].query.details
    assert "chosen without the model's probabilities" in caplog.text
    required = ActiveLearning(DiffusionSampler(network_margin=True), query_size=3, max_rounds=1, features="inputs")
    with pytest.raises(FeatureError, match="several outputs that could be class scores"):
        quiet_trainer([required], max_epochs=1).fit(TwoScores(), datamodule=data)


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
