"""`ActiveDataModule`: the data of an active learning run, and who of it is labelled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler

from lightning_diffal._lightning import (
    TrainerFn,
    is_overridden,
    other_namespace_hint,
    pl,
    rank_zero_warn,
    share_hyperparameters,
)
from lightning_diffal.data.arguments import (
    as_names,
    check_classes,
    check_indexed,
    check_loading,
    check_validation,
    check_view,
)
from lightning_diffal.data.labelled_points import LabelledPoints
from lightning_diffal.data.left_over import LeftOverBatchSampler
from lightning_diffal.data.summary import pool_html
from lightning_diffal.data.views import LabelledDataset, NoLabelsYet, PoolDataset, UnlabelledDataset
from lightning_diffal.data.wrapped import WrappedDataModule, delegate_hooks, split_fingerprint
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError, ResumeError
from lightning_diffal.labels.class_names import completed
from lightning_diffal.labels.class_order import kept_in_order
from lightning_diffal.labels.ids import composed
from lightning_diffal.labels.initial import InitialLabels
from lightning_diffal.labels.targets import Label, Target
from lightning_diffal.processes.spawned import Handback
from lightning_diffal.pseudo_labels.joined import JoinedPoints
from lightning_diffal.utils.aliases import IntArray

__all__ = ["ActiveDataModule"]

Module = TypeVar("Module", bound="ActiveDataModule")

_TRAINING_ONLY = ("shuffle", "drop_last")


class ActiveDataModule(LabelledPoints, pl.LightningDataModule):
    """Training data of which a growing part is labelled.

    The training loader goes over the labelled points only. Give the data sets here, or subclass and set
    `self.train_dataset`, `self.val_dataset`, `self.test_dataset` (and `self.pool_dataset`) in `setup`.
    Construction and `setup` read no item of them, and calling `setup` again keeps the labels.

    All indices are positions in the full training data set.

    Args:
        train_dataset: all points, labelled or not; items are `(x, y)`, `x`, `(x,)` or dicts.
        val_dataset: for the validation loader.
        test_dataset: for the test loader.
        pool_dataset: the same items in the same order without augmentation, for the feature pass and for
            reading labels. Needed where `train_dataset` augments. Default: `train_dataset`.
        initial_labels: how many points to label at the start (drawn with `seed`), which ones (indices), or
            which label each has (`{index: label}`). 0: the first query chooses them.
        stratified: draw the initial points evenly over the classes; needs `targets`.
        val_fraction: share of the labelled points that validate instead of train, chosen by a hash of their
            id, so that a point never changes sides. Excludes `val_dataset`.
        num_classes: default: as many as `class_names`, else as the model has outputs.
        class_names: names of the classes, for people. Fewer than `num_classes`: the others are to spare, for classes
            that people add while they label (see `PageOracle`), and are called "class 7" until then.
        target: where an item holds its label: a position in a tuple; a key of a dict, a field of a named tuple, an
            attribute of an object; or `"auto"`: the first key, field or attribute of `label`, `labels`, `target`,
            `targets`, `y`; else the last of two. In tuples of three fields or more it has to be said, unless
            `targets` or known labels settle it. Items without a label get theirs there: behind the rest, under the
            key given, else under `label` (`labels` beside `input_ids` or `pixel_values`).
        targets: `(N,)` or `(N, C)` labels of all points, where they are known without reading items.
        ids: a unique, stable name for each point. Default: relative paths of image-folder data sets, else positions.
        batch_size: of training, validation and test.
        pool_batch_size: of the feature pass, which needs less memory than training. Default: `batch_size`.
        num_workers: of all loaders.
        collate_fn: of all loaders.
        loader_kwargs: further arguments for `DataLoader` (`pin_memory`, `persistent_workers`, ...). `shuffle`
            and `drop_last` count for training only; the only batch of a small labelled set is never dropped. The
            `drop_last` of a wrapped data module drops nothing: its last two batches share what is left over.
        view: how people see an item, wherever they are shown one: a `lightning_diffal.view.ItemView`, or a function
            `(index, item, id)` that returns what is to be shown (an image, a path, text, a dict of plain values).
            Default: `ItemView()`.
        seed: of the initial draw.

    Raises:
        ConfigurationError: arguments that cannot work, among them an empty data set and `stratified` without `targets`.
        InvalidTypeError: an iterable data set, or one without length.
        InvalidIndexError: initial indices that do not exist, or duplicates.
        InvalidLabelError: labels of a wrong type or out of range.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> points = TensorDataset(torch.randn(100, 4), torch.arange(100) % 3)
        >>> data = ActiveDataModule(points, initial_labels=[7, 3], batch_size=2)
        >>> data.labelled_indices, data.labels
        (array([3, 7]), array([0, 1]))
        >>> data.label([50])  # the data set knows the label
        >>> len(data.pool_indices), len(data.train_dataloader())
        (97, 2)
    """

    def __init__(
        self,
        train_dataset: Dataset[Any] | None = None,
        *,
        val_dataset: Dataset[Any] | None = None,
        test_dataset: Dataset[Any] | None = None,
        pool_dataset: Dataset[Any] | None = None,
        initial_labels: InitialLabels = 0,
        stratified: bool = False,
        val_fraction: float = 0.0,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        target: Target = "auto",
        targets: Any = None,
        ids: Sequence[str] | None = None,
        batch_size: int = 32,
        pool_batch_size: int | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        loader_kwargs: dict[str, Any] | None = None,
        view: Any = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        class_names = as_names(class_names)
        check_classes(num_classes, class_names, target)
        check_view(view)
        check_validation(val_fraction, val_dataset)
        check_loading(batch_size, pool_batch_size, loader_kwargs)
        for name, dataset in (("val_dataset", val_dataset), ("test_dataset", test_dataset)):
            check_indexed(dataset, name)
        self.train_dataset = train_dataset
        self.val_dataset = val_dataset
        self.test_dataset = test_dataset
        self.pool_dataset = pool_dataset
        self.initial_labels = initial_labels
        self.stratified = stratified
        self.val_fraction = float(val_fraction)
        self.n_named = None if class_names is None else len(class_names)
        self.class_names = None if class_names is None else completed(class_names, num_classes)
        self.num_classes = num_classes and int(num_classes) if self.class_names is None else len(self.class_names)
        self.target = target
        self.targets = targets
        self.ids = ids
        self.batch_size = int(batch_size)
        self.pool_batch_size = pool_batch_size and int(pool_batch_size)
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.loader_kwargs = dict(loader_kwargs or {})
        self.view = view
        self.seed = seed
        self.expected_labels = 1
        """How many labels the first query will bring where there is none: the length of the first loader."""
        self.handback = Handback()
        self.joined_points: JoinedPoints | None = None
        """Pseudo-labelled points of the round that trains, set by ActiveLearning; never among the labelled ones."""
        self.keeps_left_over = False
        """Whether `drop_last` is a wrapped data module's and nobody's wish: small batches are avoided otherwise."""
        self._told_of_dropping = False
        self._wrapped: WrappedDataModule | None = None
        if train_dataset is not None:
            _ = self.pool  # refuses what cannot work, at once
        if type(self).setup is ActiveDataModule.setup:  # else `setup` may still give some
            self._hide_loaders(val=val_dataset is None and not val_fraction, test=test_dataset is None)

    def _hide_loaders(self, **absent: bool) -> None:
        """Let Lightning see no validation or test loader where there is nothing for one to go over.

        It looks whether an instance's loader is the base class's, and warns of loaders that are empty or not used.
        """
        for stage, is_absent in absent.items():
            name = f"{stage}_dataloader"
            if is_absent and getattr(type(self), name) is getattr(ActiveDataModule, name):
                vars(self)[name] = MethodType(getattr(pl.LightningDataModule, name), self)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name.endswith("_dataset") and value is not None:
            vars(self).pop(f"{name.removesuffix('_dataset')}_dataloader", None)

    @classmethod
    def from_datamodule(cls: type[Module], datamodule: pl.LightningDataModule, **kwargs: Any) -> Module:
        """Put active learning around an existing data module; nothing in it changes.

        Its training data set, batch size, workers and collate function are those of its `train_dataloader`;
        validation, test and prediction loaders and its hooks are its own, and so are attributes and hyperparameters
        that a model reads from `trainer.datamodule`.

        Args:
            datamodule: any data module whose `train_dataloader` returns one `DataLoader`.
            kwargs: arguments of `ActiveDataModule`; they go before what the data module says, and
                `loader_kwargs` are added to its own.

        Raises:
            InvalidTypeError: not a data module of the Lightning package in use.

        Example:
            >>> from torch.utils.data import TensorDataset
            >>> class Plain(pl.LightningDataModule):
            ...     def train_dataloader(self):
            ...         return DataLoader(TensorDataset(torch.randn(20, 4), torch.arange(20) % 2), batch_size=5)
            >>> data = ActiveDataModule.from_datamodule(Plain(), initial_labels=10)
            >>> data.setup("fit")
            >>> len(data.labelled_indices), data.batch_size
            (10, 5)
        """
        if not isinstance(datamodule, pl.LightningDataModule):
            raise InvalidTypeError(
                f"Expected argument `datamodule` to be a {pl.__name__}.LightningDataModule, "
                f"but got {type(datamodule).__module__}.{type(datamodule).__name__}.{other_namespace_hint(datamodule)}"
            )
        active = cls(**kwargs)
        active._wrapped = WrappedDataModule(datamodule, given=set(kwargs))
        for stage in ("val", "test"):
            if is_overridden(f"{stage}_dataloader", datamodule):
                vars(active).pop(f"{stage}_dataloader", None)
        delegate_hooks(active, datamodule)
        share_hyperparameters(datamodule, active)
        return active

    def __getattr__(self, name: str) -> Any:
        # a model may read what it trains with from `trainer.datamodule`
        wrapped = vars(self).get("_wrapped")
        if wrapped is None or name.startswith("_") or not hasattr(wrapped.datamodule, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(wrapped.datamodule, name)

    def setup(self, stage: str) -> None:
        """Set the data sets here in a subclass. Called by Lightning for each stage, and again on resuming."""
        if self._wrapped is not None:
            self._wrapped.setup(self, stage)
            if self.train_dataset is not None:
                _ = self.pool  # refuses what cannot work, at once

    def _repr_html_(self) -> str:
        """How many points are labelled and left, as a notebook shows it."""
        if self.train_dataset is None:
            return f"<p><b>{type(self).__name__}</b>: its data sets are not set up yet.</p>"
        return pool_html(self.pool, type(self).__name__, self.num_classes, self.class_names)

    # -------------------------------------------------------------------------------------------------- loaders

    @property
    def labelled_dataset(self) -> Dataset[Any]:
        """The labelled points that train, ordered by position."""
        return self._labelled_view(self.train_indices, self._augmented())

    @property
    def training_dataset(self) -> Dataset[Any]:
        """What `train_dataloader` has to go over: the labelled points that train, and what joins them in this round.

        Equal to `labelled_dataset` but in rounds of `ActiveLearning(pseudo_labels=...)`. There the labelled points,
        repeated to `labelled_share` of an epoch, are followed by pseudo-labelled ones, whose items hold their
        pseudo-label in the place of their own.
        """
        train, joined = self.train_indices, self.joined_points
        if joined is None:
            return self._labelled_view(train, self._augmented())
        known = self.labelled_indices
        labels = {**self.pool.labels_of(train), **joined.labels_beside(known)}
        places = joined.places(train, known)
        return self._view_with(self._augmented(), places, labels)

    @property
    def unlabelled_dataset(self) -> Dataset[Any]:
        """The points without a label, ordered by position, for a second training loader that learns without labels.

        Each item holds a placeholder in the place of its label, which nobody has given. A second loader over anything
        else of the training data set is refused. It is built anew in each call of `train_dataloader`, as the first is:

            def train_dataloader(self):
                return {"labelled": super().train_dataloader(), "unlabelled": DataLoader(self.unlabelled_dataset, ...)}
        """
        hidden = np.setdiff1d(np.arange(len(self.pool)), self.labelled_indices)
        return UnlabelledDataset(self._augmented(), hidden, self.target, self.pool.placeholder, self.class_names)

    @property
    def train_indices(self) -> IntArray:
        """`(T,)` labelled points that train: all of them without `val_fraction`."""
        labelled = self.labelled_indices
        return labelled[~self.validates(labelled)]

    @property
    def lacks_validation(self) -> bool:
        """Whether points are set aside by `val_fraction`, and none of them is labelled yet."""
        return bool(self.val_fraction) and not self.validates(self.labelled_indices).any()

    def train_dataloader(self) -> Any:
        """Batches of what trains. Override it where `loader_kwargs` do not do; go over `training_dataset`."""
        dataset = self.training_dataset
        if not len(self.train_indices):
            if len(self.labelled_indices):
                raise ConfigurationError(
                    f"All {len(self.labelled_indices)} labelled points validate (`val_fraction={self.val_fraction}`), "
                    "and none is left to train on: give more `initial_labels` or a smaller `val_fraction`."
                )
            return DataLoader(NoLabelsYet(self.expected_labels), batch_size=self.batch_size)
        settings = {"shuffle": True, **self.loader_kwargs, "drop_last": False}
        size = len(dataset)  # type: ignore[arg-type]
        if self._drops_last(size):
            settings["drop_last"] = True
        elif self._shares_left_over(size):
            return self._loader_without_small_batches(dataset, settings)
        return self._loader(dataset, self.batch_size, settings)

    def val_dataloader(self) -> Any:
        """Batches of `val_dataset`, or of the labelled points set aside by `val_fraction`."""
        check_validation(self.val_fraction, self.val_dataset)  # `setup` may have given one
        if self.val_fraction:
            labelled = self.labelled_indices
            aside = labelled[self.validates(labelled)]
            return self._evaluation_loader(self._labelled_view(aside, self._unaugmented())) if len(aside) else []
        if self.val_dataset is not None:
            return self._evaluation_loader(self.val_dataset)
        return [] if self._wrapped is None else self._wrapped.loader("val_dataloader", [])

    def test_dataloader(self) -> Any:
        """Batches of `test_dataset`."""
        if self.test_dataset is not None:
            return self._evaluation_loader(self.test_dataset)
        return [] if self._wrapped is None else self._wrapped.loader("test_dataloader", [])

    def predict_dataloader(self) -> Any:
        """Batches of the whole training data set in order, without augmentation: predictions by position."""
        theirs = None if self._wrapped is None else self._wrapped.loader("predict_dataloader", None)
        return self.pool_dataloader() if theirs is None else theirs

    def pool_dataloader(
        self, indices: IntArray | None = None, *, batch_size: int | None = None, other_placeholder: bool = False
    ) -> DataLoader[Any]:
        """Batches of the training data set in order, without augmentation and without labels, for the feature pass.

        Its generator is its own, so that going over it leaves the global random state alone.

        Args:
            indices: `(n,)` positions, in the order wanted. Default: all.
            batch_size: default: `pool_batch_size`, else that of training.
            other_placeholder: class 1, or ones, instead of class 0 or zeros stand in for labels.
        """
        wanted = np.arange(len(self.pool)) if indices is None else indices
        placeholder = self.pool.placeholder
        if other_placeholder:
            placeholder = (1,) * len(placeholder) if isinstance(placeholder, tuple) else 1
        settings = {**self._evaluation_settings(), "generator": torch.Generator()}
        size = batch_size or self.pool_batch_size or self.batch_size
        return self._loader(self._pool_view(wanted, placeholder), size, settings)

    def _pool_view(self, indices: IntArray, placeholder: Label) -> PoolDataset:
        return PoolDataset(
            self._unaugmented(), indices, self.target, placeholder, self.names, settle=self.settle_target
        )

    def _evaluation_loader(self, dataset: Dataset[Any]) -> DataLoader[Any]:
        return self._loader(dataset, self.batch_size, self._evaluation_settings())

    def _evaluation_settings(self) -> dict[str, Any]:
        return {name: value for name, value in self.loader_kwargs.items() if name not in _TRAINING_ONLY}

    def _loader(self, dataset: Dataset[Any], batch_size: int, settings: dict[str, Any]) -> DataLoader[Any]:
        return DataLoader(
            dataset, batch_size=batch_size, num_workers=self.num_workers, collate_fn=self.collate_fn, **settings
        )

    def _labelled_view(self, indices: IntArray, source: Any) -> LabelledDataset:
        return self._view_with(source, indices, self.pool.labels_of(indices))

    def _view_with(self, source: Any, indices: IntArray, labels: dict[int, Label]) -> LabelledDataset:
        return LabelledDataset(source, indices, labels, self.target, self.names, settle=self.settle_target)

    def validates(self, indices: IntArray) -> npt.NDArray[np.bool_]:
        """Which points are set aside for validation, once they are labelled: by a hash of their id, always the same.

        Args:
            indices: `(n,)` positions.

        Returns:
            `(n,)`; all false without `val_fraction`.
        """
        if not self.val_fraction:
            return np.zeros(len(indices), dtype=bool)
        pool = self.pool  # which looks for what a child process left
        digests = [hashlib.sha256(composed(pool.id_of(int(i))).encode()).digest()[:8] for i in indices]
        return np.array([int.from_bytes(d, "big") < self.val_fraction * 2**64 for d in digests], dtype=bool)

    def _drops_last(self, size: int) -> bool:
        """Whether the last batch is left out, since the user wants it; never the only one."""
        share = self._share(size)
        left = share % self.batch_size
        wanted = bool(self.loader_kwargs.get("drop_last")) and not self.keeps_left_over
        if not wanted or share <= self.batch_size:
            return False
        if left and not self._told_of_dropping:
            self._told_of_dropping = True
            rank_zero_warn(
                f"`drop_last=True` leaves {left} of {share} labelled points out of every epoch: leave it out of "
                "`loader_kwargs`, since each of them was paid for."
            )
        return True

    def _shares_left_over(self, size: int) -> bool:
        """Whether a last batch would be smaller than the model, or the wrapped data module, can do with."""
        trainer = self.trainer
        share = self._share(size)
        module = None if trainer is None else trainer.lightning_module
        parts = () if module is None else module.modules()
        lone = share % self.batch_size == 1 and any(isinstance(p, nn.modules.batchnorm._BatchNorm) for p in parts)
        if share == 1 and lone:
            rank_zero_warn(
                f"Each process trains on one labelled point ({size} are labelled), in which batch norm may find no "
                "variance: give at least two `initial_labels` for each device, or use fewer devices."
            )
        small = self.keeps_left_over and share % self.batch_size > 0
        return share > self.batch_size and (lone or small)

    def _share(self, size: int) -> int:
        """How many points each process trains on."""
        return -(-size // (1 if self.trainer is None else self.trainer.world_size))

    def _loader_without_small_batches(self, dataset: Dataset[Any], settings: dict[str, Any]) -> DataLoader[Any]:
        """As `_loader` makes it, but batches share what is left over."""
        settings = {name: value for name, value in settings.items() if name not in _TRAINING_ONLY} | {
            "batch_sampler": LeftOverBatchSampler(
                RandomSampler(dataset, generator=settings.get("generator"))  # type: ignore[arg-type]
                if settings["shuffle"]
                else SequentialSampler(dataset),  # type: ignore[arg-type]
                self.batch_size,
                self.keeps_left_over,
            )
        }
        return DataLoader(dataset, num_workers=self.num_workers, collate_fn=self.collate_fn, **settings)

    # -------------------------------------------------------------------------------------------------- keeping

    def state_dict(self) -> dict[str, Any]:
        """Labels and states of all points, for every checkpoint; and what a wrapped data module keeps."""
        if self.train_dataset is None:
            return {}
        state = {"pool": self.pool.state_dict(), "split": self._split, "class_names": self.ordered_names}
        return state if self._wrapped is None else {**state, "wrapped": self._wrapped.datamodule.state_dict()}

    def has_points_of(self, kept: dict[str, Any]) -> bool:
        """Whether the points of a kept state are the first ones of this data set, or can be found by their ids.

        Args:
            kept: of `keep`.
        """
        n_points = kept["pool"]["n_points"]
        if n_points > len(self.pool):
            return False
        # with ids every point is found again, whatever the order
        by_id = kept["pool"]["ids"] is not None
        return by_id or split_fingerprint(self.train_dataset, n_points) == kept["split"]

    def keep(self) -> dict[str, Any]:
        """What a run keeps of this: `state_dict`, with labels and states whatever a subclass makes of that."""
        return {**self.state_dict(), **ActiveDataModule.state_dict(self)}

    def restore(self, kept: dict[str, Any]) -> None:
        """Put back what `keep` gave; labels and states whatever a subclass makes of `load_state_dict`.

        Raises:
            ResumeError: written for another data set.
        """
        self.load_state_dict(kept)
        if type(self).load_state_dict is not ActiveDataModule.load_state_dict:
            ActiveDataModule.load_state_dict(self, kept)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put labels and states back. Only a fit does: testing an old checkpoint must not take labels away.

        Where the `class_names` come in another order now, labels move by name.

        Raises:
            ResumeError: written for another data set, or for other classes.
        """
        if not state_dict or (self.trainer is not None and self.trainer.state.fn != TrainerFn.FITTING):
            return
        pool, saved = self.pool, kept_in_order(state_dict, self.ordered_names)["pool"]
        if saved["n_points"] <= len(pool) and not self.has_points_of(state_dict):
            raise ResumeError(
                "The checkpoint was written for another split of the training data set: give `random_split` a seeded "
                "generator, since every label is kept by its position in the data set."
            )
        pool.load_state_dict(saved)
        if self._wrapped is not None:
            self._wrapped.datamodule.load_state_dict(state_dict.get("wrapped", {}))
