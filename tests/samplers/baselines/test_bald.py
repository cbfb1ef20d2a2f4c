"""BALD against a naive transcription over all passes, and the Monte-Carlo dropout that feeds it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal._lightning import pl
from lightning_diffal.exceptions import ConfigurationError, FeatureError
from lightning_diffal.features.dropout import DropoutPasses, dropout_modules
from lightning_diffal.features.extractor import FeatureExtractor
from lightning_diffal.samplers import BALDSampler, CandidateSampler, QueryData, QuerySampler
from lightning_diffal.samplers.baselines.bald import mutual_information
from lightning_diffal.utils.seeding import random_state
from tests.helpers import TRAIN, VAL, Net, quiet_trainer
from tests.helpers_data import Augmented, D, Listed, Model, inputs, points

ALL = frozenset({"features", "probabilities", "mc_probabilities"})
MC = frozenset({"mc_probabilities"})


def naive_bald(passes):
    """`(T, N, C)` probabilities to `(N,)`."""
    scores = []
    for rows in np.swapaxes(passes, 0, 1).astype(float):
        mean = [sum(row[c] for row in rows) / len(rows) for c in range(rows.shape[1])]
        entropies = [-sum(p * np.log(p) for p in row if p > 0) for row in (mean, *rows)]
        scores.append(entropies[0] - sum(entropies[1:]) / len(rows))
    return np.array(scores)


def summary_of(passes):
    entropies = -(passes * np.log(passes)).sum(axis=2).mean(axis=0)
    return np.concatenate([passes.mean(axis=0), entropies[:, None]], axis=1)


class TestScores:
    def test_equals_naive_transcription(self):
        passes = np.random.default_rng(0).dirichlet(np.ones(4), size=(12, 50))
        data = QueryData(mc_probabilities=summary_of(passes), labelled=[9, 4], labels=[0, 3])
        assert (data.num_classes, data.num_points) == (4, 50)
        query = BALDSampler().select(data, 48, np.random.default_rng(0))
        expected = naive_bald(passes)
        np.testing.assert_allclose(query.scores, expected[query.indices], atol=1e-6)
        np.testing.assert_array_equal(query.indices, [i for i in np.argsort(-expected) if i not in (4, 9)])

    def test_agreement_is_no_information(self):
        passes = np.repeat(np.random.default_rng(0).dirichlet(np.ones(3), size=(1, 40)), 10, axis=0)
        scores = mutual_information(passes.mean(axis=0), summary_of(passes)[:, -1])
        assert (scores >= 0).all() and scores.max() < 1e-6

    def test_sure_passes_that_differ_tell_most(self):
        scores = mutual_information([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]], [0.0, np.log(2), 0.0])
        np.testing.assert_allclose(scores, [np.log(2), 0, 0], atol=1e-6)

    def test_multilabel_is_the_mean_over_labels(self):
        passes = np.random.default_rng(0).random((12, 30, 3))
        single = [naive_bald(np.stack([passes[:, :, c], 1 - passes[:, :, c]], axis=2)) for c in range(3)]
        entropies = -(passes * np.log(passes) + (1 - passes) * np.log(1 - passes)).mean(axis=(0, 2))
        statistics = np.concatenate([passes.mean(axis=0), entropies[:, None]], axis=1)
        data = QueryData(mc_probabilities=statistics, labelled=[0], labels=[[1, 0, 1]])
        np.testing.assert_allclose(BALDSampler().scores(data), np.mean(single, axis=0), atol=1e-6)

    def test_bad_input(self):
        for wrong in (1, 0, 2.0, True):
            with pytest.raises(ConfigurationError, match=f"`n_passes` to be an integer of at least 2, but got {wrong}"):
                BALDSampler(wrong)
        with pytest.raises(ConfigurationError, match="`data` to hold `mc_probabilities`, but got None"):
            BALDSampler().select(QueryData(num_points=3), 1, np.random.default_rng(0))
        with pytest.raises(FeatureError, match="`mc_probabilities` to be finite"):
            QueryData(mc_probabilities=[[np.nan, 1.0]])


class Extract(pl.Callback):
    """Runs the pass over the data set before training, several times over."""

    def __init__(self, *calls, mc_passes=6):
        self.calls, self.mc_passes, self.found = calls, mc_passes, []

    def on_fit_start(self, trainer, module):
        extractor = FeatureExtractor()
        extractor.prepare(trainer, trainer.datamodule, ALL)
        n = len(trainer.datamodule.pool)
        for wanted, seed in self.calls:
            torch.manual_seed(len(self.found))
            before = random_state()
            modes = [part.training for part in module.modules()]
            buffers = [buffer.clone() for buffer in module.buffers()]
            self.found.append(
                extractor(trainer, trainer.datamodule, np.arange(n), wanted, seed, mc_passes=self.mc_passes)
            )
            assert torch.equal(random_state()["torch"], before["torch"])
            assert modes == [part.training for part in module.modules()]
            assert all(torch.equal(*pair) for pair in zip(buffers, module.buffers(), strict=True))


def extract(model, *calls, dataset=TRAIN, mc_passes=6, **kwargs):
    callback = Extract(*calls, mc_passes=mc_passes)
    data = ActiveDataModule(dataset, initial_labels=[1, 2, 3, 4], batch_size=4, pool_batch_size=50, num_classes=3)
    trainer = quiet_trainer([callback], max_epochs=1, limit_train_batches=1, **kwargs)
    trainer.fit(model, datamodule=data)
    return callback.found


def network(*tail, p=0.5):
    parts = nn.Linear(D, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(p), nn.Linear(16, 3)
    return Model(nn.Sequential(*parts, *tail), loss=lambda output, y: output.square().mean() + 0 * y.sum())


class TestPasses:
    def test_rows_are_those_of_the_passes(self):
        outputs = []

        class Recording(Net):
            def forward(self, x):
                result = super().forward(x)
                if self.body[3].training and not self.training:
                    outputs.append(result.softmax(1).numpy())
                return result

        (found,) = extract(Recording(), (ALL, 3))
        outputs = outputs[2:]  # `prepare` ran two on two items
        assert [len(o) for o in outputs] == [50] * 12 + [20] * 6
        passes = np.concatenate([np.stack(outputs[i : i + 6]) for i in (0, 6, 12)], axis=1)
        assert passes.std(axis=0).max() > 0.01
        np.testing.assert_allclose(found["mc_probabilities"], summary_of(passes), atol=1e-5)
        assert found["mc_probabilities"].dtype == np.float32

    def test_same_seed_same_rows_and_others_unmoved(self):
        plain = frozenset({"features", "probabilities"})
        for dataset in (TRAIN, Augmented(120)):
            found = extract(Net(), (ALL, 3), (MC, 3), (plain, 3), (ALL, 4), dataset=dataset)
            np.testing.assert_array_equal(found[0]["mc_probabilities"], found[1]["mc_probabilities"])
            assert set(found[1]) == MC and set(found[2]) == plain
            for name in plain:
                np.testing.assert_array_equal(found[0][name], found[2][name])
            assert not np.array_equal(found[0]["mc_probabilities"], found[3]["mc_probabilities"])

    def test_reads_the_data_set_once(self):
        dataset = Listed(TRAIN)

        class Count(pl.Callback):
            def on_fit_start(self, trainer, module):
                extractor = FeatureExtractor()
                extractor.prepare(trainer, trainer.datamodule, ALL)
                dataset.reads.clear()
                extractor(trainer, trainer.datamodule, np.arange(120), ALL, 0)
                self.reads = sorted(dataset.reads)

        count = Count()
        data = ActiveDataModule(dataset, initial_labels=[1, 2, 3, 4], batch_size=4, num_classes=3)
        quiet_trainer([count], max_epochs=1).fit(Net(), datamodule=data)
        assert count.reads == list(range(120))

    def test_many_passes_approach_the_mean(self):
        found = []
        for n in (300, 600):
            torch.manual_seed(0)
            found += extract(network(), (MC, n), dataset=points(120), mc_passes=n)
        few, many = (rows["mc_probabilities"] for rows in found)
        np.testing.assert_allclose(few, many, atol=0.05)
        assert not np.array_equal(few, many)

    @pytest.mark.parametrize("tail", [(), (nn.LogSoftmax(1),), (nn.Softmax(1),)])
    def test_logits_and_probabilities(self, tail):
        torch.manual_seed(0)
        model = network(*tail, p=1e-9)  # never drops: passes are the plain prediction
        (found,) = extract(model, (ALL, 0), dataset=points(120))
        np.testing.assert_allclose(found["mc_probabilities"][:, :3], found["probabilities"], atol=1e-5)

    def test_one_reading_for_all_points(self):
        passes = DropoutPasses(nn.Dropout(), 2, 0, are_logits=False)
        rows = [passes.read(lambda row=row: torch.tensor([row])) for row in ([0.25, 0.75], [3.0, -1.0])]
        found = passes.result(torch.cat(rows).numpy())
        np.testing.assert_allclose(found[:, :2], torch.tensor([[0.25, 0.75], [3.0, -1.0]]).softmax(1), atol=1e-6)

    def test_batches_drop_other_units(self):
        model = nn.Sequential(nn.Dropout(0.5), nn.Linear(30, 3)).eval()
        passes = DropoutPasses(model, 3, 0, are_logits=True)
        first, second = (passes.read(lambda: model(torch.ones(5, 30))) for _ in range(2))
        assert not torch.equal(first, second)

    def test_transformer_layers_drop_too(self):
        class Tokens(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.TransformerEncoderLayer(D, 2, 16, dropout=0.5, batch_first=True)
                self.head = nn.Linear(D, 3)

            def forward(self, x):
                return self.head(self.layer(x[:, None])[:, 0])

        (found,) = extract(Model(Tokens()), (ALL, 0), dataset=points(120))
        assert (found["mc_probabilities"][:, :3] - found["probabilities"]).__abs__().max() > 0.01

    def test_modules_found(self):
        class StableDropout(nn.Module):
            pass

        parts = nn.Dropout2d(0.1), nn.AlphaDropout(0.2), nn.Dropout(0), StableDropout(), nn.BatchNorm1d(3)
        assert dropout_modules(nn.Sequential(*parts)) == [parts[0], parts[1], parts[3]]


class TestNoDropout:
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.dropout = nn.Linear(D, 3), nn.Dropout()

        def forward(self, x):
            return nn.functional.dropout(self.net(x), training=self.training)

    @pytest.mark.parametrize("model", [Model(), Model(Unused()), network(p=0.0)])
    def test_is_refused_before_training(self, model):
        data = ActiveDataModule(points(), initial_labels=[1, 2, 3, 4])
        active = ActiveLearning(BALDSampler(), query_size=2, max_rounds=1)
        with pytest.raises(ConfigurationError, match=r"no dropout module with p > 0 runs in `forward` of Model"):
            quiet_trainer([active]).fit(model, datamodule=data)
        assert model.trainer.global_step == 0

    def test_other_samplers_do_not_care(self):
        data = ActiveDataModule(points(), initial_labels=[1, 2, 3, 4])
        active = ActiveLearning(query_size=2, max_rounds=1)
        quiet_trainer([active], max_epochs=1).fit(Model(), datamodule=data)


class TestRuns:
    def run(self, sampler, **kwargs):
        pl.seed_everything(3)
        data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=[90, 3, 41, 63, 17, 119], batch_size=6)
        active = ActiveLearning(sampler, query_size=5, max_rounds=2)
        model = Net("none")
        quiet_trainer([active], **kwargs).fit(model, datamodule=data)
        return active.history, model

    def test_two_rounds_are_repeatable(self):
        first, second = (self.run(BALDSampler(n_passes=5)) for _ in range(2))
        assert [r.n_labelled for r in first[0]] == [6, 11, 16]
        for a, b in zip(first[0], second[0], strict=True):
            np.testing.assert_array_equal(a.labelled, b.labelled)
        assert all(torch.equal(*p) for p in zip(first[1].parameters(), second[1].parameters(), strict=True))
        assert all((r.query.scores > 0).all() for r in list(first[0])[:2])

    def test_training_is_not_touched(self):
        """The same points asked without passes leave the same weights."""
        history, model = self.run(BALDSampler(n_passes=3))
        asked = [r.query for r in history if r.query is not None]

        class Replay(QuerySampler):
            def select(self, data, query_size, generator):
                return next(query for query in asked if set(query.indices) <= set(data.candidates))

        _, replayed = self.run(Replay())
        assert all(torch.equal(*pair) for pair in zip(model.parameters(), replayed.parameters(), strict=True))

    def test_passes_as_many_as_a_wrapped_sampler_says(self, monkeypatch):
        seen = []
        read = DropoutPasses.read

        def counting(self, call):
            seen.append(self.n_passes)
            return read(self, call)

        monkeypatch.setattr(DropoutPasses, "read", counting)
        self.run(CandidateSampler(base=BALDSampler(n_passes=4)))
        assert set(seen) == {2, 4}  # two where the model is looked at before training

    def test_rehearsal(self):
        self.run(BALDSampler(), fast_dev_run=True)

    def test_bf16(self):
        history, _ = self.run(BALDSampler(n_passes=3), precision="bf16-mixed", max_epochs=1)
        assert len(history) == 3


def test_inputs_stay_on_their_rows():
    """Row `i` of the passes is point `i`: a network that never drops gives the plain prediction of its own input."""
    model = network(p=1e-9)
    (found,) = extract(model, (MC, 0), dataset=points(120))
    assert found["mc_probabilities"].shape == (120, 4)
    assert len(np.unique(found["mc_probabilities"][:, 0])) > 100 and len(inputs(120)) == 120


def test_a_sampler_of_ones_own_says_how_many_passes(monkeypatch):
    class Own(QuerySampler):
        requires = frozenset({"mc_probabilities"})

        def __init__(self):
            self.mc_passes = 3

        def select(self, data, query_size, generator):
            return BALDSampler().select(data, query_size, generator)

    seen = []
    read = DropoutPasses.read
    monkeypatch.setattr(DropoutPasses, "read", lambda self, call: seen.append(self.n_passes) or read(self, call))
    TestRuns().run(Own())
    assert set(seen) == {2, 3}
