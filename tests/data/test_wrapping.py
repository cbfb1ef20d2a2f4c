"""Around an existing data module."""

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
    random_split,
)

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal._lightning import is_overridden, pl
from lightning_diffal.data.wrapped import default_ids, split_fingerprint
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.samplers import RandomSampler as Chance
from tests.helpers import quiet_trainer
from tests.helpers_data import Model, PlainModule, points


def wrap(module, **kwargs):
    data = ActiveDataModule.from_datamodule(module, **{"initial_labels": [21, 4, 9]} | kwargs)
    data.setup("fit")
    return data


class TestFromDatamodule:
    """Data set and settings are its own."""

    def test_takes_over_data_and_settings(self):
        inner = PlainModule(collate_fn=default_collate, pin_memory=False, drop_last=True)
        data = wrap(inner)
        assert data.train_dataset is inner.train and data.batch_size == 5 and data.collate_fn is default_collate
        assert data.labelled_indices.tolist() == [4, 9, 21] and len(data.pool_indices) == 27
        own = [int(inner.train[i][1]) for i in (4, 9, 21)]
        assert data.labels.tolist() == own
        assert isinstance(data.train_dataloader().sampler, RandomSampler)
        assert data.val_dataloader().batch_size == 7 and data.val_dataloader().dataset is inner.val

    def test_unshuffled_stays_unshuffled(self):
        loader = wrap(PlainModule(shuffle=False)).train_dataloader()
        assert isinstance(loader.sampler, SequentialSampler)

    def test_arguments_go_first(self):
        inner, full = PlainModule(), points()
        data = wrap(inner, batch_size=2, train_dataset=full, val_dataset=full, test_dataset=full, initial_labels=[35])
        assert data.train_dataset is full and data.batch_size == 2
        assert data.val_dataloader().dataset is full and data.test_dataloader().dataset is full

    def test_loader_arguments_are_added(self):
        data = wrap(PlainModule(drop_last=True), loader_kwargs={"shuffle": False})
        assert data.loader_kwargs["drop_last"] is True and data.loader_kwargs["shuffle"] is False

    def test_workers(self):
        module = PlainModule(num_workers=1, persistent_workers=True, prefetch_factor=3)
        loader = wrap(module).train_dataloader()
        assert (loader.num_workers, loader.persistent_workers, loader.prefetch_factor) == (1, True, 3)
        assert sum(len(y) for _, y in loader) == 3
        alone = wrap(module, num_workers=0).train_dataloader()  # to debug, say
        assert alone.num_workers == 0 and sum(len(y) for _, y in alone) == 3

    def test_a_found_batch_size_is_kept(self):
        class Tearing(PlainModule):
            def teardown(self, stage):
                self.train = None

        data = wrap(Tearing())
        data.batch_size = 16
        data.setup("fit")
        assert data.batch_size == 16

    def test_setup_splits_once(self):
        class Splitting(PlainModule):
            def setup(self, stage):
                self.n_setups += 1
                self.train, self.val = random_split(points(), [30, 10])

        inner = Splitting()
        data = wrap(inner)
        labelled, validation = data.train_dataset.indices, inner.val.indices
        data.setup("fit")
        assert inner.n_setups == 1
        assert data.train_dataset.indices is labelled and data.val_dataloader().dataset.indices is validation

    def test_a_split_that_changes_is_refused(self):
        class Tearing(PlainModule):
            def setup(self, stage):
                self.train, self.val = random_split(points(), [30, 10])

            def teardown(self, stage):
                self.train = self.val = None

        data = wrap(Tearing())
        with pytest.raises(ConfigurationError, match="seeded generator"):
            data.setup("fit")

    def test_a_seeded_split_that_is_torn_down_goes_on(self):
        class Tearing(PlainModule):
            def teardown(self, stage):
                self.train = self.val = None

        inner = Tearing()
        data = wrap(inner)
        inner.teardown("fit")
        data.setup("fit")
        assert data.labelled_indices.tolist() == [4, 9, 21] and data.train_dataset is inner.train is not None

    def test_loaders_that_it_does_not_define(self):
        class TrainOnly(pl.LightningDataModule):
            def train_dataloader(self):
                return DataLoader(points(), batch_size=4)

        data = wrap(TrainOnly())
        assert not is_overridden("val_dataloader", data) and not is_overridden("test_dataloader", data)
        assert len(data.predict_dataloader().dataset) == 40

    def test_from_datasets(self):
        module = pl.LightningDataModule.from_datasets(points(), val_dataset=points(10), batch_size=6)
        data = wrap(module)
        assert data.batch_size == 6 and len(data.val_dataloader().dataset) == 10
        assert not is_overridden("test_dataloader", data)

    def test_two_rounds_with_all_its_hooks(self):
        calls = []

        class Hooked(PlainModule):
            def prepare_data(self):
                calls.append("prepare_data")

            def on_before_batch_transfer(self, batch, dataloader_idx):
                calls.append("before")
                return batch

            def transfer_batch_to_device(self, batch, device, dataloader_idx):
                calls.append("transfer")
                return super().transfer_batch_to_device(batch, device, dataloader_idx)

            def on_after_batch_transfer(self, batch, dataloader_idx):
                assert self.trainer is not None
                calls.append(f"after {self.trainer.state.stage.value}")
                return batch

            def teardown(self, stage):
                calls.append("teardown")

            def state_dict(self):
                return {"seen": 5}

            def load_state_dict(self, state):
                self.state = state

        inner = Hooked()
        data = ActiveDataModule.from_datamodule(inner, initial_labels=[21, 4, 9])
        active = ActiveLearning(query_size=4, max_rounds=2, seed=0)
        quiet_trainer([active], max_epochs=1).fit(Model(), datamodule=data)
        assert [r.n_labelled for r in active.history] == [3, 7, 11] and {21, 4, 9} < set(data.labelled_indices.tolist())
        assert calls.count("prepare_data") == calls.count("teardown") == 1
        assert {"before", "transfer", "after train", "after predict"} <= set(calls)
        data.trainer = None
        data.load_state_dict(data.state_dict())
        assert inner.state == {"seen": 5}

    def test_hooks_it_does_not_have_stay_lightnings(self):
        data = wrap(PlainModule())
        for hook in ("prepare_data", "on_after_batch_transfer", "transfer_batch_to_device"):
            assert hook not in vars(data)

    def test_fit_goes_on_after_a_test(self):
        class WithTest(PlainModule):
            def test_dataloader(self):
                return DataLoader(self.val, batch_size=5)

        class Tested(Model):
            def test_step(self, batch, batch_idx):
                self.log("n", float(len(batch[1])), reduce_fx="sum")

        data = ActiveDataModule.from_datamodule(WithTest(), initial_labels=[21, 4, 9])
        active, model = ActiveLearning(Chance(), query_size=2, max_rounds=1, seed=0), Tested()
        trainer = quiet_trainer([active], max_epochs=1)
        trainer.fit(model, datamodule=data)
        before = data.labelled_indices.tolist()
        assert trainer.test(model, datamodule=data, verbose=False) == [{"n": 10.0}]
        assert data.labelled_indices.tolist() == before
        active.max_rounds = 2
        trainer.fit(model, datamodule=data)
        assert set(before) < set(data.labelled_indices.tolist()) and len(data.labelled_indices) == 7


class Stream(IterableDataset):
    def __iter__(self):
        return iter(points())


class TestRefused:
    """What cannot be carried over to a part of the data set."""

    @pytest.mark.parametrize(
        ("make", "error", "message"),
        [
            (lambda: [DataLoader(points())], InvalidTypeError, "one DataLoader, but got list"),
            (lambda: None, InvalidTypeError, "NoneType"),
            (lambda: DataLoader(Stream()), InvalidTypeError, "IterableDataset Stream"),
            (
                lambda: DataLoader(points(), sampler=SubsetRandomSampler([1, 2])),
                ConfigurationError,
                "SubsetRandomSampler",
            ),
            (
                lambda: DataLoader(points(), sampler=WeightedRandomSampler([1.0] * 40, 40)),
                ConfigurationError,
                "WeightedRandomSampler",
            ),
            (
                lambda: DataLoader(points(), sampler=RandomSampler(points(), num_samples=8)),
                ConfigurationError,
                "`num_samples`",
            ),
            (
                lambda: DataLoader(points(), sampler=RandomSampler(points(), replacement=True)),
                ConfigurationError,
                "`replacement`",
            ),
            (
                lambda: DataLoader(points(), batch_sampler=BatchSampler(SequentialSampler(points()), 4, False)),
                ConfigurationError,
                "batch sampler BatchSampler",
            ),
            (lambda: DataLoader(points(), batch_size=None), ConfigurationError, "no batches"),
            (lambda: DataLoader(points(0)), ConfigurationError, "empty"),
        ],
    )
    def test_loader(self, make, error, message):
        class Odd(pl.LightningDataModule):
            def train_dataloader(self):
                return make()

        with pytest.raises(error, match=message):
            wrap(Odd())

    def test_no_data_module(self):
        with pytest.raises(InvalidTypeError, match="LightningDataModule, but got"):
            ActiveDataModule.from_datamodule(DataLoader(points()))


class Folder(torch.utils.data.Dataset):
    def __init__(self, root, names):
        self.root = root
        self.samples = [(f"{root}/{name}", 0) for name in names]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        raise AssertionError("an item was read")


class TestIds:
    """Names of points that nobody has to give."""

    def test_relative_paths(self):
        names = ["cat/1.png", "cat/2.png", "dog/1.png"]
        assert default_ids(Folder("/data/train", names)) == names
        assert default_ids(Folder("/elsewhere", names)) == names
        assert default_ids(Subset(Folder("/data", names), [2, 0])) == ["dog/1.png", "cat/1.png"]

    @pytest.mark.parametrize(
        "dataset",
        [
            points(),
            Subset(points(), [1, 2]),
            Folder("/data", []),
            Folder("/data", ["a.png", "a.png"]),
            Subset(Folder("/data", ["a.png", "b.png"]), [0, 0, 1]),
        ],
    )
    def test_none(self, dataset):
        assert default_ids(dataset) is None

    def test_paths_outside_the_root(self):
        folder = Folder("/data", ["a.png"])
        folder.root = "/dat"
        assert default_ids(folder) is None

    def test_in_use(self):
        data = ActiveDataModule(Folder("/data", ["b/1", "a/1", "a/0"]), initial_labels={2: 1})
        assert data.pool.id_of(2) == "a/0"


class TestFingerprint:
    """Which points of the underlying data set a Subset holds."""

    def test_resolves_nesting(self):
        base = points()
        assert split_fingerprint(base, 40) is None
        flat = split_fingerprint(Subset(base, [9, 1]), 2)
        assert flat == split_fingerprint(Subset(Subset(base, [0, 1, 9]), [2, 1]), 2)
        assert flat != split_fingerprint(Subset(base, [1, 9]), 2) != split_fingerprint(Subset(base, [1, 8]), 2)

    def test_first_points_only(self):
        base = points()
        assert split_fingerprint(Subset(base, [9, 1, 4]), 2) == split_fingerprint(Subset(base, [9, 1]), 2)
