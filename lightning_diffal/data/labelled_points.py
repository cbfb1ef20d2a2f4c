"""Who is labelled: the half of a data module that knows items and labels, and no loaders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from lightning_diffal._lightning import rank_zero_info, rank_zero_warn
from lightning_diffal.data.arguments import checked_length
from lightning_diffal.data.items import items_agree
from lightning_diffal.data.label_place import check_label_place, settled_target
from lightning_diffal.data.own_names import own_class_names, own_targets
from lightning_diffal.data.wrapped import default_ids, split_fingerprint
from lightning_diffal.exceptions import ConfigurationError, InvalidLabelError
from lightning_diffal.labels.class_names import class_words
from lightning_diffal.labels.ids import as_indices
from lightning_diffal.labels.initial import InitialLabels, check_targets, initial_points
from lightning_diffal.labels.pool import LabelledPool
from lightning_diffal.labels.targets import MISSING, Label, Target, parse_label, read_target
from lightning_diffal.processes.spawned import Handback
from lightning_diffal.utils.aliases import IntArray
from lightning_diffal.utils.seeding import isolated_random_state
from lightning_diffal.utils.storage.files import write_csv

__all__ = ["LabelledPoints"]


# Reads of one item that tell whether it is augmented: a flip with even odds goes unnoticed once in sixteen times.
_READS = 5


class LabelledPoints:
    """State and label of every point of `train_dataset`, and the labels that the data set itself holds.

    `ActiveDataModule` derives from it and sets what is declared here.
    """

    train_dataset: Dataset[Any] | None
    pool_dataset: Dataset[Any] | None
    initial_labels: InitialLabels
    stratified: bool
    num_classes: int | None
    class_names: Sequence[str] | None
    target: Target
    targets: Any
    ids: Sequence[str] | None
    seed: int
    handback: Handback

    _pool: LabelledPool | None = None
    _split: str | None = None
    _known_dataset: Dataset[Any] | None = None
    _looked_for_augmentation = False
    _target_settled = False
    _own_targets: IntArray | None = None
    _own_targets_agree: bool | None = None

    # --------------------------------------------------------------------------------------------------- states

    @property
    def pool(self) -> LabelledPool:
        """State and label of every point; made from `initial_labels` when first needed, grown with the data set.

        Raises:
            ConfigurationError: no training data set, an empty one, or another split than before.
            InvalidTypeError: an iterable data set, or one without length.
            ResumeError: the data set has shrunk, or the ids of known points changed.
        """
        n_points = checked_length(self.train_dataset, "train_dataset")
        pool = self._pool
        if pool is None or self.train_dataset is not self._known_dataset or n_points != len(pool):
            pool = self._take_in(n_points)
        left = self.handback.take()
        if left is not None:
            pool.load_state_dict(left["pool"])
        return pool

    def _take_in(self, n_points: int) -> LabelledPool:
        """Look at a data set that is new, or that `setup` made again, or that has grown; read none of its items."""
        if self.pool_dataset is not None and checked_length(self.pool_dataset, "pool_dataset") != n_points:
            raise ConfigurationError(
                f"Expected `pool_dataset` to hold the same {n_points} items as `train_dataset`, "
                f"but it has {checked_length(self.pool_dataset, 'pool_dataset')}."
            )
        if self.targets is not None:
            self.targets = check_targets(self.targets, n_points, self.num_classes, self.class_names)
        elif self.train_dataset is not self._known_dataset or self._own_targets is None:
            self._own_targets, self._own_targets_agree = own_targets(self.train_dataset, n_points), None
        ids = self.ids if self.ids is not None else default_ids(self.train_dataset)
        if self._pool is None:
            self._pool = self._first_pool(n_points, ids)
        else:
            known = len(self._pool)
            if n_points >= known and split_fingerprint(self.train_dataset, known) != self._split:
                raise ConfigurationError(
                    "The training data set is a Subset of other points than before: `setup` splits at random. Give "
                    "`random_split` a seeded generator, since every label is kept by its position in the data set."
                )
            self._pool.grow(n_points, ids)
        self._split, self._known_dataset = split_fingerprint(self.train_dataset, n_points), self.train_dataset
        return self._pool

    def _first_pool(self, n_points: int, ids: Sequence[str] | None) -> LabelledPool:
        draws_by_own = self.stratified and self.targets is None
        indices, labels = initial_points(
            self.initial_labels,
            n_points,
            seed=self.seed,
            targets=self._own_targets if draws_by_own else self.targets,
            stratified=self.stratified,
            num_classes=self.num_classes,
            class_names=self.names,
        )
        if draws_by_own and not isinstance(self.initial_labels, Mapping):
            labels = None  # items have not been read yet, and may hold others
        pool = LabelledPool(n_points, ids)
        pool.label(indices, labels, round_=0)
        return pool

    @property
    def labelled_indices(self) -> IntArray:
        """`(L,)` sorted positions of the labelled points."""
        return self.pool.labelled_indices

    @property
    def pool_indices(self) -> IntArray:
        """`(M,)` sorted positions of the points that may be asked."""
        return self.pool.pool_indices

    @property
    def pending_indices(self) -> IntArray:
        """`(Q,)` sorted positions of the points that were asked and not answered yet."""
        return self.pool.pending_indices

    @property
    def skipped_indices(self) -> IntArray:
        """`(S,)` sorted positions of the points that nobody could label."""
        return self.pool.skipped_indices

    # --------------------------------------------------------------------------------------------------- labels

    @property
    def labels(self) -> IntArray:
        """`(L,)` classes, or `(L, C)` zeros and ones, aligned with `labelled_indices`.

        Labels that only the data set knows are read from its items now.

        Raises:
            InvalidLabelError: an item without a label, or with one of a wrong type or out of range.
        """
        unread = self.pool.unread_indices
        if len(unread):
            self.pool.store_labels(unread, self.own_labels(unread))
        return self.pool.labels

    def label(
        self, indices: Iterable[int] | Mapping[int, Any], labels: Iterable[Any] | None = None, *, round_: int = 0
    ) -> None:
        """Move points to the labelled ones. Nothing changes where anything is refused.

        Args:
            indices: positions in the training data set; in the pool, pending or skipped. Or labels by position.
            labels: one each, as a class or a class name. `None`: the data set's own, read now.
            round_: the round that bought them; 0 for labels that cost nothing of a budget.

        Raises:
            InvalidIndexError: unknown, twice, or labelled already.
            InvalidLabelError: not one label per point, of a wrong type, or out of range.
        """
        indices, labels = _pairs(indices, labels)
        chosen = as_indices(indices, len(self.pool))
        self.pool.label(chosen, self._given(chosen, self.own_labels(chosen) if labels is None else labels), round_)

    def correct(self, indices: Iterable[int] | Mapping[int, Any], labels: Iterable[Any] | None = None) -> None:
        """Replace labels that turned out wrong. Nothing changes where anything is refused.

        Args:
            indices: positions of labelled points. Or labels by position.
            labels: one each, as a class or a class name.

        Raises:
            InvalidIndexError: unknown, twice, or not labelled.
            InvalidLabelError: not one label per point, of a wrong type, or out of range.
        """
        indices, labels = _pairs(indices, labels)
        if labels is None:
            raise InvalidLabelError("Expected one label for each point that is corrected, but got none.")
        chosen = as_indices(indices, len(self.pool))
        values = self._given(chosen, labels)
        self.pool.correct(chosen, values)
        if self.pool.observer is None:  # before a fit, which may go on with a run that knows nothing of it
            self.pool.corrected_before.update(zip(chosen.tolist(), values, strict=True))

    def skip(self, indices: Iterable[int]) -> None:
        """Take points out: nobody can tell their label. They are not asked again.

        Raises:
            InvalidIndexError: unknown, twice, or labelled already.
        """
        chosen = as_indices(indices, len(self.pool))
        self.pool.skip(chosen)
        if self.pool.observer is None:
            self.pool.skipped_before.update(chosen.tolist())

    def own_labels(self, indices: IntArray) -> list[Label]:
        """The labels that the data set itself holds, from `targets` or else from its items.

        Args:
            indices: `(n,)` positions in the training data set.

        Raises:
            InvalidLabelError: an item without a label, or with one of a wrong type or out of range.
        """
        _ = self.pool  # checks and converts `targets`
        if self.targets is not None:
            return [parse_label(row, self.num_classes) for row in self.targets[indices]]
        if self._own_targets is not None and len(indices) > _READS and self._items_hold_own_targets():
            return [parse_label(row, self.num_classes) for row in self._own_targets[indices]]
        with isolated_random_state():
            return [self._own_label(index) for index in indices.tolist()]

    def _items_hold_own_targets(self) -> bool:
        """Whether a few items have the labels that the data set lists as its `targets`; told once."""
        if self._own_targets_agree is None:
            listed = self._own_targets
            assert listed is not None, "asked for where there are some"
            positions = np.unique(np.linspace(0, len(listed) - 1, min(_READS, len(listed))).astype(int)).tolist()
            with isolated_random_state():
                try:
                    own = [self._own_label(index) for index in positions]
                except InvalidLabelError:
                    own = []
            self._own_targets_agree = own == [parse_label(listed[index]) for index in positions]
            if self._own_targets_agree:
                rank_zero_info("Labels are read from `targets` of the training data set, since none were given.")
        return self._own_targets_agree

    @property
    def names(self) -> Sequence[str] | None:
        """Names of the classes: `class_names`, or else what the data set calls them."""
        return self.class_names if self.class_names is not None else own_class_names(self.train_dataset, self.target)

    @property
    def ordered_names(self) -> list[str] | None:
        """Names of the classes as labels are numbered by them; `None` where classes have numbers only."""
        names = self.names
        if names is None or self.num_classes not in (None, len(names)):
            return None
        return [str(name) for name in names]

    def adopt_names(self, outputs: int | None) -> None:
        """Take names of classes from the data set where nobody gave any, and they are as many as the model's outputs.

        Args:
            outputs: of the model, where known.
        """
        names, count = self.names, self.num_classes or outputs
        if self.class_names is None and names is not None and count in (None, len(names)):
            self.class_names, self.num_classes = names, len(names)
            rank_zero_info(
                f"Classes are named as in the training data set: {', '.join(names[:5])}"
                f"{', ...' if len(names) > 5 else ''}."
            )

    def settle_target(self, item: Any, index: int) -> Target:
        """Where items hold their labels; looked for, once, where `target="auto"` does not say it.

        Args:
            item: one that has been read.
            index: its position in the training data set.

        Raises:
            LabelPlaceError: several fields could be.
        """
        if self.target == "auto" and not self._target_settled:
            self.target = settled_target(self, self._augmented(), item, index)
            self._target_settled = True
        return self.target

    def check_items(self) -> None:
        """Refuse items that hold something else than classes, or others than the known ones.

        Raises:
            ConfigurationError: several fields could be the label.
            InvalidLabelError: a few items were compared, and disagree.
        """
        source = self._augmented()
        with isolated_random_state():
            item = source[0]
        self.settle_target(item, 0)
        check_label_place(self, source)

    def _own_label(self, index: int) -> Label:
        item = self._unaugmented()[index]
        value = read_target(item, self.settle_target(item, index))
        if value is MISSING and self.pool_dataset is not None:  # it may hold the inputs only
            value = read_target(self._augmented()[index], self.target)
        if value is MISSING or value is None:
            raise InvalidLabelError(
                f"Item {index} of the training data set holds no label (`target={self.target!r}`): say where it sits "
                "with `target`, give `targets`, or give an oracle."
            )
        return self._parsed(value, f"Item {index} of the training data set")

    def _given(self, chosen: IntArray, labels: Iterable[Any]) -> list[Label]:
        values = list(labels)
        if len(values) != len(chosen):
            raise InvalidLabelError(f"Expected one label for each of {len(chosen)} points, but got {len(values)}.")
        return [self._parsed(value, f"Point {i}") for value, i in zip(values, chosen.tolist(), strict=True)]

    def _parsed(self, value: Any, whose: str) -> Label:
        try:
            return parse_label(value, self.num_classes, self.names)
        except InvalidLabelError as error:
            raise InvalidLabelError(f"{whose}: {error}") from None

    def check_labels(self) -> None:
        """Refuse known labels that do not fit the number of classes.

        Raises:
            InvalidLabelError: the first label that does not fit, with its position.
        """
        labels, classes = self.labels, self.num_classes
        if classes is None or not len(labels):
            return
        wrong = labels >= classes if labels.ndim == 1 else np.full(len(labels), labels.shape[1] != classes)
        if wrong.any():
            index, label = self.labelled_indices[wrong][0], labels[wrong][0]
            raise InvalidLabelError(
                f"Point {index} of the training data set has label {label.tolist()}, but there are {classes} classes: "
                "give the model more outputs, or correct `num_classes` or the label."
            )

    def export_labels(self, path: str | PathLike[str]) -> None:
        """Write all labels as CSV: id, index, label, class name, and the round that bought it.

        Args:
            path: the file; it is replaced at once, never half written.

        Example:
            >>> import tempfile, pathlib
            >>> from lightning_diffal import ActiveDataModule
            >>> data = ActiveDataModule(["a", "b", "c"], initial_labels={2: 1, 0: 0}, class_names=["cat", "dog"])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     data.export_labels(folder + "/labels.csv")
            ...     print(pathlib.Path(folder, "labels.csv").read_text())
            id,index,label,class_name,round
            0,0,0,cat,0
            2,2,1,dog,0
        """
        names = self.class_names
        rows = []
        for index, label in zip(self.labelled_indices.tolist(), self.labels, strict=True):
            name = "" if names is None else class_words(int(label) if not label.ndim else tuple(label.tolist()), names)
            rows.append((self.pool.id_of(index), index, " ".join(map(str, label.reshape(-1))), name))
        rounds = self.pool.rounds_of(self.labelled_indices).tolist()
        write_csv(
            path, ["id", "index", "label", "class_name", "round"], [(*r, n) for r, n in zip(rows, rounds, strict=True)]
        )

    # ---------------------------------------------------------------------------------------------------- items

    def pool_item(self, index: int) -> Any:
        """One item as the feature pass reads it, without augmentation and without touching the random state."""
        with isolated_random_state():
            return self._unaugmented()[index]

    def pool_item_twice(self, index: int) -> tuple[Any, Any]:
        """One item read twice in a row: the two differ where something random is done to it.

        The random state moves on; whoever reads many puts it back once.
        """
        return self._unaugmented()[index], self._unaugmented()[index]

    def warn_of_augmentation(self) -> None:
        """Warn, once, where the feature pass would see augmented items: where one item reads differently each time."""
        if self._looked_for_augmentation or self.pool_dataset is not None:
            return
        self._looked_for_augmentation = True
        with isolated_random_state():
            first = self._augmented()[0]
            differs = any(not items_agree(first, self._augmented()[0]) for _ in range(_READS - 1))
        if differs:
            rank_zero_warn(
                "Item 0 of `train_dataset` is different each time it is read, so it is augmented, and points would be "
                "chosen by augmented features. Give `pool_dataset`: the same items in the same order, without "
                "augmentation."
            )

    def _augmented(self) -> Any:
        return self.train_dataset

    def _unaugmented(self) -> Any:
        return self.train_dataset if self.pool_dataset is None else self.pool_dataset


def _pairs(
    indices: Iterable[int] | Mapping[int, Any], labels: Iterable[Any] | None
) -> tuple[Iterable[int], Iterable[Any] | None]:
    """Points and labels side by side, where labels were given by position; keys alone would lose them in silence."""
    if not isinstance(indices, Mapping):
        return indices, labels
    if labels is not None:
        raise InvalidLabelError("Expected labels by position, or positions and labels, but got both.")
    return list(indices), list(indices.values())
