"""What a data module keeps and gives back: state, exports, warnings of augmentation, loaders of the user's own."""

import csv

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset, random_split

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.exceptions import InvalidLabelError, ResumeError
from lightning_diffal.samplers import RandomSampler
from tests.data.test_datamodule import START, module_of, through_a_file
from tests.helpers import quiet_trainer
from tests.helpers_data import Augmented, Listed, Model, Recorder, classes, inputs, points


class TestKeeping:
    """`state_dict`, through a file, and back."""

    def used(self, **kwargs):
        data = module_of(**kwargs)
        data.label([39, 2], [0, 1], round_=1)
        data.pool.ask([7, 30])
        data.skip([11])
        _ = data.labels
        return data

    @pytest.mark.parametrize("ids", [None, [f"p{i}" for i in range(40)]])
    def test_round_trip(self, ids):
        data, other = self.used(ids=ids), module_of(ids=ids, initial_labels=7)
        state = through_a_file(data.state_dict())
        other.load_state_dict(state)
        assert other.state_dict() == data.state_dict() == state
        assert other.labels.tolist() == [1, 1, 2, 2, 1, 0] and other.pool.n_bought == 2

    def test_structure_is_pinned(self):
        state = self.used().state_dict()
        assert sorted(state) == ["class_names", "pool", "split"] and state["split"] is None
        assert len(self.used(dataset=Subset(points(), range(40))).state_dict()["split"]) == 64

    def test_reordered_data_set_with_ids(self):
        ids = [f"p{i}" for i in range(40)]
        order = torch.randperm(40, generator=torch.Generator().manual_seed(0)).tolist()
        data = self.used(ids=ids, dataset=Subset(points(), range(40)))
        other = module_of(Subset(points(), order), ids=[ids[i] for i in order], initial_labels=0)
        other.load_state_dict(through_a_file(data.state_dict()))
        assert sorted(order[i] for i in other.labelled_indices) == [2, 4, 8, 17, 31, 39]
        assert sorted(order[i] for i in other.pending_indices) == [7, 30]
        kept = dict(zip((order[i] for i in other.labelled_indices), other.labels.tolist(), strict=True))
        assert kept == {2: 1, 4: 1, 8: 2, 17: 2, 31: 1, 39: 0}

    def test_another_split(self):
        split = random_split(points(50), [40, 10], generator=torch.Generator().manual_seed(1))[0]
        other = random_split(points(50), [40, 10], generator=torch.Generator().manual_seed(2))[0]
        state = module_of(split).state_dict()
        with pytest.raises(ResumeError, match="another split"):
            module_of(other).load_state_dict(state)
        with pytest.raises(ResumeError, match="another split"):
            module_of(points()).load_state_dict(state)

    def test_fewer_and_more_points(self):
        state = module_of(Subset(points(50), range(40))).state_dict()
        grown = module_of(Subset(points(50), range(45)), initial_labels=2)
        grown.load_state_dict(state)
        assert grown.labelled_indices.tolist() == sorted(START) and len(grown.pool_indices) == 41
        with pytest.raises(ResumeError, match="40 points, but this one has 39"):
            module_of(Subset(points(50), range(39))).load_state_dict(state)

    def test_only_a_fit_takes_labels_from_a_checkpoint(self, tmp_path):
        class Tested(Model):
            def test_step(self, batch, batch_idx):
                self.log("n", 1.0)

            validation_step = test_step

            def predict_step(self, batch, batch_idx):
                return self(batch[0])

        data = module_of(test_dataset=points(8), val_dataset=points(8))
        active, model = ActiveLearning(RandomSampler(), query_size=4, max_rounds=1, seed=0), Tested()
        trainer = quiet_trainer([active], max_epochs=1, default_root_dir=tmp_path)
        trainer.fit(model, datamodule=data)
        old = tmp_path / "old.ckpt"
        trainer.save_checkpoint(old)
        data.label(data.pool_indices[:3])
        before = data.state_dict()
        trainer.test(model, datamodule=data, ckpt_path=old, verbose=False)
        trainer.validate(model, datamodule=data, ckpt_path=old, verbose=False)
        predictions = trainer.predict(model, datamodule=data, ckpt_path=old)
        assert data.state_dict() == before and sum(map(len, predictions)) == 40
        fresh = module_of(initial_labels=1)
        other = ActiveLearning(RandomSampler(), query_size=4, max_rounds=1, seed=0)
        quiet_trainer([other], max_epochs=1).fit(Tested(), datamodule=fresh, ckpt_path=old)
        assert len(fresh.labelled_indices) == 8 and set(START) < set(fresh.labelled_indices.tolist())

    def test_nothing_to_keep_yet(self):
        data = ActiveDataModule()
        assert data.state_dict() == {}
        data.load_state_dict({})


class TestExport:
    """A table of labels for people."""

    def rows(self, data, tmp_path):
        data.export_labels(tmp_path / "new" / "labels.csv")
        with (tmp_path / "new" / "labels.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))

    def test_table(self, tmp_path):
        data = module_of(class_names=["a", "bé", "c"], ids=[f"im/{i}.png" for i in range(40)])
        data.label([2], ["c"], round_=1)
        data.skip([3])
        assert self.rows(data, tmp_path) == [
            ["id", "index", "label", "class_name", "round"],
            ["im/2.png", "2", "2", "c", "1"],
            ["im/4.png", "4", "1", "bé", "0"],
            ["im/8.png", "8", "2", "c", "0"],
            ["im/17.png", "17", "2", "c", "0"],
            ["im/31.png", "31", "1", "bé", "0"],
        ]

    def test_multi_label_and_formulas(self, tmp_path):
        data = ActiveDataModule(["a", "b"], ids=["=SUM(A1)", "b"], initial_labels={0: [0, 1, 1]})
        assert self.rows(data, tmp_path)[1:] == [["'=SUM(A1)", "0", "0 1 1", "", "0"]]

    def test_none_yet(self, tmp_path):
        assert len(self.rows(module_of(initial_labels=0), tmp_path)) == 1


class TestAugmentation:
    """It stays in training."""

    def test_the_feature_pass_reads_the_pool_data_set(self):
        sampler = Recorder()
        data = module_of(Augmented(), pool_dataset=points())
        active = ActiveLearning(sampler, query_size=3, max_rounds=2, seed=0, features="embed")

        class Embedding(Model):
            def embed(self, x):
                return x

        quiet_trainer([active], max_epochs=1).fit(Embedding(), datamodule=data)
        assert len(sampler.seen) == 2
        for seen in sampler.seen:
            np.testing.assert_array_equal(seen.features, inputs().numpy())

    def test_warns_once_where_there_is_no_pool_data_set(self, recwarn):
        active = ActiveLearning(Recorder(), query_size=3, max_rounds=1, seed=0)
        trainer, model, data = quiet_trainer([active], max_epochs=1), Model(), module_of(Augmented())
        trainer.fit(model, datamodule=data)
        active.max_rounds = 2
        trainer.fit(model, datamodule=data)
        assert len([w for w in recwarn if "Give `pool_dataset`" in str(w.message)]) == 1

    def test_looks_once(self):
        dataset = Listed([("x", 0)] * 40)
        data = module_of(dataset)
        data.warn_of_augmentation()
        reads = list(dataset.reads)
        data.warn_of_augmentation()
        assert dataset.reads == reads and set(reads) == {0} and len(reads) > 1

    @pytest.mark.parametrize(
        "data",
        [
            lambda: module_of(),
            lambda: module_of(Augmented(scale=0.0)),
            lambda: module_of(Augmented(), pool_dataset=points()),
            lambda: module_of([object() for _ in range(40)]),
        ],
    )
    def test_does_not_warn_otherwise(self, data, recwarn):
        data().warn_of_augmentation()
        assert not [w for w in recwarn if "pool_dataset" in str(w.message)]

    def test_looking_leaves_the_random_state_alone(self):
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        with pytest.warns(UserWarning, match="different each time"):
            module_of(Augmented()).warn_of_augmentation()
        assert torch.equal(torch.rand(1), expected)


class OnDisk(Dataset):
    """Reads in a worker; cannot be pickled by value with its reads."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return inputs()[index], int(classes()[index])


def test_a_run_with_workers_equals_one_without():
    picks = []
    for workers in (0, 2):
        sampler = Recorder()
        data = module_of(OnDisk(), num_workers=workers)
        active = ActiveLearning(sampler, query_size=3, max_rounds=2, seed=0)
        torch.manual_seed(0)
        quiet_trainer([active], max_epochs=1).fit(Model(), datamodule=data)
        picks.append([seen.features for seen in sampler.seen])
    for alone, many in zip(*picks, strict=True):
        np.testing.assert_array_equal(alone, many)


def test_own_train_dataloader():
    class Mine(ActiveDataModule):
        def train_dataloader(self):
            return DataLoader(self.labelled_dataset, batch_size=2, shuffle=True)

    data = Mine(points(), initial_labels=START)
    active = ActiveLearning(Recorder(), query_size=3, max_rounds=2, seed=0)
    quiet_trainer([active], max_epochs=1).fit(Model(), datamodule=data)
    assert [r.labelled.tolist() for r in active.history] == [
        [4, 8, 17, 31],
        [4, 8, 17, 31, 37, 38, 39],
        [4, 8, 17, 31, 34, 35, 36, 37, 38, 39],
    ]


def test_labels_by_position():
    data = ActiveDataModule(points(), initial_labels=[1])
    data.label({5: 2, 3: 0})  # the data set has 2 and 0 there; and not:
    data.label({7: 0, 8: 1})
    assert dict(zip(data.labelled_indices.tolist(), data.labels.tolist(), strict=True)) == {
        1: 1,
        3: 0,
        5: 2,
        7: 0,
        8: 1,
    }
    data.correct({7: 2})
    assert data.labels[data.labelled_indices == 7].tolist() == [2]
    for call in (data.label, data.correct):
        with pytest.raises(InvalidLabelError, match="by position, or positions and labels"):
            call({9: 1}, [1])
    with pytest.raises(InvalidLabelError, match="one label for each point that is corrected"):
        data.correct([7])
