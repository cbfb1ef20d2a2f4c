"""Who is labelled, what trains on it, and what a checkpoint keeps of it."""

import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset, default_collate, random_split

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal._lightning import is_overridden
from lightning_diffal.exceptions import (
    ConfigurationError,
    InvalidIndexError,
    InvalidLabelError,
    InvalidTypeError,
    ResumeError,
)
from lightning_diffal.samplers import RandomSampler
from tests.helpers import quiet_trainer
from tests.helpers_data import Augmented, Listed, Model, PlainModule, Untouchable, classes, inputs, points

START = [31, 4, 17, 8]


def module_of(dataset=None, **kwargs):
    return ActiveDataModule(
        points() if dataset is None else dataset, **{"initial_labels": START, "batch_size": 4} | kwargs
    )


def labels_of(loader):
    return [label for _, y in loader for label in y.tolist()]


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class TestItemsAreNotTouched:
    """Only what is needed is read, and only when."""

    @pytest.mark.parametrize(
        "arguments",
        [
            {"initial_labels": 5},
            {"initial_labels": [3, 1]},
            {"initial_labels": {3: 1, 1: 0}},
            {"initial_labels": 6, "targets": classes(), "stratified": True, "num_classes": 3},
            {"initial_labels": 6, "val_fraction": 0.3},
            {"initial_labels": 6, "pool_dataset": Untouchable(), "ids": [f"p{i}" for i in range(40)]},
        ],
    )
    def test_by_construction_setup_and_loaders(self, arguments):
        data = ActiveDataModule(Untouchable(), **arguments)
        for stage in ("fit", "validate", "test", "predict", "fit"):
            data.setup(stage)
        assert len(data.train_dataloader()) == len(data.pool_dataloader()) - 1 == 1
        data.state_dict()
        data.skip([int(data.pool_indices[-1])])
        with pytest.raises(AssertionError, match="was read"):
            next(iter(data.train_dataloader()))

    def test_labels_read_the_labelled_ones_once(self):
        dataset = Listed([("x", i % 3) for i in range(40)])
        data = module_of(dataset)
        assert data.labels.tolist() == [1, 2, 2, 1] and data.labels.tolist() == [1, 2, 2, 1]
        assert sorted(dataset.reads) == sorted(START)

    def test_labels_known_as_an_array_are_not_read(self):
        data = module_of(Untouchable(), targets=(classes() + 1) % 3)
        data.label([20])
        assert data.labels.tolist() == [2, 0, 0, 0, 2]  # of 4, 8, 17, 20, 31

    def test_the_given_array_trains_without_a_callback_too(self):
        data = module_of(TensorDataset(inputs()), targets=classes(), loader_kwargs={"shuffle": False})
        assert labels_of(data.train_dataloader()) == [1, 2, 2, 1]


class TestLabelling:
    """`label`, `skip`, `labels`."""

    def test_two_rounds(self):
        data = module_of()
        data.label([39, 2], [0, 1], round_=1)
        data.label([0])  # the data set's own
        assert data.labelled_indices.tolist() == [0, 2, 4, 8, 17, 31, 39]
        assert data.labels.tolist() == [0, 1, 1, 2, 2, 1, 0]
        data.skip([5])
        assert data.skipped_indices.tolist() == [5] and len(data.pool_indices) == 32
        assert data.pool.n_bought == 2

    def test_names_and_arrays(self):
        data = module_of(class_names=["a", "b", "c"])
        data.label([1, 2], ["c", "a"])
        data.label(torch.tensor([5]), torch.tensor([2]))
        data.label(np.array([6]), np.array([1], dtype=np.uint8))
        assert data.pool.labels_of(np.array([1, 2, 5, 6])) == {1: 2, 2: 0, 5: 2, 6: 1}

    @pytest.mark.parametrize(
        ("indices", "labels", "error", "message"),
        [
            ([1, 2], [0, 3], InvalidLabelError, "Point 2: .* at most 2, but got 3"),
            ([1, 2], [0, "cat"], InvalidLabelError, "Point 2: .*'cat'"),
            ([1, 2], [0, None], InvalidLabelError, "Point 2: "),
            ([1, 2], [0], InvalidLabelError, "2 points, but got 1"),
            ([1, 2], [0, [0, 1, 0]], InvalidLabelError, "zeros and ones for 3 classes"),
            ([1, 4], [0, 0], InvalidIndexError, "labelled already"),
            ([1, 40], [0, 0], InvalidIndexError, "between 0 and 39"),
            (1, [0], InvalidIndexError, "flat list"),
        ],
    )
    def test_what_is_refused_changes_nothing(self, indices, labels, error, message):
        data = module_of(num_classes=3)
        _ = data.labels
        before = data.state_dict()
        with pytest.raises(error, match=message):
            data.label(indices, labels)
        assert data.state_dict() == before

    @pytest.mark.parametrize("item", ["x", ("x",), {"x": 1}, ("x", None)])
    def test_items_without_labels_say_so(self, item):
        data = ActiveDataModule([item, item], initial_labels=[1])
        with pytest.raises(InvalidLabelError, match="Item 1 of the training data set holds no label"):
            _ = data.labels

    def test_labels_in_the_wrong_place(self):
        data = ActiveDataModule([("x", 1, "meta"), ("x", 0, "meta")], initial_labels=[1])
        with pytest.raises(InvalidLabelError, match=r"Item 1 .*'meta'"):
            _ = data.labels
        data.target = 1
        assert data.labels.tolist() == [0]

    def test_labels_of_a_pool_data_set_of_inputs_only(self):
        data = module_of(pool_dataset=TensorDataset(inputs()))
        assert data.labels.tolist() == [1, 2, 2, 1]

    def test_reading_labels_leaves_the_random_state_alone(self):
        data = module_of(Augmented())
        state = torch.get_rng_state(), np.random.get_state()[1].tolist()
        _ = data.labels, data.pool_item(3)
        assert torch.equal(torch.get_rng_state(), state[0]) and np.random.get_state()[1].tolist() == state[1]

    def test_check_labels(self):
        data = module_of(initial_labels={3: 0, 30: 5})
        data.check_labels()
        data.num_classes = 3
        with pytest.raises(InvalidLabelError, match=r"Point 30 .* label 5, but there are 3 classes"):
            data.check_labels()
        several = module_of(initial_labels={3: [0, 1]})
        several.num_classes = 3
        with pytest.raises(InvalidLabelError, match=r"label \[0, 1\]"):
            several.check_labels()

    def test_multi_label_targets(self):
        y = torch.stack([classes() == c for c in range(3)], dim=1).float()
        data = module_of(TensorDataset(inputs(), y), num_classes=3)
        data.label([2], [[1, 1, 0]])
        assert data.labels.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 1, 0]]
        batches = [y for _, y in data.train_dataloader()]
        assert torch.cat(batches).dtype == torch.float32 and torch.cat(batches).sum(0).tolist() == [1, 3, 2]


class TestTrainingLoader:
    """Batches of the labelled points."""

    @pytest.mark.parametrize("kind", [int, np.int64, np.uint8, torch.tensor, float, lambda y: torch.tensor([float(y)])])
    def test_given_labels_train_in_the_type_of_own_ones(self, kind):
        dataset = [(torch.zeros(2), kind(i % 2)) for i in range(40)]
        data = module_of(dataset, initial_labels={31: 1, 4: 1, 17: 0, 8: 0}, loader_kwargs={"shuffle": False})
        (_, y), (_, own) = next(iter(data.train_dataloader())), default_collate(dataset[:1])
        assert y.reshape(-1).tolist() == [1, 0, 0, 1]
        assert y.dtype == own.dtype and y.shape[1:] == own.shape[1:]

    def test_unlabelled_items_train_with_given_labels(self):
        for item in (torch.zeros(2), (torch.zeros(2),), (torch.zeros(2), None), (torch.zeros(2), -1)):
            data = module_of([item] * 40, initial_labels={31: 2, 4: 1}, loader_kwargs={"shuffle": False})
            assert labels_of(data.train_dataloader()) == [1, 2]

    def test_through_the_users_collate_function(self):
        def collate(items):
            return {
                "x": torch.stack([item["x"] for item in items]),
                "labels": torch.tensor([i["species"] for i in items]),
            }

        dataset = [{"x": torch.zeros(2)} for _ in range(40)]
        data = module_of(dataset, initial_labels={31: 2, 4: 1}, target="species", collate_fn=collate)
        assert sorted(next(iter(data.train_dataloader()))["labels"].tolist()) == [1, 2]
        assert next(iter(data.pool_dataloader()))["labels"].tolist() == [0, 0, 0, 0]

    def test_class_names_in_items_stay_names(self):
        names = ["cat", "dog"]

        def collate(items):
            return torch.stack([x for x, _ in items]), torch.tensor([names.index(y) for _, y in items])

        dataset = [(torch.zeros(2), names[i % 2]) for i in range(40)]
        data = module_of(dataset, class_names=names, collate_fn=collate, initial_labels=[31, 4, 17, 8])
        data.label([0], ["dog"])
        assert data.labels.tolist() == [1, 0, 0, 1, 1]
        assert sorted(labels_of(data.train_dataloader())) == [0, 0, 1, 1, 1]

    def test_an_item_whose_label_agrees_trains_untouched(self):
        dataset = Listed([(torch.zeros(2), torch.tensor(i % 3)) for i in range(40)])
        data = module_of(dataset)
        _ = data.labels
        assert data.labelled_dataset[1] is dataset.items[8]

    @pytest.mark.parametrize(("size", "batches"), [(3, 1), (4, 1), (5, 1), (7, 1), (8, 2), (9, 2)])
    def test_drop_last_never_drops_the_only_batch(self, size, batches):
        data = module_of(initial_labels=size, loader_kwargs={"drop_last": True})
        assert len(data.train_dataloader()) == batches

    @pytest.mark.parametrize("norm", [nn.BatchNorm1d(16), nn.SyncBatchNorm(16), nn.LayerNorm(16)])
    @pytest.mark.parametrize(("size", "loader_kwargs"), [(9, {}), (10, {}), (1, {}), (9, {"drop_last": False})])
    def test_batch_norm_and_a_last_batch_of_one(self, norm, size, loader_kwargs):
        data = module_of(initial_labels=size, loader_kwargs=loader_kwargs)
        data.trainer = quiet_trainer()
        data.trainer.strategy.connect(Model(nn.Sequential(nn.Linear(8, 16), norm, nn.Linear(16, 3))))
        merged = size == 9 and not isinstance(norm, nn.LayerNorm)
        sizes = [len(y) for _, y in data.train_dataloader()]
        assert sizes == ([4, 5] if merged else [4, 4, 1] if size == 9 else [4, 4, 2] if size == 10 else [1])

    def test_a_wish_to_drop_is_kept_and_told_once(self):
        data = module_of(initial_labels=7, loader_kwargs={"drop_last": True})
        with pytest.warns(UserWarning, match="leaves 3 of 7 labelled points out of every epoch"):
            data.train_dataloader()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert sum(len(y) for _, y in data.train_dataloader()) == 4

    @pytest.mark.parametrize(
        ("size", "sizes"), [(3, [3]), (4, [4]), (5, [5]), (6, [3, 3]), (8, [4, 4]), (11, [4, 4, 3])]
    )
    def test_what_a_wrapped_loader_would_drop_trains(self, size, sizes):
        data = ActiveDataModule.from_datamodule(PlainModule(drop_last=True, batch_size=4), initial_labels=size)
        data.setup("fit")
        loader = data.train_dataloader()
        assert [len(y) for _, y in loader] == sizes and len(loader) == len(sizes)

    @pytest.mark.parametrize("make", [module_of, lambda **k: _wrapped(**k)])
    def test_batch_norm_trains_on_nine_points(self, make):
        net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
        active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=1, seed=0)
        quiet_trainer([active], max_epochs=2).fit(Model(net), datamodule=make(initial_labels=5))
        assert [r.n_labelled for r in active.history] == [5, 9]

    def test_only_training_shuffles_and_drops(self):
        data = module_of(val_dataset=points(6), test_dataset=points(7), loader_kwargs={"drop_last": True})
        assert sum(len(y) for _, y in data.val_dataloader()) == 6
        assert sum(len(y) for _, y in data.test_dataloader()) == 7
        x = torch.cat([x for x, _ in data.pool_dataloader(np.array([9, 2, 5, 30, 1]))])
        assert torch.equal(x, inputs()[[9, 2, 5, 30, 1]])

    def test_going_over_the_pool_leaves_the_random_state_alone(self):
        state = torch.get_rng_state()
        assert sum(len(y) for _, y in module_of().pool_dataloader()) == 40
        assert torch.equal(torch.get_rng_state(), state)

    def test_unlabelled_items_of_a_multi_label_problem(self):
        data = module_of([(torch.zeros(2), None)] * 40, initial_labels={31: [0, 1, 1], 4: [1, 0, 1]})
        assert [y.shape for _, y in data.pool_dataloader(np.arange(4))] == [(4, 3)]

    def test_loader_settings(self):
        settings = {"pin_memory": False, "persistent_workers": True, "prefetch_factor": 4}
        data = module_of(num_workers=1, loader_kwargs=settings, pool_batch_size=16)
        loader, pool = data.train_dataloader(), data.pool_dataloader()
        assert loader.persistent_workers and loader.prefetch_factor == pool.prefetch_factor == 4
        assert pool.batch_size == 16 and loader.batch_size == 4 and sum(len(y) for _, y in pool) == 40

    def test_before_the_first_label(self):
        data = module_of(initial_labels=0)
        data.expected_labels = 10
        assert len(data.train_dataloader()) == 3 and data.labels.tolist() == []

    def test_loaders_without_a_data_set(self):
        data = module_of()
        # Lightning sees none, as of any data module that has none
        assert not is_overridden("val_dataloader", data) and not is_overridden("test_dataloader", data)
        assert len(data.predict_dataloader().dataset) == 40


def _wrapped(**kwargs):
    return ActiveDataModule.from_datamodule(PlainModule(batch_size=4), **kwargs)


class TestValFraction:
    """Some labelled points validate, always the same."""

    def test_a_point_never_changes_sides(self):
        data = module_of(points(200), initial_labels=40, val_fraction=0.25, ids=[f"p{i}" for i in range(200)])
        sides = {}
        for round_ in range(3):
            train, labelled = set(data.train_indices.tolist()), data.labelled_indices.tolist()
            for index in labelled:
                assert sides.setdefault(index, index in train) == (index in train)
            validating = set(labelled) - train
            assert set(data.val_dataloader().dataset.indices.tolist()) == validating
            assert data.labelled_dataset.indices.tolist() == sorted(train)
            data.label(data.pool_indices[round_::3][:40])
        assert 0.15 < 1 - np.mean(list(sides.values())) < 0.35

    def test_the_id_decides_and_not_the_position(self):
        ids = [f"p{i}" for i in range(40)]
        one = module_of(initial_labels=range(40), val_fraction=0.4, ids=ids)
        other = module_of(initial_labels=range(40), val_fraction=0.4, ids=ids[::-1])
        by_id = [{m.pool.id_of(i) for i in m.train_indices} for m in (one, other)]
        assert by_id[0] == by_id[1] and one.train_indices.tolist() != other.train_indices.tolist()

    def test_validates_without_augmentation(self):
        data = module_of(Augmented(), initial_labels=range(40), val_fraction=0.4, pool_dataset=points())
        x = torch.cat([x for x, _ in data.val_dataloader()])
        assert torch.equal(x, inputs()[data.val_dataloader().dataset.indices])

    def test_all_aside(self):
        data = module_of(initial_labels=1, val_fraction=0.99999)
        with pytest.raises(ConfigurationError, match="All 1 labelled points validate"):
            data.train_dataloader()

    def test_none_aside(self):
        assert module_of(initial_labels=1, val_fraction=1e-9).val_dataloader() == []

    def test_a_data_set_given_in_setup_as_well(self):
        data = module_of(val_fraction=0.2)
        data.val_dataset = points(5)
        with pytest.raises(ConfigurationError, match="not both"):
            data.val_dataloader()

    def test_a_run(self):
        seen = []

        class Validated(Model):
            def validation_step(self, batch, batch_idx):
                seen.append(len(batch[1]))

        data = module_of(initial_labels=20, val_fraction=0.3)
        active = ActiveLearning(RandomSampler(), query_size=10, max_rounds=1, seed=0)
        quiet_trainer([active], max_epochs=1, num_sanity_val_steps=0).fit(Validated(), datamodule=data)
        assert sum(seen) > 0 and [r.n_labelled for r in active.history] == [20, 30]


class TestSetup:
    """Data sets given in `setup`, once and again."""

    def test_repeated_setup_keeps_the_pool(self):
        class Mine(ActiveDataModule):
            def setup(self, stage):
                self.train_dataset, self.val_dataset = points(), points(10)

        data = Mine(initial_labels=START)
        with pytest.raises(ConfigurationError, match=r"set `self.train_dataset` in `setup`"):
            _ = data.pool
        data.setup("fit")
        data.label([0], [2], round_=1)
        data.pool.ask([5])
        data.setup("fit")
        assert data.labelled_indices.tolist() == [0, 4, 8, 17, 31] and data.pending_indices.tolist() == [5]
        assert data.labels.tolist() == [2, 1, 2, 2, 1]

    def test_targets_given_in_setup(self):
        class Mine(ActiveDataModule):
            def setup(self, stage):
                self.train_dataset, self.targets = Untouchable(), classes()

        data = Mine(initial_labels=6, stratified=True)
        data.setup("fit")
        assert sorted(data.labels.tolist()) == [0, 0, 1, 1, 2, 2]

        class Without(Mine):
            def setup(self, stage):
                self.train_dataset = Untouchable()

        data = Without(initial_labels=6, stratified=True)
        data.setup("fit")
        with pytest.raises(ConfigurationError, match="`stratified=True` needs `targets`"):
            _ = data.pool

    def test_a_grown_data_set(self):
        dataset = Listed([("x", i % 3) for i in range(40)])
        data = module_of(dataset)
        dataset.items += [("x", 0)] * 5
        assert data.pool_indices[-5:].tolist() == [40, 41, 42, 43, 44] and data.labels.tolist() == [1, 2, 2, 1]
        dataset.items = dataset.items[:30]
        with pytest.raises(ResumeError, match="has 30 points, but labels were kept for 45"):
            _ = data.pool

    def test_a_random_split_that_changes(self):
        full = points()
        data = module_of(Subset(full, list(range(39, 4, -1))))
        data.train_dataset = Subset(full, list(range(39, 4, -1)))
        assert data.labelled_indices.tolist() == sorted(START)
        data.train_dataset = random_split(full, [35, 5], generator=torch.Generator().manual_seed(1))[0]
        with pytest.raises(ConfigurationError, match=r"Subset of other points .* seeded generator"):
            _ = data.pool

    def test_a_grown_subset(self):
        full = points()
        data = module_of(Subset(full, list(range(35))))
        data.train_dataset = Subset(full, [*range(35), 39, 38])
        assert len(data.pool) == 37
        data.train_dataset = Subset(full, list(range(38)))
        with pytest.raises(ConfigurationError, match="other points"):
            _ = data.pool

    def test_reordered_ids(self):
        data = module_of(ids=[f"p{i}" for i in range(40)])
        data.ids, data.train_dataset = [f"p{i}" for i in range(39, -1, -1)], points()
        with pytest.raises(ResumeError, match="ids of known points changed"):
            _ = data.pool


class TestArguments:
    """Refused before anything is looked at; others in `test_bad_input.py`."""

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"num_classes": 0}, ConfigurationError, "num_classes"),
            ({"num_classes": 2.5}, ConfigurationError, "num_classes"),
            ({"class_names": "ab"}, InvalidTypeError, "class_names"),
            ({"class_names": ["a", "a"]}, ConfigurationError, "different"),
            ({"target": None}, InvalidTypeError, "target"),
            ({"target": torch.arange(3)}, InvalidTypeError, "go into `targets`"),
            ({"val_fraction": "0.1"}, ConfigurationError, "val_fraction"),
            ({"val_fraction": -0.1}, ConfigurationError, "val_fraction"),
            ({"pool_batch_size": 0}, ConfigurationError, "pool_batch_size"),
            ({"batch_size": None}, ConfigurationError, "batch_size"),
            ({"loader_kwargs": ["pin_memory"]}, InvalidTypeError, "loader_kwargs"),
            ({"loader_kwargs": {"batch_size": 3}}, ConfigurationError, r"cannot hold \['batch_size'\]"),
        ],
    )
    def test_refused(self, arguments, error, message):
        with pytest.raises(error, match=message):
            ActiveDataModule(**arguments)
