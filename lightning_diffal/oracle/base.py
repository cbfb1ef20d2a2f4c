"""What an oracle is, what it may answer, and how an answer is checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_diffal.exceptions import InvalidIndexError, InvalidLabelError, InvalidTypeError
from lightning_diffal.labels.marks import PENDING, SKIP
from lightning_diffal.labels.targets import Label, parse_label
from lightning_diffal.samplers.base import Query
from lightning_diffal.utils.aliases import IntArray

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["PENDING", "SKIP", "Oracle", "Question", "checked_answers", "checked_corrections"]


@dataclass(frozen=True, eq=False)
class Question:
    """What an oracle is asked.

    Args:
        query: the sampler's query, with scores and details that say why each point was chosen.
        indices: `(b,)` positions of the points that are open, in the order of choice. What an earlier query left open
            comes first; what was answered already is not among them.
        round: the round after which it was asked.
        run_id: of the run's journal; `None` where there is none.

    Example:
        >>> question = Question(Query([7, 2], [0.9, 0.4]), np.array([2]), round=0, run_id=None)
        >>> question.indices
        array([2])
    """

    query: Query
    indices: IntArray
    round: int
    run_id: str | None


class Oracle(ABC):
    """Answers what was asked: all of it, some, or nothing yet. Subclass it and write `answer`.

    All methods are called on the first process only, in the order `prepare`, then for each query `ask`,
    `corrections`, `answer`; the last two again every `poll_seconds` until `timeout` is over.

    Attributes:
        timeout: seconds for which a fit waits in place until `min_answers` are there. 0: not at all, and the fit ends
            with its state saved. `None`: for ever.
        poll_seconds: how long to wait between two looks.

    Example:
        >>> class Slow(Oracle):
        ...     def answer(self, indices, data):
        ...         return {int(indices[0]): 1}
        >>> Slow().timeout, Slow().answer(np.array([5, 3]), None)
        (0.0, {5: 1})
    """

    timeout: float | None = 0.0
    poll_seconds: float = 5.0

    def prepare(self, data: ActiveDataModule, folder: Path | None, run_id: str | None) -> None:  # noqa: B027  # a hook
        """Refuse what cannot work: called when a fit begins, before anything trains.

        Args:
            data: whose points will be asked.
            folder: of the run; `None` where it writes nothing (`run_dir=False`).
            run_id: of the run's journal; `None` where there is none.
        """

    def ask(self, question: Question, data: ActiveDataModule) -> None:  # noqa: B027  # a hook
        """Put a query to whoever answers; the default does nothing.

        Called once the query stands in the journal and before `answer`; again when a later fit finds points open, so
        it has to be idempotent.

        Args:
            question: what is open, and why it was asked.
            data: gives items (`data.pool_item(index)`), ids (`data.pool.id_of(index)`) and class names.
        """

    @abstractmethod
    def answer(self, indices: IntArray, data: ActiveDataModule) -> Mapping[int, Any]:
        """Labels of some of the points that were asked.

        It is called again with what is still open, in this fit or a later one.

        Args:
            indices: `(b,)` positions in the training data set.
            data: gives items (`data.pool_item(index)`), ids (`data.pool.id_of(index)`) and class names.

        Returns:
            A label by index, or `SKIP` where nobody can tell. A point that is missing, or is `PENDING`, stays asked.
        """

    def corrections(self, data: ActiveDataModule) -> Mapping[int, Any]:
        """Labels that replace earlier ones, or that come for points skipped earlier; asked for right before `answer`.

        Args:
            data: knows the present labels; a correction that agrees with them is none.

        Returns:
            A label by index.
        """
        return {}

    def follow(self, stage: str, news: Callable[[], Mapping[str, Any]]) -> None:  # noqa: B027  # a hook
        """Hear what the run is doing, for whoever shows it to people; called often, so it has to be quick.

        Args:
            stage: `"training"`, `"choosing"`, `"waiting"` (for answers) or `"ended"`.
            news: gives round, last round, how far the training is (0 to 1), number of labels, and metrics so far.
        """

    def whereabouts(self) -> str | None:
        """Where answers are waited for, such as "project 3 at http://localhost:8080", for the sentence that says so."""
        return None


def checked_answers(
    answers: Any, asked: IntArray, num_classes: int | None, class_names: Sequence[str] | None
) -> dict[int, Any]:
    """What an oracle answered, checked before anything is applied.

    Args:
        answers: a label by index.
        asked: `(b,)` positions that were asked.
        num_classes: labels have to fit it.
        class_names: for labels given by name.

    Returns:
        The labels that arrived, and `SKIP` for points that nobody can tell; without what is pending.

    Raises:
        InvalidTypeError: not a mapping.
        InvalidIndexError: an answer to what was not asked.
        InvalidLabelError: a label of a wrong type or out of range; the point is named.

    Example:
        >>> checked_answers({4: "dog", 2: PENDING}, np.array([2, 4]), None, ["cat", "dog"])
        {4: 1}
    """
    checked: dict[int, Any] = {}
    for index, value in _by_index(answers, set(asked.tolist()), "answered", "which was not asked").items():
        if value is SKIP:
            checked[index] = SKIP
        elif value is not PENDING:
            checked[index] = _parsed(value, f"The oracle's answer for point {index}", num_classes, class_names)
    return checked


def checked_corrections(corrections: Any, data: ActiveDataModule) -> dict[int, Label]:
    """New labels for points that were labelled or skipped, checked before anything is applied.

    Args:
        corrections: a label by index.
        data: knows the present labels.

    Returns:
        The labels that differ from the present ones.

    Raises:
        InvalidTypeError: not a mapping.
        InvalidIndexError: a point that is neither labelled nor skipped.
        InvalidLabelError: a label of a wrong type or out of range; the point is named.

    Example:
        >>> from lightning_diffal import ActiveDataModule
        >>> data = ActiveDataModule(["a", "b", "c"], initial_labels={0: 1, 2: 0}, num_classes=2)
        >>> checked_corrections({0: 0, 2: 0}, data)
        {0: 0}
    """
    if isinstance(corrections, Mapping) and not corrections:
        return {}
    pool = data.pool
    may = set(pool.labelled_indices.tolist()) | set(pool.skipped_indices.tolist())
    known = _by_index(corrections, may, "corrected", "which is neither labelled nor skipped")
    new = {}
    for index, value in known.items():
        if value is PENDING or value is SKIP:
            raise InvalidLabelError(
                f"The oracle's correction for point {index} is {value!r}, but a label can only be replaced by another "
                "one. Nothing was applied."
            )
        new[index] = _parsed(value, f"The oracle's correction for point {index}", data.num_classes, data.class_names)
    now = pool.labels_of(np.array(sorted(new), dtype=np.int64))
    return {index: label for index, label in new.items() if now.get(index) != label}


def _by_index(values: Any, allowed: set[int], verb: str, otherwise: str) -> dict[int, Any]:
    if not isinstance(values, Mapping):
        raise InvalidTypeError(f"Expected an oracle to answer with labels by index, but got {type(values).__name__}.")
    found: dict[int, Any] = {}
    for index, value in values.items():
        if isinstance(index, bool) or not isinstance(index, int | np.integer) or int(index) not in allowed:
            raise InvalidIndexError(f"The oracle {verb} {index!r}, {otherwise}. Nothing was applied.")
        found[int(index)] = value
    return found


def _parsed(value: Any, whose: str, num_classes: int | None, class_names: Sequence[str] | None) -> Label:
    try:
        return parse_label(value, num_classes, class_names)
    except InvalidLabelError as error:
        hint = " An unknown label is PENDING." if value is None else ""
        raise InvalidLabelError(f"{whose}: {error}{hint} Nothing was applied.") from None
