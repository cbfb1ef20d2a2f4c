"""What is refused before training starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import IterableDataset

from lightning_diffal._lightning import is_overridden, monitors, pl
from lightning_diffal.data.views import LabelledDataset, covered_indices, goes_over_labels, shown_labels
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError, LoaderMismatchError
from lightning_diffal.utils.aliases import IntArray
from lightning_diffal.utils.seeding import isolated_random_state

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = [
    "check_classes",
    "check_evaluation",
    "check_loading",
    "check_pseudo_labels",
    "check_train_loader",
    "check_validation",
    "checked_length",
]


_READ = 3  # items, to see whose labels they show
_OWN_SAMPLING = ("sampler", "batch_sampler", "dataset", "batch_size", "num_workers", "collate_fn", "generator")


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
            "`weights='best'` needs a callback that says which are best: give the Trainer a "
            "`ModelCheckpoint(monitor=...)`, or use the last ones."
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


def check_validation(val_fraction: Any, val_dataset: Any) -> None:
    """A share of the labelled points, or a data set; not both."""
    if isinstance(val_fraction, bool) or not isinstance(val_fraction, int | float) or not 0.0 <= val_fraction < 1.0:
        raise ConfigurationError(
            f"Expected argument `val_fraction` to be at least 0 and less than 1, but got {val_fraction!r}."
        )
    if val_fraction and val_dataset is not None:
        raise ConfigurationError("Give `val_dataset` or `val_fraction`, not both: one of them has to validate.")


def check_loading(batch_size: Any, pool_batch_size: Any, loader_kwargs: Any) -> None:
    """Sizes of batches, and further arguments for `DataLoader` that leave the choice of points alone."""
    for name, size in {"batch_size": batch_size, "pool_batch_size": pool_batch_size}.items():
        if size is None and name == "pool_batch_size":
            continue
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigurationError(f"Expected argument `{name}` to be an integer of at least 1, but got {size!r}.")
    if loader_kwargs is not None and not isinstance(loader_kwargs, Mapping):
        raise InvalidTypeError(f"Expected argument `loader_kwargs` to be a dict, but got {loader_kwargs!r}.")
    refused = sorted(set(loader_kwargs or {}) & set(_OWN_SAMPLING))
    if refused:
        raise ConfigurationError(
            f"`loader_kwargs` cannot hold {refused}: use the arguments of ActiveDataModule, or override "
            "`train_dataloader` with a loader over `self.labelled_dataset`."
        )


def check_classes(num_classes: Any, class_names: Any, target: Any) -> None:
    """How many classes there are, what they are called, and where an item holds its own."""
    if num_classes is not None and (isinstance(num_classes, bool) or not isinstance(num_classes, int)):
        raise ConfigurationError(f"Expected argument `num_classes` to be an integer, but got {num_classes!r}.")
    if num_classes is not None and num_classes < 1:
        raise ConfigurationError(f"Expected argument `num_classes` to be at least 1, but got {num_classes}.")
    if class_names is not None:
        if isinstance(class_names, str) or not isinstance(class_names, Sequence):
            raise InvalidTypeError(f"Expected argument `class_names` to be a list of names, but got {class_names!r}.")
        if len(set(class_names)) != len(class_names):
            raise ConfigurationError(f"Expected `class_names` to be different, but got {list(class_names)}.")
        if num_classes not in (None, len(class_names)):
            raise ConfigurationError(
                f"Expected `num_classes` and `class_names` to agree, but got {num_classes} and {len(class_names)}."
            )
    if isinstance(target, bool) or not isinstance(target, int | str):
        raise InvalidTypeError(
            "Expected argument `target` to be a position in a tuple, a key of a dict or 'auto', "
            f"but got {target!r}. Labels of all points go into `targets`."
        )


def checked_length(dataset: Any, name: str) -> int:
    """The length of a data set whose items can be asked for by position; anything else is refused."""
    if dataset is None:
        raise ConfigurationError(f"No `{name}`: give it to ActiveDataModule, or set `self.{name}` in `setup`.")
    if isinstance(dataset, IterableDataset):
        raise InvalidTypeError(
            f"Expected `{name}` to be a map-style data set, but got the IterableDataset {type(dataset).__name__}: "
            "points are asked by their position, so items must be reachable by index."
        )
    if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
        raise InvalidTypeError(
            f"Expected `{name}` to have a length and items by index (`__len__`, `__getitem__`), "
            f"but {type(dataset).__name__} has not."
        )
    if len(dataset) == 0:
        raise ConfigurationError(f"Expected `{name}` to hold at least one item, but it is empty.")
    return len(dataset)
