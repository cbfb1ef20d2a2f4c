"""Views of the training data set: what is trained on, and what the feature pass reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Subset, SubsetRandomSampler

from lightning_diffal._lightning import user_sampler
from lightning_diffal.exceptions import InvalidLabelError
from lightning_diffal.labels.targets import (
    MISSING,
    Label,
    Target,
    parse_label,
    read_target,
    with_placeholder,
    with_target,
)
from lightning_diffal.utils.aliases import IntArray

__all__ = [
    "LabelledDataset",
    "NoLabelsYet",
    "PoolDataset",
    "UnlabelledDataset",
    "covered_indices",
    "goes_over_labels",
    "shown_labels",
    "under_subsets",
]


class _View(Dataset[Any], ABC):
    """Some positions of a data set, with a change made to each item."""

    def __init__(
        self,
        dataset: Dataset[Any],
        indices: IntArray,
        target: Target,
        settle: Callable[[Any, int], Target] | None = None,
    ) -> None:
        self.dataset = dataset
        self.indices = indices
        self.target = target
        self._settle = settle  # making a view reads no item, and only items tell where tuples of three hold labels

    def _place_in(self, item: Any, index: int) -> Target:
        if self._settle is not None:
            self.target, self._settle = self._settle(item, index), None
        return self.target

    def __getstate__(self) -> dict[str, Any]:
        if self._settle is not None and len(self.indices):  # a worker process knows nothing of the data module
            index = int(self.indices[0])
            self._place_in(self.dataset[index], index)
        return vars(self)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Any:
        index = int(self.indices[position])
        return self._changed(self.dataset[index], index)

    def __getitems__(self, positions: Sequence[int]) -> list[Any]:
        # torch's loaders fetch a batch at once where they can; data sets in memory are much faster so
        indices = self.indices[np.asarray(positions)].tolist()
        at_once: Callable[[list[int]], list[Any]] | None = getattr(self.dataset, "__getitems__", None)
        items = at_once(indices) if callable(at_once) else [self.dataset[i] for i in indices]
        return [self._changed(item, index) for item, index in zip(items, indices, strict=True)]

    @abstractmethod
    def _changed(self, item: Any, index: int) -> Any:
        """The item at position `index` of the full data set, as this view shows it."""


class LabelledDataset(_View):
    """The labelled points of a data set, in the order of their positions in it.

    A label that was given (by a person, an oracle, an argument) replaces the one in the item. An item whose own
    label agrees is passed on untouched, so that training sees exactly what a `Subset` would have given.

    Args:
        dataset: the full training data set.
        indices: `(L,)` positions in it.
        labels: the known labels by position.
        target: where an item holds its label.
        class_names: for items that hold their labels by name.
        settle: gives `target` for the first item that is read, and its position.

    Example:
        >>> view = LabelledDataset([("a", 0), ("b", 1), ("c", 2)], np.array([0, 2]), {2: 9})
        >>> list(view[i] for i in range(len(view)))
        [('a', 0), ('c', 9)]
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        indices: IntArray,
        labels: Mapping[int, Label],
        target: Target = "auto",
        class_names: Sequence[str] | None = None,
        settle: Callable[[Any, int], Target] | None = None,
    ) -> None:
        super().__init__(dataset, indices, target, settle)
        self.labels = dict(labels)
        self.class_names = class_names

    def shows_known(self, index: int) -> bool:
        """Whether the item at this position of the data set has the known label by itself, or none that could be wrong.

        Args:
            index: in the full data set.
        """
        item = self.dataset[index]
        label, own = self.labels.get(index), read_target(item, self._place_in(item, index))
        if label is None or own is MISSING or own is None:
            return True  # a collate function may add it
        try:
            shown = parse_label(own, class_names=self.class_names)
        except InvalidLabelError:  # a word that only a collate function understands, or a mark for "unlabelled"
            return isinstance(own, str)
        return shown == label or isinstance(shown, tuple) != isinstance(label, tuple)

    def _changed(self, item: Any, index: int) -> Any:
        label, target = self.labels.get(index), self._place_in(item, index)
        if label is None or self._agrees(read_target(item, target), label):
            return item
        return with_target(item, label, target, self.class_names)

    def _agrees(self, own: Any, label: Label) -> bool:
        if own is MISSING or own is None:
            return False
        try:
            return parse_label(own, class_names=self.class_names) == label
        except InvalidLabelError:  # a mark for "unlabelled", such as -1 or NaN
            return False


class NoLabelsYet(Dataset[Any]):
    """Has the length that the first round will have, for schedulers that ask; there is nothing to train on.

    Example:
        >>> len(NoLabelsYet(10))
        10
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        raise InvalidLabelError(
            "No point of the training data set is labelled, so there is nothing to train on: give `initial_labels`, "
            "or add an `ActiveLearning` callback, which asks for the first labels."
        )


class PoolDataset(_View):
    """Points of a data set as the feature pass reads them: each item with the same placeholder for its label.

    The known labels are hidden like the others, or features of the pool would differ from those of labelled points.
    A collate function that was written for labelled items works on unlabelled ones too.

    Args:
        dataset: the full data set.
        indices: `(n,)` positions in it.
        target: where an item holds its label.
        placeholder: what stands in for a label: a class, or zeros and ones for each class.
        class_names: for items that hold their labels by name.
        settle: gives `target` for the first item that is read, and its position.

    Example:
        >>> PoolDataset(["a", "b"], np.array([1]), "auto")[0], PoolDataset([("a", 7)], np.array([0]))[0]
        (('b', 0), ('a', 0))
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        indices: IntArray,
        target: Target = "auto",
        placeholder: Label = 0,
        class_names: Sequence[str] | None = None,
        settle: Callable[[Any, int], Target] | None = None,
    ) -> None:
        super().__init__(dataset, indices, target, settle)
        self.placeholder = placeholder
        self.class_names = class_names
        self._word: str | None = None

    def _changed(self, item: Any, index: int) -> Any:
        target = self._place_in(item, index)
        return with_placeholder(item, self.placeholder, target, self.class_names, self._common_word)

    def _common_word(self) -> str:
        """One word for all items, one that the data set uses itself: a collate function may look it up."""
        if self._word is None:
            first = read_target(self.dataset[0], self.target)
            self._word = first if isinstance(first, str) else ""
        return self._word


class UnlabelledDataset(_View):
    """Points without a label, for training without labels: each item shows a placeholder in place of its own.

    Args:
        dataset: the full training data set.
        indices: `(n,)` positions in it.
        target: where an item holds its label.
        placeholder: what stands in for a label: class 0, or as many zeros as a multi-label target has.
        class_names: for items that hold their labels by name.

    Example:
        >>> UnlabelledDataset([("a", 1), ("b", 2)], np.array([1]), "auto")[0]
        ('b', 0)
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        indices: IntArray,
        target: Target = "auto",
        placeholder: Label = 0,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(dataset, indices, target)
        self.placeholder = placeholder
        self.class_names = class_names

    def _changed(self, item: Any, index: int) -> Any:
        return with_target(item, self.placeholder, self.target, self.class_names)


def covered_indices(loader: Any, dataset: Any) -> IntArray | int | None:
    """Which points of the full training data set a loader goes over.

    Args:
        loader: a `DataLoader`; anything else cannot be told.
        dataset: the full training data set.

    Returns:
        Sorted positions, each once, where the loader's data set is a view or a `Subset` of `dataset`; the number
        of items where it is something else of known length; `None` where nothing can be told.

    Example:
        >>> data = list("abcd")
        >>> covered_indices(DataLoader(Subset(data, [3, 1])), data)
        array([1, 3])
    """
    if not isinstance(loader, DataLoader):
        return None
    inner: Any = loader.dataset
    size = len(inner) if isinstance(inner, Sized) else None
    steps: list[Any] = []
    while inner is not dataset and isinstance(inner, Subset | _View):
        steps.append(inner.indices)
        inner = inner.dataset
    if inner is not dataset:
        return size
    positions = np.arange(size or 0)
    sampler = user_sampler(getattr(loader.batch_sampler, "sampler", loader.sampler))
    if isinstance(sampler, SubsetRandomSampler):
        positions = np.asarray(sampler.indices, dtype=np.int64)
    for indices in steps:
        positions = np.asarray(indices, dtype=np.int64)[positions]
    return np.unique(positions)  # once: drawing some points more often is still covering them


def shown_labels(loader: Any) -> dict[int, Label]:
    """The labels that a loader's view of the training data set puts into its items, by position.

    Args:
        loader: a `DataLoader` over a `LabelledDataset`, or over subsets of one; of anything else nothing is known.

    Example:
        >>> view = LabelledDataset([("a", 0), ("b", 1)], np.array([1]), {1: 5})
        >>> shown_labels(DataLoader(Subset(view, [0])))
        {1: 5}
    """
    inner = under_subsets(loader)
    return inner.labels if isinstance(inner, LabelledDataset) else {}


def goes_over_labels(loader: Any) -> bool:
    """Whether a loader puts the known labels into the items.

    Args:
        loader: a `DataLoader`.
    """
    return isinstance(under_subsets(loader), LabelledDataset)


def under_subsets(loader: Any) -> Any:
    """The data set of a loader, without the subsets around it.

    Args:
        loader: a `DataLoader`; of anything else it is None.
    """
    inner: Any = getattr(loader, "dataset", None)
    while isinstance(inner, Subset):
        inner = inner.dataset
    return inner
