"""Bad input is refused before anything trains, with a message that says what to do, and nothing is lost."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler, QuerySampler
from lightning_diffal.data.views import LabelledDataset
from lightning_diffal.exceptions import (
    ConfigurationError,
    DiffalError,
    FeatureError,
    InvalidIndexError,
    InvalidLabelError,
    InvalidTypeError,
    LoaderMismatchError,
)
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, pl, quiet_trainer


class Stream(IterableDataset):
    def __iter__(self):
        return iter(TRAIN)


class NoLength(Dataset):
    def __getitem__(self, index):
        return TRAIN[index]


CONSTRUCTION = {
    "unknown index": ({"initial_labels": [3, 120]}, InvalidIndexError, r"between 0 and 119.*120"),
    "negative index": ({"initial_labels": [-1]}, InvalidIndexError, r"\[-1\]"),
    "duplicate index": ({"initial_labels": [3, 5, 3]}, InvalidIndexError, r"\[3\] appear twice"),
    "float indices": ({"initial_labels": [0.5, 1.0]}, InvalidIndexError, "integer positions"),
    "a fraction": ({"initial_labels": 0.1}, ConfigurationError, "initial_labels"),
    "too many": ({"initial_labels": 121}, ConfigurationError, "120 points"),
    "negative number": ({"initial_labels": -1}, ConfigurationError, "between 0"),
    "label out of range": ({"initial_labels": {3: 7}, "num_classes": 3}, InvalidLabelError, "at most 2, but got 7"),
    "negative label": ({"initial_labels": {3: -1}}, InvalidLabelError, "at least 0"),
    "label of a wrong type": ({"initial_labels": {3: "cat"}}, InvalidLabelError, "'cat'"),
    "regression label": ({"initial_labels": {3: 0.5}}, InvalidLabelError, "Regression"),
    "stratified without targets": ({"stratified": True}, ConfigurationError, "needs `targets`"),
    "targets too short": ({"targets": [0, 1]}, InvalidLabelError, "120 points"),
    "targets out of range": ({"targets": [5] * 120, "num_classes": 3}, InvalidLabelError, "at most 2"),
    "val_fraction of one": ({"val_fraction": 1.0}, ConfigurationError, "val_fraction"),
    "two validation sets": ({"val_fraction": 0.2, "val_dataset": VAL}, ConfigurationError, "not both"),
    "batch size": ({"batch_size": 0}, ConfigurationError, "batch_size"),
    "sampler in loader_kwargs": ({"loader_kwargs": {"sampler": None}}, ConfigurationError, "labelled_dataset"),
    "ids twice": ({"ids": ["a"] * 120}, InvalidIndexError, "'a' stands 120 times"),
    "pool of another size": ({"pool_dataset": VAL}, ConfigurationError, "same 120 items"),
    "class names disagree": ({"num_classes": 2, "class_names": ["a", "b", "c"]}, ConfigurationError, "agree"),
}


@pytest.mark.parametrize("case", CONSTRUCTION)
def test_data_module_refuses(case):
    arguments, error, message = CONSTRUCTION[case]
    with pytest.raises(error, match=message) as caught:
        ActiveDataModule(TRAIN, **arguments)
    assert isinstance(caught.value, DiffalError) and isinstance(caught.value, ValueError | TypeError)


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        (Stream(), InvalidTypeError, "IterableDataset"),
        (NoLength(), InvalidTypeError, "length"),
        (TensorDataset(torch.empty(0, 8)), ConfigurationError, "empty"),
        ([], ConfigurationError, "empty"),
    ],
)
def test_data_sets_that_cannot_work(dataset, error, message):
    with pytest.raises(error, match=message):
        ActiveDataModule(dataset)

    class InSetup(ActiveDataModule):
        def setup(self, stage):
            self.train_dataset = dataset

    with pytest.raises(error, match=message):
        quiet_trainer([ActiveLearning()]).fit(Net(), datamodule=InSetup())


class Greedy(QuerySampler):
    requires = frozenset({"features", "gradients"})

    def select(self, data, query_size, generator):
        raise AssertionError("never asked")


CALLBACK = {
    "query_size of nought": ({"query_size": 0}, ConfigurationError, "query_size"),
    "a fraction to ask": ({"query_size": 0.1}, ConfigurationError, "query_size"),
    "true to ask": ({"query_size": True}, ConfigurationError, "query_size"),
    "negative rounds": ({"max_rounds": -1}, ConfigurationError, "max_rounds"),
    "no budget": ({"budget": 0}, ConfigurationError, "budget"),
    "no answers": ({"min_answers": 0}, ConfigurationError, "min_answers"),
    "a class for a sampler": ({"sampler": DiffusionSampler}, InvalidTypeError, r"call it, DiffusionSampler\(\)"),
    "a name for a sampler": ({"sampler": "diffusion"}, InvalidTypeError, "QuerySampler"),
    "unknown reset": ({"reset": "cold"}, ConfigurationError, "'cold'"),
    "reset of one": ({"reset": 1.0}, ConfigurationError, "reset"),
    "unknown weights": ({"weights": "worst"}, ConfigurationError, "'worst'"),
    "a sampler that wants what nobody has": ({"sampler": Greedy()}, ConfigurationError, r"requires \['gradients'\]"),
    "no oracle": ({"oracle": 3}, InvalidTypeError, "oracle"),
    "an oracle's class": ({"oracle": dict}, InvalidTypeError, "oracle"),
    "time in words": ({"max_time": "an hour"}, ConfigurationError, "DD:HH:MM:SS"),
    "features": ({"features": 3}, InvalidTypeError, "features"),
    "part of the features": ({"features": "inputs+"}, InvalidTypeError, "features"),
}


@pytest.mark.parametrize("case", CALLBACK)
def test_callback_refuses(case):
    arguments, error, message = CALLBACK[case]
    with pytest.raises(error, match=message):
        ActiveLearning(**arguments)


class Headless(Net):
    def __init__(self):
        super().__init__("none")
        self.weight = nn.Parameter(torch.randn(3, 8))
        self.body = self.head = None

    def forward(self, x):
        return nn.functional.linear(x, self.weight) + nn.functional.linear(
            x * x, self.weight
        )  # two paths to the scores


class Untrained(Net):
    """Says so if it ever trains."""

    def training_step(self, batch, batch_idx):
        raise AssertionError("trained on bad input")


class Cached(ActiveDataModule):
    loader = None

    def train_dataloader(self):
        if self.loader is None:
            self.loader = DataLoader(self.labelled_dataset, batch_size=4, shuffle=True)
        return self.loader


class Full(ActiveDataModule):
    def train_dataloader(self):
        return DataLoader(self.train_dataset, batch_size=4, shuffle=True)


class Wrapper(Dataset):
    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return self.inner[index]


class WrappedFull(ActiveDataModule):
    def train_dataloader(self):
        return DataLoader(Wrapper(self.train_dataset), batch_size=4, shuffle=True)


class Plain(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TRAIN, batch_size=4)


def data(cls=ActiveDataModule, **kwargs):
    return cls(TRAIN, **{"initial_labels": [3, 90, 41, 17], "batch_size": 4} | kwargs)


FIT = {
    "no data module": (Untrained, None, ConfigurationError, "needs a data module"),
    "not an active one": (Untrained, Plain, InvalidTypeError, "from_datamodule"),
    "full loader": (Untrained, lambda: data(Full), LoaderMismatchError, "120 points, but 4 are labelled"),
    "full loader, wrapped": (Untrained, lambda: data(WrappedFull), LoaderMismatchError, "120 points, but 4"),
    "no linear head": (Headless, data, FeatureError, r"features=\.\.\."),
    "more classes than outputs": (Untrained, lambda: data(num_classes=5), ConfigurationError, "3 outputs"),
    "label beyond the outputs": (
        Untrained,
        lambda: data(initial_labels={3: 0, 90: 5}),
        InvalidLabelError,
        "Point 90 .* label 5, but there are 3 classes",
    ),
    "items without labels": (
        Untrained,
        lambda: ActiveDataModule(TensorDataset(TRAIN.tensors[0]), initial_labels=[3, 4]),
        InvalidLabelError,
        "Item 3 .* holds no label",
    ),
    "regression targets": (
        Untrained,
        lambda: ActiveDataModule(TensorDataset(TRAIN.tensors[0], torch.rand(120)), initial_labels=[3, 4]),
        InvalidLabelError,
        "Regression",
    ),
}


@pytest.mark.parametrize("case", FIT)
def test_fit_refuses(case):
    model, make_data, error, message = FIT[case]
    active = ActiveLearning(DiffusionSampler(), query_size=4, max_rounds=2)
    module = model()
    with pytest.raises(error, match=message):
        if make_data is None:
            quiet_trainer([active]).fit(module, DataLoader(TRAIN, batch_size=4))
        else:
            quiet_trainer([active]).fit(module, datamodule=make_data())
    assert len(active.history) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"test_each_round": True}, "test_dataset"), ({"weights": "best"}, "ModelCheckpoint")],
)
def test_evaluation_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        quiet_trainer([ActiveLearning(**arguments)]).fit(Untrained(), datamodule=data())


def test_a_model_without_a_test_step_cannot_be_tested():
    class Untested(Net):
        test_step = pl.LightningModule.test_step

    with pytest.raises(ConfigurationError, match="test_step"):
        quiet_trainer([ActiveLearning(test_each_round=True)]).fit(Untested(), datamodule=data(test_dataset=VAL))


def test_cached_loader_is_found_when_the_set_has_grown():
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=2)
    module = data(Cached)
    with pytest.raises(LoaderMismatchError, match="4 points, but 8 are labelled"):
        quiet_trainer([active]).fit(Net(), datamodule=module)
    assert len(module.labelled_indices) == 8 and len(active.history) == 1  # what was bought is kept


def test_a_loader_of_own_labels_is_found_when_others_were_given():
    class OwnLabels(ActiveDataModule):
        def train_dataloader(self):
            return DataLoader(Subset(self.train_dataset, self.labelled_indices.tolist()), batch_size=4, shuffle=True)

    def shifted(indices, items):
        return [(int(TRAIN[i][1]) + (1 if len(indices) == 5 else 0)) % 3 for i in indices]

    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=2, oracle=shifted)
    module = data(OwnLabels)
    model, trainer = Net(), quiet_trainer([active])
    trainer.fit(model, datamodule=module)  # where they are the same nothing is wrong with it
    assert [record.n_labelled for record in active.history] == [4, 8, 12]
    active.query_size, active.max_rounds = 5, 4
    with pytest.raises(LoaderMismatchError, match=r"was given another one: .* over `self\.labelled_dataset`"):
        trainer.fit(model, datamodule=module)
    assert len(module.labelled_indices) == 17 and len(active.history) == 3  # what was bought is kept


@pytest.mark.parametrize(
    ("own", "fits"),
    [(1, True), (0, False), (-1, False), (float("nan"), False), (None, True), ("bee", True), (torch.eye(3)[1], True)],
)
def test_labels_that_items_show(own, fits):
    assert LabelledDataset([("a", own)], np.array([0]), {0: 1}).shows_known(0) is fits
    assert LabelledDataset([torch.zeros(2)], np.array([0]), {0: 1}).shows_known(0)


@pytest.mark.parametrize("features", ["nowhere", "body.99", "losses"])
def test_unknown_features_are_refused(features):
    active = ActiveLearning(DiffusionSampler(), features=features)
    with pytest.raises(FeatureError, match=features):
        quiet_trainer([active]).fit(Untrained(), datamodule=data())


def test_features_that_blow_up_are_named_and_nothing_is_lost():
    class Exploding(Net):
        def on_train_end(self):
            with torch.no_grad():
                self.body[0].weight.fill_(float("nan"))

    active = ActiveLearning(DiffusionSampler(), query_size=4, max_rounds=2)
    module = data()
    with pytest.raises(FeatureError, match="NaN or infinity"):
        quiet_trainer([active]).fit(Exploding(), datamodule=module)
    assert len(module.labelled_indices) == 4 and len(module.pending_indices) == 0 and len(active.history) == 1


def test_wrong_answers_change_nothing():
    def wrong(indices, items):
        return [0, 1, 9, 2]

    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=1, oracle=wrong)
    module = data(num_classes=3)
    with pytest.raises(InvalidLabelError, match="Nothing was applied"):
        quiet_trainer([active]).fit(Net(), datamodule=module)
    assert len(module.labelled_indices) == 4 and len(module.pending_indices) == 4


def test_construction_and_setup_touch_no_item():
    class Untouchable(Dataset):
        def __len__(self):
            return 50

        def __getitem__(self, index):
            raise AssertionError("an item was read")

    module = ActiveDataModule(Untouchable(), initial_labels=5, targets=np.arange(50) % 5, stratified=True)
    for stage in ("fit", "validate", "test", "predict", "fit"):
        module.setup(stage)
    labelled = module.labelled_indices
    module.setup("fit")
    np.testing.assert_array_equal(module.labelled_indices, labelled)
    assert sorted(module.labels) == [0, 1, 2, 3, 4] and len(module.train_dataloader()) == 1
