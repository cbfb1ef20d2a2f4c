"""Pre-training validation: what each round trains on and is measured by has to be there, and be the right one."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_diffal._lightning import is_overridden, monitors, pl
from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.data.views import LabelledDataset, covered_indices, goes_over_labels, shown_labels
from lightning_diffal.exceptions import ConfigurationError, LoaderMismatchError
from lightning_diffal.utils.aliases import IntArray
from lightning_diffal.utils.seeding import isolated_random_state

__all__ = [
    "check_evaluation",
    "check_pseudo_labels",
    "check_train_loader",
]


_READ = 3  # items, to see whose labels they show


def check_evaluation(
    trainer: pl.Trainer, module: pl.LightningModule, data: pl.LightningDataModule, *, tests: bool, uses_best: bool
) -> None:
    """What each round's metrics are to come from has to be there."""
    for name, owner in (("test_step", module), ("test_dataloader", data)):
        if tests and not is_overridden(name, owner):
            missing = "the model one" if name == "test_step" else "a `test_dataset`"
            raise ConfigurationError(
                f"`test_each_round=True` needs a `{name}`, but {type(owner).__name__} has none: give {missing}."
            )
    if uses_best and not monitors(trainer):
        raise ConfigurationError(
            "`weights='best'` needs a callback that keeps the best ones: give the Trainer a "
            "`ModelCheckpoint(monitor=...)` whose `save_top_k` is not 0, or use `weights='last'`."
        )


def check_pseudo_labels(data: ActiveDataModule) -> None:
    """Pseudo-labels are classes.

    Raises:
        ConfigurationError: targets that hold several labels at once.
    """
    if np.ndim(data.labels) == 2 or (data.targets is not None and np.ndim(data.targets) == 2):
        raise ConfigurationError(
            "`pseudo_labels` need one class for each point, but these are multi-label targets: leave the argument out."
        )


def check_train_loader(loader: Any, data: ActiveDataModule) -> None:
    """Refuse a training loader that does not cover exactly the points that train, with their pseudo-labels.

    Raises:
        LoaderMismatchError: it goes over others: the full data set, or those of an earlier round.
    """
    train, joined = data.train_indices, data.joined_points
    pseudo = {} if joined is None else joined.labels_beside(data.labelled_indices)
    expected = np.union1d(train, np.array(list(pseudo), dtype=np.int64))
    found = covered_indices(loader, data.train_dataset)
    count = len(found) if isinstance(found, np.ndarray) else found
    if found is None:
        return
    if isinstance(found, int):
        size = len(data.training_dataset) if pseudo else len(train)  # type: ignore[arg-type]
        covers = found == size
    else:
        covers = np.array_equal(found, expected)
    if not pseudo and not covers:
        raise LoaderMismatchError(
            f"The training loader goes over {count} points, but {len(expected)} are labelled for training"
            f"{'' if count != len(expected) else ' (other ones)'}. `train_dataloader` must build a new loader over "
            "`self.labelled_dataset` each time it is called: not the full data set, and not a loader kept from an "
            "earlier round."
        )
    if pseudo and not (covers and (isinstance(found, int) or pseudo.items() <= shown_labels(loader).items())):
        raise LoaderMismatchError(
            f"The training loader goes over {count} points{' without their pseudo-labels' if covers else ''}, but in "
            f"this round {len(expected)} train: {len(train)} labelled and {len(pseudo)} pseudo-labelled ones. With "
            "`pseudo_labels`, `train_dataloader` must build a new loader over `self.training_dataset` each time it is "
            "called."
        )
    if isinstance(found, np.ndarray) and not goes_over_labels(loader):
        _check_own_labels(data, train)


def _check_own_labels(data: ActiveDataModule, train: IntArray) -> None:
    """Where a loader shows items as the data set has them, their labels must be the known ones; the latest are read."""
    latest = train[np.argsort(-data.pool.rounds_of(train), kind="stable")[:_READ]]
    assert data.train_dataset is not None, "its loader was built"
    with isolated_random_state():
        own = LabelledDataset(data.train_dataset, latest, data.pool.labels_of(latest), data.target, data.class_names)
        wrong = [index for index in latest.tolist() if not own.shows_known(index)]
    if wrong:
        raise LoaderMismatchError(
            f"The training loader shows items with the data set's own labels, but point {wrong[0]} was given another "
            "one: `train_dataloader` must build its loader over `self.labelled_dataset`, which puts given labels in."
        )
