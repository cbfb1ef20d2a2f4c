"""Taking over what an existing data module says about its data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, Subset

from lightning_diffal._lightning import is_overridden, pl
from lightning_diffal.data.arguments import checked_length
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError

__all__ = ["WrappedDataModule", "default_ids", "delegate_hooks", "loader_settings", "split_fingerprint"]

# Lightning asks whether a data module overrides these; so they are handed on only where it does.
_HOOKS = (
    "prepare_data",
    "teardown",
    "transfer_batch_to_device",
    "on_before_batch_transfer",
    "on_after_batch_transfer",
    "on_exception",
)
_OF_WORKERS = ("timeout", "worker_init_fn", "multiprocessing_context", "prefetch_factor", "persistent_workers")


class _TakesSettings(Protocol):
    """What a wrapped data module gives its settings to: an `ActiveDataModule`."""

    trainer: Any
    train_dataset: Any
    num_workers: int
    keeps_left_over: bool
    loader_kwargs: dict[str, Any]


class WrappedDataModule:
    """An existing data module inside an active one.

    Args:
        datamodule: the existing one.
        given: names of settings that the user gave to the active one, and that go before those found here.
    """

    def __init__(self, datamodule: pl.LightningDataModule, given: set[str]) -> None:
        self.datamodule = datamodule
        self.given = given
        self._stages: set[str] = set()
        self._settings_taken = False

    def setup(self, active: _TakesSettings, stage: str) -> None:
        """Set up the data module, and give `active` its training data set and settings, where nobody gave others."""
        self.datamodule.trainer = active.trainer
        # A second time it might split at random again, and exchange validation points for labelled ones. Only where
        # it tears down what it set up there is no way around it.
        if stage in self._stages and not _overrides(self.datamodule, "teardown"):
            return
        self.datamodule.setup(stage)
        self._stages.add(stage)
        if stage == "fit":
            loader = self.datamodule.train_dataloader()
            settings = loader_settings(loader)
            if "train_dataset" not in self.given:
                active.train_dataset = loader.dataset
            if not self._settings_taken:  # a second time it might undo what a batch size finder found
                self._settings_taken = True
                self._hand_over(settings, active)

    def _hand_over(self, settings: dict[str, Any], active: _TakesSettings) -> None:
        loader_kwargs = settings.pop("loader_kwargs")
        for name, value in settings.items():
            if name not in self.given:
                setattr(active, name, value)
        if not active.num_workers:  # torch refuses what only workers can do
            loader_kwargs = {name: value for name, value in loader_kwargs.items() if name not in _OF_WORKERS}
        active.keeps_left_over = bool(loader_kwargs.get("drop_last")) and "drop_last" not in active.loader_kwargs
        active.loader_kwargs = {**loader_kwargs, **active.loader_kwargs}

    def loader(self, hook: str, default: Any) -> Any:
        """The loader that the data module gives, or `default` where it defines none."""
        return getattr(self.datamodule, hook)() if _overrides(self.datamodule, hook) else default


def _overrides(wrapped: pl.LightningDataModule, hook: str) -> bool:
    return hasattr(wrapped, hook) and bool(is_overridden(hook, wrapped, parent=pl.LightningDataModule))


def delegate_hooks(active: pl.LightningDataModule, wrapped: pl.LightningDataModule) -> None:
    """Give `active` the hooks that `wrapped` overrides, as Lightning would find them on a class."""
    active.prepare_data_per_node = wrapped.prepare_data_per_node
    for hook in _HOOKS:
        if _overrides(wrapped, hook):
            setattr(active, hook, getattr(wrapped, hook))


def loader_settings(loader: Any) -> dict[str, Any]:
    """How an existing training loader makes its batches, as arguments for a loader over fewer points.

    Raises:
        InvalidTypeError: not one `DataLoader`, or one over an iterable data set.
        ConfigurationError: a sampler of its own, which cannot be carried over to a part of the data set.
    """
    if not isinstance(loader, DataLoader):
        raise InvalidTypeError(
            "Expected `train_dataloader()` of the wrapped data module to return one DataLoader, "
            f"but got {type(loader).__name__}: subclass ActiveDataModule and override `train_dataloader` instead."
        )
    checked_length(loader.dataset, "train_dataset")
    sampler = _own_sampler(loader)
    if sampler is not None:
        raise ConfigurationError(
            f"The training loader of the wrapped data module draws with {sampler}, which knows the full data set only: "
            "subclass ActiveDataModule and override `train_dataloader` with a sampler over `self.labelled_dataset`."
        )
    return {
        "batch_size": loader.batch_size,
        "num_workers": loader.num_workers,
        "collate_fn": loader.collate_fn,
        "loader_kwargs": {
            "shuffle": isinstance(loader.sampler, RandomSampler),
            "pin_memory": loader.pin_memory,
            # where it is False nobody may have chosen it, and ActiveDataModule knows when it has to be True
            **({"drop_last": True} if loader.drop_last else {}),
            **({name: getattr(loader, name) for name in _OF_WORKERS} if loader.num_workers else {}),
        },
    }


def _own_sampler(loader: DataLoader[Any]) -> str | None:
    """What a loader draws with, where `shuffle` and `batch_size` do not say it."""
    if loader.batch_size is None:
        inner = loader.batch_sampler
        return "no batches" if inner is None else f"the batch sampler {type(inner).__name__}"
    sampler = loader.sampler
    if type(loader.batch_sampler) is not BatchSampler or type(sampler) not in (RandomSampler, SequentialSampler):
        return type(sampler).__name__
    if isinstance(sampler, RandomSampler) and (sampler.replacement or sampler.num_samples != len(sampler.data_source)):
        return "a RandomSampler with `replacement` or `num_samples`"
    return None


def split_fingerprint(dataset: Any, n_points: int) -> str | None:
    """A digest of which points a `Subset` holds, or `None` for any other data set.

    `random_split` without a generator makes another split in every process, and every position would then
    mean another point.

    Args:
        dataset: the training data set.
        n_points: how many of its first points count; it may have grown since.
    """
    if not isinstance(dataset, Subset):
        return None
    positions = np.arange(n_points)
    while isinstance(dataset, Subset):
        positions = np.asarray(dataset.indices, dtype=np.int64)[positions]
        dataset = dataset.dataset
    return hashlib.sha256(positions.tobytes()).hexdigest()


def default_ids(dataset: Any) -> Sequence[str] | None:
    """Sample paths relative to the root, where the data set is a folder of files, each once; else `None`."""
    if isinstance(dataset, Subset):
        inner = default_ids(dataset.dataset)
        ids = None if inner is None else [inner[i] for i in dataset.indices]
    else:
        ids = _relative_paths(getattr(dataset, "samples", None), getattr(dataset, "root", None))
    return ids if ids is None or len(set(ids)) == len(ids) else None


def _relative_paths(samples: Any, root: Any) -> list[str] | None:
    if not isinstance(samples, list) or not samples or not isinstance(root, str | os.PathLike):
        return None
    if not all(isinstance(sample, tuple) and sample and isinstance(sample[0], str | os.PathLike) for sample in samples):
        return None
    # strings and not Path objects: these may be a million
    folder = os.path.join(os.fspath(root), "")  # noqa: PTH118
    paths = [os.fspath(sample[0]) for sample in samples]
    if not all(path.startswith(folder) for path in paths):
        return None
    return [path[len(folder) :].replace(os.sep, "/") for path in paths]
