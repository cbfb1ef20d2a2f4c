"""Loaders that are built again, that keep their workers, or that stand beside the first one."""

import copy
import warnings

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.exceptions import LoaderMismatchError
from lightning_diffal.history.history import records_equal
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, Snapshots, blobs, loaders, pl_callbacks, quiet_trainer, same_weights

START = [3, 17, 40, 41, 58, 63, 77, 90, 101, 113, 5, 119]


def run(
    folder, *, ckpt_path=None, data=None, model=None, epochs=4, loader_kwargs=None, workers=0, active=None, **kwargs
):
    torch.manual_seed(1)
    data = data or ActiveDataModule(
        TRAIN, val_dataset=VAL, initial_labels=START, batch_size=4, loader_kwargs=loader_kwargs, num_workers=workers
    )
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=1, seed=3, run_dir=False, **(active or {}))
    saves = pl_callbacks.ModelCheckpoint(folder, save_top_k=-1, every_n_epochs=1, filename="{round}-{epoch}")
    snapshots, model = Snapshots(), model or Net()
    trainer = quiet_trainer([active, snapshots, saves], max_epochs=epochs, enable_checkpointing=True, **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return active, snapshots, model


@pytest.mark.parametrize("every", [1, 2, 3])
def test_resumes_are_exact_where_loaders_are_built_again(every, tmp_path):
    settings = {"reload_dataloaders_every_n_epochs": every}
    active, _, model = run(tmp_path, **settings)
    for round_ in (0, 1):
        for epoch in range(3):
            path = tmp_path / f"round={round_}-epoch={epoch}.ckpt"
            again, _, other = run(tmp_path / "again", ckpt_path=path, **settings)
            assert records_equal(active.history, again.history), path.name
            assert same_weights(model.state_dict(), other.state_dict()), path.name


def test_a_round_equals_a_fit_where_workers_are_kept(tmp_path):
    kept = {"persistent_workers": True}
    before = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        active, snapshots, _ = run(tmp_path, model=copy.deepcopy(before), epochs=2, workers=1, loader_kwargs=kept)
        for record, weights in zip(active.history, snapshots.weights, strict=True):
            alone = copy.deepcopy(before)
            train, val = loaders(record.labelled)
            train = DataLoader(train.dataset, batch_size=4, shuffle=True, num_workers=1, **kept)
            val = DataLoader(VAL, batch_size=4, num_workers=1, **kept)
            torch.manual_seed(record.seed)
            quiet_trainer(max_epochs=2).fit(alone, train, val)
            assert same_weights(alone.state_dict(), weights)


def test_a_round_with_kept_workers_is_done_again_from_its_start(tmp_path):
    kept = {"workers": 1, "loader_kwargs": {"persistent_workers": True}, "epochs": 2}
    active, _, model = run(tmp_path, **kept)
    again, _, other = run(tmp_path / "again", ckpt_path=tmp_path / "round=1-epoch=0.ckpt", **kept)
    assert records_equal(active.history, again.history) and same_weights(model.state_dict(), other.state_dict())


# ----------------------------------------------------------------------------------------------- several loaders


class TwoNet(Net):
    """Learns from labelled batches; notes the labels in the other ones."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, batch_idx):
        parts = list(batch.values()) if isinstance(batch, dict) else list(batch)
        self.seen.append(parts[1][1].tolist())
        return super().training_step(parts[0], batch_idx)


class Hidden(Dataset):
    """Two views of an item of another data set."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        x, y = self.items[index]
        return x + 0.1, y


class Beside(ActiveDataModule):
    def train_dataloader(self):
        first = super().train_dataloader()
        second = DataLoader(self.second(self), batch_size=8, shuffle=True)
        return {"a": first, "b": second} if self.as_dict else [first, second]


def two_loaders(second, as_dict=True, start=START):
    data = Beside(TRAIN, val_dataset=VAL, initial_labels=start, batch_size=4)
    data.second, data.as_dict = second, as_dict
    return data


@pytest.mark.parametrize("as_dict", [True, False])
def test_a_second_loader_without_labels_shows_none(as_dict, tmp_path):
    model, data = TwoNet(), two_loaders(lambda d: d.unlabelled_dataset, as_dict)
    active, _, _ = run(tmp_path, data=data, model=model, epochs=1)
    assert [r.n_labelled for r in active.history] == [12, 18]
    assert len(data.unlabelled_dataset) == 102 and {y for batch in model.seen for y in batch} == {0}


@pytest.mark.parametrize(
    "second",
    [
        lambda d: d.labelled_dataset,
        lambda d: Subset(d.labelled_dataset, [0, 1, 2]),
        lambda d: Subset(d.unlabelled_dataset, range(5)),
        lambda d: blobs(50, seed=5),
    ],
)
def test_second_loaders_that_show_nothing_unknown_are_allowed(second, tmp_path):
    active, _, _ = run(tmp_path, data=two_loaders(second), model=TwoNet(), epochs=1)
    assert len(active.history) == 2


@pytest.mark.parametrize(
    "second",
    [
        lambda d: d.train_dataset,
        lambda d: Subset(d.train_dataset, range(10)),
        lambda d: Hidden(d.train_dataset),
        lambda d: Hidden(Subset(d.train_dataset, range(10))),
        lambda d: ConcatDataset([d.labelled_dataset, d.train_dataset]),
        lambda d: blobs(120, seed=5),  # as many as there are points: it may be a copy
    ],
)
@pytest.mark.parametrize("as_dict", [True, False])
def test_second_loaders_that_may_show_labels_nobody_bought_are_refused(second, as_dict, tmp_path):
    with pytest.raises(LoaderMismatchError, match=r"The training loader \[('b'|1)\] .* `self.unlabelled_dataset`"):
        run(tmp_path, data=two_loaders(second, as_dict), model=TwoNet(), epochs=1)


def test_one_of_several_loaders_has_to_cover_the_labelled_points(tmp_path):
    class Wrong(ActiveDataModule):
        def train_dataloader(self):
            return [DataLoader(self.unlabelled_dataset), DataLoader(Subset(self.labelled_dataset, [0]))]

    data = Wrong(TRAIN, val_dataset=VAL, initial_labels=START)
    with pytest.raises(LoaderMismatchError, match="are labelled for training"):
        run(tmp_path, data=data, model=TwoNet(), epochs=1)
