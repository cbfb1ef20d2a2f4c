"""What an oracle is, what it may answer, and how an answer is checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import InvalidIndexError, InvalidLabelError, InvalidTypeError
from lightning_diffal.targets import Label, parse_label

if TYPE_CHECKING:
    from lightning_diffal.datamodule import ActiveDataModule

__all__ = ["PENDING", "Oracle", "checked_answers"]

IntArray = npt.NDArray[np.int64]


class _Pending:
    """The one value that means: asked, and not answered yet."""

    def __repr__(self) -> str:
        return "PENDING"

    def __reduce__(self) -> str:
        return "PENDING"


PENDING: Final = _Pending()
"""What an oracle answers for a point that has no label yet."""


class Oracle(ABC):
    """Answers what was asked: all of it, some, or nothing yet. Subclass it and write `answer`."""

    @abstractmethod
    def answer(self, indices: IntArray, data: ActiveDataModule) -> Mapping[int, Any]:
        """Labels of some of the points that were asked.

        It is called again with what is still open, in this fit or a later one.

        Args:
            indices: `(b,)` positions in the training data set.
            data: gives items (`data.pool_item(index)`), ids (`data.pool.id_of(index)`) and class names.

        Returns:
            A label by index. A point that is missing, or is `PENDING`, stays asked.
        """


def checked_answers(
    answers: Any, asked: IntArray, num_classes: int | None, class_names: Sequence[str] | None
) -> dict[int, Label]:
    """What an oracle answered, checked before anything is applied.

    Args:
        answers: a label by index.
        asked: `(b,)` positions that were asked.
        num_classes: labels have to fit it.
        class_names: for labels given by name.

    Returns:
        The labels that arrived, without what is pending.

    Raises:
        InvalidTypeError: not a mapping.
        InvalidIndexError: an answer to what was not asked.
        InvalidLabelError: a label of a wrong type or out of range; the point is named.

    Example:
        >>> checked_answers({4: "dog", 2: PENDING}, np.array([2, 4]), None, ["cat", "dog"])
        {4: 1}
    """
    if not isinstance(answers, Mapping):
        raise InvalidTypeError(f"Expected an oracle to answer with labels by index, but got {type(answers).__name__}.")
    known: dict[int, Label] = {}
    open_points = set(asked.tolist())
    for index, value in answers.items():
        if isinstance(index, bool) or not isinstance(index, int | np.integer) or int(index) not in open_points:
            raise InvalidIndexError(f"The oracle answered {index!r}, which was not asked. Nothing was applied.")
        if value is PENDING:
            continue
        try:
            known[int(index)] = parse_label(value, num_classes, class_names)
        except InvalidLabelError as error:
            hint = " An unknown label is PENDING." if value is None else ""
            raise InvalidLabelError(
                f"The oracle's answer for point {index}: {error}{hint} Nothing was applied."
            ) from None
    return known
