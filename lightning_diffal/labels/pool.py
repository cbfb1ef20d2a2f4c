"""Who is labelled, who was asked, who is left: the one place where points change their state.

Plain Python and numpy. Every index is a position in the full training data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from lightning_diffal.exceptions import InvalidIndexError, InvalidLabelError, ResumeError
from lightning_diffal.labels.events import make_event
from lightning_diffal.labels.ids import as_indices, find_ids, unique_ids
from lightning_diffal.labels.plain import label_from_plain, label_to_plain
from lightning_diffal.labels.targets import Label
from lightning_diffal.utils.aliases import IntArray

__all__ = ["LabelledPool"]


_POOL, _PENDING, _LABELLED, _SKIPPED = range(4)
_NAMES = ("in the pool", "pending", "labelled", "skipped")
_NOT_YET = -1


class LabelledPool:
    """State, label and round of every point of the training data set.

    A method that refuses its arguments changes nothing: each checks everything before it writes.

    Args:
        n_points: size of the full training data set.
        ids: a stable name for each point, for people and for resuming on a reordered data set.
            `None`: positions are the names.

    Example:
        >>> pool = LabelledPool(5)
        >>> pool.label([3, 1], [0, 2], round_=0)
        >>> pool.ask([4])
        >>> pool.labelled_indices, pool.pool_indices, pool.pending_indices
        (array([1, 3]), array([0, 2]), array([4]))
        >>> pool.labels
        array([2, 0])
    """

    def __init__(self, n_points: int, ids: Sequence[str] | None = None) -> None:
        self._state = np.full(n_points, _POOL, dtype=np.int8)
        self._round = np.full(n_points, _NOT_YET, dtype=np.int64)
        self._label: dict[int, Label] = {}
        self.ids = None if ids is None else unique_ids(ids, n_points)
        self.observer: Callable[[dict[str, Any]], None] | None = None
        """Told of every label, correction and skip after it was checked and before it is applied."""
        self._given: dict[int, Label] = {}  # that cost nothing, since this was made or restored
        self.missed: dict[int, Label] = {}
        """Labels given by hand before a state was put back that does not know them."""
        self.given_before: dict[int, Label] = {}
        """All labels given by hand before a state was put back."""
        self.corrected_before: dict[int, Label] = {}
        """Labels that somebody corrected while nothing wrote them down; a state put back does not know them."""
        self.skipped_before: set[int] = set()
        """Points that somebody skipped while nothing wrote it down."""

    def __len__(self) -> int:
        return len(self._state)

    def __repr__(self) -> str:
        counts = ", ".join(f"{int((self._state == s).sum())} {name}" for s, name in enumerate(_NAMES))
        return f"{type(self).__name__}({len(self)} points: {counts})"

    # ------------------------------------------------------------------------------------------------ reading

    @property
    def labelled_indices(self) -> IntArray:
        """`(L,)` sorted indices of the points whose label has arrived."""
        return np.flatnonzero(self._state == _LABELLED)

    @property
    def pool_indices(self) -> IntArray:
        """`(M,)` sorted indices of the points that may be asked."""
        return np.flatnonzero(self._state == _POOL)

    @property
    def pending_indices(self) -> IntArray:
        """`(Q,)` sorted indices of the points that were asked and not answered yet."""
        return np.flatnonzero(self._state == _PENDING)

    @property
    def skipped_indices(self) -> IntArray:
        """`(S,)` sorted indices of the points that nobody could label."""
        return np.flatnonzero(self._state == _SKIPPED)

    @property
    def n_bought(self) -> int:
        """Labels that arrived after the initial ones."""
        return int((self._round > 0).sum())

    @property
    def unread_indices(self) -> IntArray:
        """`(U,)` sorted indices of labelled points whose label still has to be read from the data set."""
        return np.array([i for i in self.labelled_indices.tolist() if i not in self._label], dtype=np.int64)

    @property
    def labels(self) -> IntArray:
        """`(L,)` classes, or `(L, C)` for multi-label targets, aligned with `labelled_indices`."""
        rows = [self._label[i] for i in self.labelled_indices.tolist()]
        return np.array(rows, dtype=np.int64) if rows else np.empty(0, dtype=np.int64)

    def labels_of(self, indices: IntArray) -> dict[int, Label]:
        """The known labels of these points, by index."""
        return {i: self._label[i] for i in indices.tolist() if i in self._label}

    def rounds_of(self, indices: IntArray) -> IntArray:
        """`(n,)` the round in which each label arrived: 0 for initial labels, -1 for none yet."""
        return self._round[indices]

    @property
    def is_multilabel(self) -> bool:
        """Whether the known labels say of each class whether it is there; false while none is known."""
        return isinstance(next(iter(self._label.values()), None), tuple)

    @property
    def placeholder(self) -> Label:
        """A label of the kind that the known ones are: class 0, or zeros for every class."""
        known = next(iter(self._label.values()), 0)
        return (0,) * len(known) if isinstance(known, tuple) else 0

    def id_of(self, index: int) -> str:
        """The stable id of a point."""
        return str(index) if self.ids is None else self.ids[index]

    # ------------------------------------------------------------------------------------------------ writing

    def ask(self, indices: Iterable[int]) -> None:
        """Move points from the pool to pending.

        Raises:
            InvalidIndexError: unknown, twice, or not in the pool.
        """
        self._state[self._checked(indices, {_POOL}, "ask")] = _PENDING

    def label(self, indices: Iterable[int], labels: Iterable[Label] | None, round_: int) -> None:
        """Move points from the pool, from pending or from skipped to the labelled ones.

        Args:
            indices: which points.
            labels: one each. `None`: the data set has them; they are stored later with `store_labels`.
            round_: the round in which they arrive, 0 for initial labels.

        Raises:
            InvalidIndexError: unknown, twice, or labelled already.
            InvalidLabelError: not one label per index, or of another kind than the known ones.
        """
        chosen = self._checked(indices, {_POOL, _PENDING, _SKIPPED}, "label")
        if labels is not None:
            values = self.fitting(chosen, labels)
            self._observe("answer", chosen, values, round_)
            self._label.update(values)
            if round_ == 0:
                self._given.update(values)
        self._state[chosen] = _LABELLED
        self._round[chosen] = round_

    def store_labels(self, indices: Iterable[int], labels: Iterable[Label]) -> None:
        """Keep labels that were read from the data set for points labelled already.

        Raises:
            InvalidIndexError: not labelled.
            InvalidLabelError: not one label per index, or of another kind than the known ones.
        """
        chosen = self._checked(indices, {_LABELLED}, "store the labels of")
        self._label.update(self.fitting(chosen, labels))

    def skip(self, indices: Iterable[int]) -> None:
        """Take points out of the game: nobody can tell their label. They are not asked again.

        Raises:
            InvalidIndexError: unknown, twice, or labelled already.
        """
        chosen = self._checked(indices, {_POOL, _PENDING}, "skip")
        self._observe("skip", chosen)
        self._state[chosen] = _SKIPPED

    def correct(self, indices: Iterable[int], labels: Iterable[Label]) -> None:
        """Replace labels that turned out wrong. The round that bought them stays.

        Raises:
            InvalidIndexError: not labelled.
            InvalidLabelError: not one label per index, or of another kind than the known ones.
        """
        chosen = self._checked(indices, {_LABELLED}, "correct")
        values = self.fitting(chosen, labels)
        self._observe("correction", chosen, values)
        self._label.update(values)

    def _observe(
        self, kind: str, chosen: IntArray, labels: dict[int, Label] | None = None, round_: int | None = None
    ) -> None:
        if self.observer is None or not len(chosen):
            return
        self.observer(make_event(kind, chosen, self.ids, labels, round_))

    def grow(self, n_points: int, ids: Sequence[str] | None = None) -> None:
        """Take in points appended to the data set; they join the pool.

        Raises:
            ResumeError: the data set has shrunk, or the ids of known points changed.
        """
        if n_points < len(self):
            raise ResumeError(
                f"The training data set has {n_points} points, but labels were kept for {len(self)}. Points cannot be "
                "taken away while labels are being bought: give the data set that the run began with."
            )
        new_ids = None if ids is None else unique_ids(ids, n_points)
        if self.ids is not None and (new_ids is None or new_ids[: len(self)] != self.ids):
            raise ResumeError("The ids of known points changed: new points may only be appended during a run.")
        added = n_points - len(self)
        self._state = np.append(self._state, np.full(added, _POOL, dtype=np.int8))
        self._round = np.append(self._round, np.full(added, _NOT_YET, dtype=np.int64))
        self.ids = new_ids

    # ------------------------------------------------------------------------------------------------ keeping

    def state_dict(self) -> dict[str, Any]:
        """Everything, as numbers, strings and lists, so that a checkpoint loads with `weights_only=True`."""
        labelled, pending, skipped = self.labelled_indices, self.pending_indices, self.skipped_indices
        known = np.concatenate([labelled, pending, skipped]).tolist()
        values = [self._label.get(i) for i in labelled.tolist()]
        return {
            "version": 1,
            "n_points": len(self),
            "labelled": labelled.tolist(),
            "labels": [None if label is None else label_to_plain(label) for label in values],
            "rounds": self._round[labelled].tolist(),
            "pending": pending.tolist(),
            "skipped": skipped.tolist(),
            "ids": None if self.ids is None else {str(i): self.ids[i] for i in known},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave; with ids, points are found by id even where their order changed.

        Raises:
            ResumeError: written by a newer version, or for a data set that this is not.
        """
        if state.get("version") != 1:
            raise ResumeError(
                f"The labels in this checkpoint have format {state.get('version')!r}, and this version of "
                "lightning-diffal reads format 1: install the version that wrote it."
            )
        if state["n_points"] > len(self):
            raise ResumeError(
                f"The checkpoint was written for a training data set of {state['n_points']} points, but this one has "
                f"{len(self)}: give the data set that the run began with."
            )
        position = self._positions(state["ids"])
        labelled = [position(i) for i in state["labelled"]]
        fresh = LabelledPool(len(self), self.ids)
        fresh.label(labelled, None, 0)
        fresh._round[labelled] = state["rounds"]
        for index, label in zip(labelled, state["labels"], strict=True):
            if label is not None:
                fresh._label[index] = label_from_plain(label)
        fresh.ask([position(i) for i in state["pending"]])
        fresh.skip([position(i) for i in state["skipped"]])
        self._state, self._round, self._label = fresh._state, fresh._round, fresh._label
        given = {**self.missed, **self._given}
        self.given_before |= given
        self.missed = {i: label for i, label in given.items() if self._state[i] != _LABELLED}
        self._given = {}

    def moved(self, state: dict[str, Any]) -> Callable[[int], int] | None:
        """Where the points that a saved state knows stand now; `None` where every one stands where it did.

        Args:
            state: of `state_dict`.

        Raises:
            ResumeError: for a data set that this is not.
        """
        position = self._positions(state["ids"])
        known = (*state["labelled"], *state["pending"], *state["skipped"])
        return position if any(position(index) != index for index in known) else None

    def _positions(self, saved_ids: dict[str, str] | None) -> Callable[[int], int]:
        if saved_ids is None:
            return int
        if self.ids is None:
            raise ResumeError(
                "The checkpoint keeps its labels by the ids of points, but this data set has none: give `ids`, or the "
                "data set that the run began with."
            )
        now, gone = find_ids(saved_ids.values(), self.ids)
        if gone:
            raise ResumeError(
                f"{len(gone)} labelled or asked points of the checkpoint are not in this data set, the first with id "
                f"{gone[0]!r}: give the data set that the run began with."
            )
        return lambda index: now[saved_ids[str(index)]]

    def _checked(self, indices: Iterable[int], allowed: set[int], verb: str) -> IntArray:
        chosen = as_indices(indices, len(self))
        wrong = chosen[~np.isin(self._state[chosen], list(allowed))]
        if len(wrong):
            raise InvalidIndexError(
                f"Cannot {verb} point {wrong[0]}: it is {_NAMES[self._state[wrong[0]]]} already "
                f"({len(wrong)} such points of {len(chosen)})."
            )
        return chosen

    def fitting(self, indices: Iterable[int], labels: Iterable[Label]) -> dict[int, Label]:
        """Labels by index, checked: one for each, and all of one kind, so that they make up one array.

        Raises:
            InvalidLabelError: not one label per index, or of another kind than the known ones.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        values = list(labels)
        if len(values) != len(chosen):
            raise InvalidLabelError(f"Expected one label for each of {len(chosen)} points, but got {len(values)}.")
        wanted = _kind(next(iter(self._label.values()), values[0])) if values else ""
        for index, value in zip(chosen.tolist(), values, strict=True):
            if _kind(value) != wanted:
                raise InvalidLabelError(
                    f"Expected all labels to be of one kind, but point {index} has {_kind(value)} and others have "
                    f"{wanted}."
                )
        return dict(zip(chosen.tolist(), values, strict=True))


def _kind(label: Label) -> str:
    return f"zeros and ones for {len(label)} classes" if isinstance(label, tuple) else "a class"
