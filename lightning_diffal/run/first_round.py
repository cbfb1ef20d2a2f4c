"""What the first round of a cold start would meet, looked for before people are asked to label for it."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any

import numpy as np

from lightning_diffal._lightning import never_trains, pl, pl_callbacks
from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.data.several_loaders import check_train_loaders
from lightning_diffal.exceptions import ConfigurationError, LoaderMismatchError
from lightning_diffal.labels.pool import LabelledPool
from lightning_diffal.utils.seeding import isolated_random_state
from lightning_diffal.utils.storage.files import check_writable

__all__ = ["check_first_round", "check_trainer"]


def check_trainer(trainer: pl.Trainer) -> None:
    """Refuse a Trainer that trains nothing, or whose checkpoints cannot be written.

    Args:
        trainer: in a fit.

    Raises:
        ConfigurationError: nobody is to label for that.
    """
    reason = never_trains(trainer)
    if reason is not None:
        raise ConfigurationError(
            f"With `Trainer({reason})` no round trains, and people would label for nothing: give another value."
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        folder = getattr(callback, "dirpath", None) if isinstance(callback, pl_callbacks.ModelCheckpoint) else None
        if folder is not None and "://" not in str(folder):
            check_writable(folder, "ModelCheckpoint(dirpath=...)")


def check_first_round(trainer: pl.Trainer, data: ActiveDataModule) -> None:
    """Refuse what would fail once the first labels are there, where it is certain: they cost people's time.

    The training loader is built as if the points of the first query were labelled; nothing is read through it.

    Args:
        trainer: in a fit.
        data: nothing is labelled yet, and `expected_labels` are about to be asked.

    Raises:
        ConfigurationError: settings of the Trainer that the batches of the first round cannot meet.
        LoaderMismatchError: a training loader that does not cover exactly the points that train.
    """
    _check_validation(trainer, data)
    batches = _expected_batches(data)
    if batches is None:
        return
    about = (
        f"with the {data.expected_labels} labels of the first query an epoch holds "
        f"{'one batch' if batches == 1 else f'{batches} batches'} at most"
    )
    if not batches:
        raise ConfigurationError(
            f"With the {data.expected_labels} labels of the first query the training loader holds no batch: leave out "
            "`drop_last`, or give a smaller `batch_size` or a larger `query_size`."
        )
    limit = trainer.limit_train_batches
    if isinstance(limit, float) and 0 < limit < 1 and not int(batches * limit):
        raise ConfigurationError(
            f"`Trainer(limit_train_batches={limit})` leaves nothing to train on: {about}. Leave it out, or give a "
            "number of batches."
        )
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    interval = trainer.val_check_interval
    by_epoch = trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches > 0
    if isinstance(interval, int) and not isinstance(interval, bool) and by_epoch and interval > batches:
        raise ConfigurationError(
            f"`Trainer(val_check_interval={interval})` asks for more batches than there are: {about}. Give a share "
            "such as 1.0, or `check_val_every_n_epoch=None` to count batches over epochs."
        )


def _check_validation(trainer: pl.Trainer, data: ActiveDataModule) -> None:
    """A share of the validation batches that is less than one of them."""
    limit, dataset = trainer.limit_val_batches, data.val_dataset
    if not (isinstance(limit, float) and 0 < limit < 1 and isinstance(dataset, Sized)):
        return
    if type(data).val_dataloader is not ActiveDataModule.val_dataloader or not len(dataset):
        return
    batches = -(-len(dataset) // data.batch_size)
    if not int(batches * limit):
        raise ConfigurationError(
            f"`Trainer(limit_val_batches={limit})` is less than one batch of `val_dataset`, which has {batches}: give "
            "a number of batches, or a larger share."
        )


def _expected_batches(data: ActiveDataModule) -> int | None:
    """How many batches the training loader holds once the first query is answered, at most; `None`: nobody can tell."""
    with isolated_random_state(), _as_if_labelled(data):
        try:
            loader: Any = data.train_dataloader()
        except Exception:  # of a user's loader, which may need more of the labels than that they are there
            return None
        try:
            check_train_loaders(loader, data)
        except LoaderMismatchError as error:
            raise LoaderMismatchError(f"{error} (Nobody was asked yet.)") from None
        return len(loader) if isinstance(loader, Sized) and not isinstance(loader, dict | list | tuple) else None


@contextmanager
def _as_if_labelled(data: ActiveDataModule) -> Iterator[None]:
    own = data.pool
    points = own.pool_indices
    points = points[np.argsort(data.validates(points), kind="stable")][: data.expected_labels]
    pretended = LabelledPool(len(own), own.ids)
    several = data.targets is not None and np.ndim(data.targets) == 2
    label = (0,) * int(np.shape(data.targets)[1]) if several else 0
    pretended.label(points, [label] * len(points), round_=0)
    data._pool = pretended
    try:
        yield
    finally:
        data._pool = own
