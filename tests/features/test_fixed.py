"""What `features="auto"` reads beside the penultimate layer, or in its place: what does not train."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal._lightning import pl
from lightning_diffal.features.extractor import FeatureExtractor
from lightning_diffal.samplers import BADGESampler, CandidateSampler, MarginSampler, StochasticSampler
from tests.features.test_features import START, Plain, assert_same_rows, extract
from tests.helpers import quiet_trainer
from tests.helpers_data import D, Model, Recorder, classes, inputs, points


def frozen(part):
    return part.requires_grad_(False)


class Backbone(nn.Module):
    """A frozen backbone and a small head with a layer of its own."""

    def __init__(self, trains=False):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(D, 64), nn.ReLU(), nn.Linear(64, 24)).requires_grad_(trains)
        self.hidden, self.head = nn.Linear(24, 10), nn.Linear(10, 3)

    def forward(self, x):
        return self.head(self.hidden(self.backbone(x)).relu())


class WithoutGradient(Backbone):
    """The weights could train, and the backbone runs where they cannot."""

    def __init__(self):
        super().__init__(trains=True)

    def forward(self, x):
        with torch.no_grad():
            z = self.backbone(x)
        return self.head(self.hidden(z).relu())


class FrozenTokens(nn.Module):
    """A frozen encoder of tokens, of which the head that trains reads the first."""

    def __init__(self):
        super().__init__()
        self.encoder = frozen(nn.TransformerEncoderLayer(8, 2, 64, dropout=0.0, batch_first=True))
        self.hidden, self.head = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.hidden(self.encoder(x)[:, 0]).relu())


class TestFrozenParts:
    @pytest.mark.parametrize("kind", [Backbone, WithoutGradient])
    def test_the_output_of_a_frozen_backbone(self, kind):
        net = kind()
        found = extract(net, wanted=("features", "probabilities"))
        assert_same_rows(found["features"], net.backbone(inputs()))
        assert_same_rows(found["probabilities"], net(inputs()).softmax(1))

    def test_the_one_token_that_is_read(self):
        torch.manual_seed(0)
        net, x = FrozenTokens(), torch.randn(20, 4, 8)
        found = extract(net, TensorDataset(x, classes(20)), initial_labels=[9, 3])
        assert_same_rows(found["features"], net.eval().encoder(x)[:, 0], atol=1e-5)

    def test_a_convolution(self):
        net = nn.Sequential(
            frozen(nn.Conv2d(3, 64, 3)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3),
        )  # fmt: skip
        x = torch.randn(10, 3, 8, 8)
        found = extract(net, TensorDataset(x, classes(10)), initial_labels=[2])
        assert_same_rows(found["features"], net[:4](x), atol=1e-5)

    def test_a_parameter_as_head(self):
        class Functional(Backbone):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.randn(3, 10))

            def forward(self, x):
                return nn.functional.linear(self.hidden(self.backbone(x)).relu(), self.weight)

        net = Functional()
        assert_same_rows(extract(net)["features"], net.backbone(inputs()))

    def test_a_linear_head_is_given_it_anyway(self):
        net = nn.Sequential(frozen(nn.Linear(D, 16)), nn.ReLU(), nn.Linear(16, 3))
        found = extract(net)
        assert_same_rows(found["features"], net[:2](inputs()))

    def test_a_long_output_is_not_taken_and_the_one_before_it_is(self):
        body = nn.Sequential(frozen(nn.Conv2d(1, 600, 7, padding=3)), nn.MaxPool2d(3))
        net = nn.Sequential(body, nn.Flatten(), nn.Linear(5400, 4), nn.ReLU(), nn.Linear(4, 3))
        x = torch.randn(10, 1, 9, 9)
        found = extract(net, TensorDataset(x, classes(10)), initial_labels=[2])
        assert_same_rows(found["features"], body(x).mean((2, 3)), atol=1e-5)

    def test_a_first_layer_that_is_frozen_is_no_backbone(self):
        net = nn.Sequential(
            frozen(nn.Linear(D, 8)), nn.ReLU(), nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(),
            nn.Linear(32, 3),
        )  # fmt: skip
        assert_same_rows(extract(net)["features"], net[:6](inputs()), atol=1e-5)

    def test_what_trains_as_a_whole(self):
        net = Backbone(trains=True)
        assert_same_rows(extract(net)["features"], net.hidden(net.backbone(inputs())).relu())

    def test_the_graph_of_a_frozen_backbone_is_kept(self):
        sampler = Recorder("features", "probabilities")
        data = ActiveDataModule(points(), initial_labels=START)
        active = ActiveLearning(sampler, query_size=4, max_rounds=2, seed=0)
        quiet_trainer([active], max_epochs=2).fit(Model(Backbone()), datamodule=data)
        first, second = sampler.seen
        assert np.array_equal(first.features, second.features) and first.features.shape == (40, 24)
        assert not np.array_equal(first.probabilities, second.probabilities)


def net_of(width, *, flat=True):
    return nn.Sequential(*(() if flat else (nn.Flatten(),)), nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 3))


def beside(first, second):
    return torch.cat([nn.functional.normalize(part.flatten(1)) for part in (first, second)], dim=1)


class TestItems:
    def test_embeddings(self):
        x, net = torch.randn(20, 48), net_of(48)
        found = extract(net, TensorDataset(x, classes(20)), initial_labels=[3])
        assert_same_rows(found["features"], beside(x, net[:2](x)))

    def test_columns_of_a_table_do_not_count(self):
        few, net = torch.randn(20, 8), net_of(8)
        found = extract(net, TensorDataset(few, classes(20)), initial_labels=[3])
        assert_same_rows(found["features"], net[:2](few))
        loud, net = torch.randn(20, 48), net_of(48)
        loud[:, 5] *= 1000
        found = extract(net, TensorDataset(loud, classes(20)), initial_labels=[3])
        assert_same_rows(found["features"], net[:2](loud), rtol=1e-4)

    def test_long_vectors_do_not_count(self):
        x, net = torch.randn(8, 5000), net_of(5000)
        found = extract(net, TensorDataset(x, classes(8)), initial_labels=[3])
        assert_same_rows(found["features"], net[:2](x), atol=1e-4)

    def test_small_grey_images(self):
        x, net = torch.randn(20, 1, 6, 6), net_of(36, flat=False)
        found = extract(net, TensorDataset(x, classes(20)), initial_labels=[3])
        assert_same_rows(found["features"], beside(x, net[:3](x)))

    @pytest.mark.parametrize("shape", [(3, 6, 6), (1, 40, 40)])
    def test_other_images_do_not_count(self, shape):
        x = torch.randn(10, *shape)
        net = net_of(x[0].numel(), flat=False)
        found = extract(net, TensorDataset(x, classes(10)), initial_labels=[3])
        assert_same_rows(found["features"], net[:3](x), atol=1e-5)

    def test_a_linear_model_reads_the_items(self):
        x = torch.randn(20, 48)
        assert_same_rows(extract(nn.Linear(48, 3), TensorDataset(x, classes(20)), initial_labels=[3])["features"], x)


class TestWhoDecides:
    IMAGES = torch.randn(20, 1, 6, 6, generator=torch.Generator().manual_seed(0))

    def features(self, net, sampler=None, **settings):
        recorder = Recorder("features") if sampler is None else sampler
        data = ActiveDataModule(TensorDataset(self.IMAGES, classes(20)), initial_labels=[3, 4, 5])
        active = ActiveLearning(recorder, query_size=2, max_rounds=1, **settings)
        quiet_trainer([active], max_epochs=1).fit(Model(net), datamodule=data)
        return recorder.seen[0].features.shape[1] if sampler is None else active

    def test_it_is_told(self, caplog):
        with caplog.at_level("INFO"):
            assert self.features(net_of(36, flat=False)) == 36 + 16
        assert "grey images of 6 x 6, beside the penultimate layer" in caplog.text

    def test_the_user_decides(self):
        assert self.features(net_of(36, flat=False), head="net.3") == 16
        assert self.features(net_of(36, flat=False), features="inputs+auto") == 36 + 16
        assert self.features(net_of(36, flat=False), features="net.2") == 16

    def test_gradients_are_of_the_penultimate_layer(self):
        assert BADGESampler.penultimate_alone and CandidateSampler().penultimate_alone
        assert not CandidateSampler(base=MarginSampler()).penultimate_alone
        assert not StochasticSampler(MarginSampler()).penultimate_alone and not DiffusionSampler.penultimate_alone
        active = self.features(net_of(36, flat=False), BADGESampler())
        assert active.extractor.fixed is None and active.extractor.head.name == "net.3"

    def test_a_second_look_forgets_the_first(self):
        extractor = FeatureExtractor()
        data = ActiveDataModule(TensorDataset(self.IMAGES, classes(20)), initial_labels=[3])
        looks = []

        class Look(pl.Callback):
            def on_fit_start(self, trainer, module):
                extractor.prepare(trainer, data, frozenset({"features"}))
                looks.append(extractor.fixed)
                trainer.should_stop = True

        for net in (net_of(36, flat=False), nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), Plain()):
            if isinstance(net, Plain):
                data = ActiveDataModule(points(), initial_labels=START)
            quiet_trainer([Look()], max_epochs=1, limit_train_batches=0).fit(Model(net), datamodule=data)
        assert [look is None for look in looks] == [False, True, True]
