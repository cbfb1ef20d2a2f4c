"""What happened in a run: one record per round, as a list, a table, a file or part of a checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.history.plots import plot_history
from lightning_diffal.history.queries import IN_STATE
from lightning_diffal.history.record import RoundRecord
from lightning_diffal.history.tables import (
    frame_rows,
    history_html,
    json_record,
    names_of,
    point_rows,
    record_json,
    table_rows,
)
from lightning_diffal.samplers.base import Query
from lightning_diffal.utils.aliases import IntArray
from lightning_diffal.utils.counts import several
from lightning_diffal.utils.extras import require
from lightning_diffal.utils.numeric.arrays import array_from_state, array_state
from lightning_diffal.utils.storage.files import replacing, write_csv

__all__ = ["History", "RoundRecord", "records_equal"]


_SHOWN_ROWS = 24


class History(list[RoundRecord]):
    """The records of a run, oldest first: a list that can be written, tabulated and put into a checkpoint.

    Args:
        records: what to begin with.

    Example:
        >>> history = History()
        >>> history.append(RoundRecord(0, 1, labelled=[4, 2], metrics={"test_acc": 0.5}))
        >>> history.append(RoundRecord(1, 2, labelled=[4, 2, 9], metrics={"test_acc": 0.75}))
        >>> history
        History of 2 rounds
        round  labelled  asked  test_acc
            0         2      0       0.5
            1         3      0      0.75
        >>> history.curve("test_acc")
        (array([2, 3]), array([0.5 , 0.75]))
    """

    def __init__(self, records: Iterable[RoundRecord] = ()) -> None:
        super().__init__(records)
        self.facts: dict[str, Any] = {}
        """What the run was, where that is known: its id as `"run"`, its `"sampler"`."""

    @overload
    def __getitem__(self, position: SupportsIndex) -> RoundRecord: ...
    @overload
    def __getitem__(self, position: slice) -> History: ...
    def __getitem__(self, position: SupportsIndex | slice) -> RoundRecord | History:
        found = super().__getitem__(position)
        if not isinstance(found, list):
            return found
        part = History(found)
        part.facts = self.facts
        return part

    def __repr__(self) -> str:
        names = names_of(self, "metrics")
        rows = [
            [f"{r.round}", f"{r.n_labelled}", f"{r.n_queried}"]
            + [f"{r.metrics[name]:.4g}" if name in r.metrics else "" for name in names]
            for r in self
        ]
        if len(rows) > _SHOWN_ROWS:
            rows = [*rows[: _SHOWN_ROWS // 2], ["..."] * len(rows[0]), *rows[-(_SHOWN_ROWS // 2) :]]
        table = [["round", "labelled", "asked", *names], *rows]
        widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)).rstrip() for row in table]
        title = f"History of {several(len(self), 'round')}"
        return "\n".join([title, *lines]) if rows else title

    def _repr_html_(self) -> str:
        """The table of the rounds, as a notebook shows it."""
        return history_html(self)

    def plot(
        self,
        metrics: Sequence[str] | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> Any:
        """Draw metrics against labels.

        Args:
            metrics: their names, one panel each. Default: the most telling ones, at most four.
            path: where to write the picture too; its suffix (`.png`, `.svg`, `.pdf`) chooses the format.

        Returns:
            The `matplotlib.figure.Figure`, which a notebook shows.

        Raises:
            ConfigurationError: no round has such a metric.
            MissingExtraError: matplotlib is not installed.

        Example:
            >>> history = History([RoundRecord(r, 1, range(4 + r), {"val_acc": 0.5 + 0.1 * r}) for r in range(3)])
            >>> len(history.plot().axes)
            1
        """
        return plot_history(self, metrics, path)

    def curve(self, metric: str) -> tuple[IntArray, npt.NDArray[np.float64]]:
        """A learning curve; rounds that lack the metric are left out.

        Args:
            metric: name as it was logged.

        Returns:
            Label counts `(R,)` and values `(R,)`.

        Raises:
            ConfigurationError: rounds have metrics, but none has this one.

        Example:
            >>> History([RoundRecord(0, 1, labelled=[4, 2], metrics={"loss": 0.5})]).curve("loss")
            (array([2]), array([0.5]))
        """
        found = [record for record in self if metric in record.metrics]
        if not found and names_of(self, "metrics"):
            known = ", ".join(names_of(self, "metrics"))
            raise ConfigurationError(f"Expected argument `metric` to be one of {known}, but got {metric!r}.")
        counts = np.array([record.n_labelled for record in found], dtype=np.int64)
        return counts, np.array([record.metrics[metric] for record in found], dtype=np.float64)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one row per round.

        Columns: round, seed, n_labelled, each metric, n_queried, `query/<name>` of each figure on the query,
        `seconds/<name>` of each part, stop_reason. A metric that bears the name of another column is written as
        `metric/<name>`. The history of a run begins with its id and its sampler, and ends with `answered` (points of
        the query that were labelled when the next round trained) and `labels/<class>`. The file is replaced as a whole.

        Args:
            path: file to write; missing folders are made.
        """
        rows = self._rows()
        header = list(rows[0]) if rows else ["round", "seed", "n_labelled"]
        write_csv(path, header, [list(row.values()) for row in rows])

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write everything, indices and queries too, as a JSON list. Values that are not finite become null.

        Args:
            path: file to write; missing folders are made.
        """
        content = json.dumps([record_json(record) for record in self], allow_nan=False, indent=1)
        with replacing(path) as temporary:
            temporary.write_text(content + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> History:
        """What `to_json` wrote; null becomes NaN, and arrays have numpy's own types.

        Args:
            path: the file.

        Raises:
            ConfigurationError: it holds no history.
        """
        content = Path(path).read_bytes()
        try:
            return cls(RoundRecord(**json_record(entry)) for entry in json.loads(content))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"{path} is not a history that `History.to_json` wrote ({type(error).__name__}: {str(error)[:120]})."
            ) from error

    def to_dataframe(self, *, long: bool = False) -> Any:
        """The rounds, or the points asked, as a `pandas.DataFrame`.

        Args:
            long: one row per point asked, in the order of choice, with its score and every detail of the query. By
                default one row per round: the columns of `to_csv`.

        Raises:
            MissingExtraError: pandas is not installed.

        Example:
            >>> history = History([RoundRecord(0, 1, [4], query=Query([7, 2], [0.9, 0.5]))])
            >>> list(history.to_dataframe(long=True)["index"])
            [7, 2]
        """
        rows = point_rows(self) if long else self._rows()
        return require("pandas", extra="pandas").DataFrame(rows)

    def _rows(self) -> list[dict[str, Any]]:
        """One dict per round; of a run's own history, with what the run was and what became of its questions."""
        if not self.facts:
            return table_rows(self)
        facts = {name: value for name, value in self.facts.items() if value is not None}
        return [{**facts, **row} for row in frame_rows(self)]

    def state_dict(self) -> list[dict[str, Any]]:
        """All records as lists, dicts, tensors, numbers and strings, which `torch.load(weights_only=True)` accepts.

        Of the points that a round has trained on, only those are kept that the round before had not: all of them in
        every record would make a run's checkpoints grow with the square of its rounds.

        Example:
            >>> records = [RoundRecord(0, 1, labelled=[4, 2]), RoundRecord(1, 1, labelled=[4, 2, 9])]
            >>> [entry["labelled"] for entry in History(records).state_dict()]
            [tensor([2, 4]), {'added': tensor([9]), 'removed': tensor([], dtype=torch.int64)}]
        """
        before = [None, *(record.labelled for record in self[:-1])] if self else []
        return [
            {
                "round": int(record.round),
                "seed": None if record.seed is None else int(record.seed),
                "labelled": _labelled_state(record.labelled, earlier),
                "metrics": {str(name): float(value) for name, value in record.metrics.items()},
                "query": None if record.query is None else IN_STATE.encode(record.query),
                "seconds": {str(name): float(value) for name, value in record.seconds.items()},
                "stop_reason": record.stop_reason,
                "classes": {str(name): int(count) for name, count in record.classes.items()},
            }
            for record, earlier in zip(self, before, strict=True)
        ]

    @classmethod
    def from_state(cls, state: Iterable[Mapping[str, Any]]) -> History:
        """The history whose `state_dict` this is.

        Args:
            state: what `state_dict` gave.

        Example:
            >>> history = History([RoundRecord(0, 1, labelled=[4, 2])])
            >>> records_equal(History.from_state(history.state_dict()), history)
            True
        """
        history = cls()
        for entry in state:
            record = RoundRecord(
                round=entry["round"],
                seed=entry["seed"],
                labelled=_labelled_from_state(entry["labelled"], history[-1].labelled if history else None),
                metrics=dict(entry["metrics"]),
                query=None if entry["query"] is None else IN_STATE.decode(entry["query"]),
                seconds=dict(entry["seconds"]),
                stop_reason=entry["stop_reason"],
                classes=dict(entry.get("classes", {})),
            )
            history.append(record)
        return history


def records_equal(a: Iterable[RoundRecord], b: Iterable[RoundRecord]) -> bool:
    """Whether two histories are the same bit for bit, but for the time that things took.

    Args:
        a: records.
        b: records.

    Example:
        >>> fast, slow = RoundRecord(0, 1, [2], seconds={"fit": 1.0}), RoundRecord(0, 1, [2], seconds={"fit": 9.0})
        >>> records_equal([fast], [slow]), records_equal([fast], [])
        (True, False)
    """
    first, second = list(a), list(b)
    return len(first) == len(second) and all(map(_same_record, first, second))


def _same_record(a: RoundRecord, b: RoundRecord) -> bool:
    return (
        (a.round, a.seed, a.stop_reason) == (b.round, b.seed, b.stop_reason)
        and np.array_equal(a.labelled, b.labelled)
        and _same_numbers(a.metrics, b.metrics)
        and _same_query(a.query, b.query)
    )


def _same_query(a: Query | None, b: Query | None) -> bool:
    if a is None or b is None:
        return a is b
    return (
        a.details.keys() == b.details.keys()
        and _same_numbers(a.summary, b.summary)
        and _same_array(a.indices, b.indices)
        and _same_array(a.scores, b.scores)
        and all(_same_array(a.details[name], b.details[name]) for name in a.details)
    )


def _same_numbers(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    return a.keys() == b.keys() and np.array_equal([a[name] for name in a], [b[name] for name in a], equal_nan=True)


def _same_array(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def _labelled_state(labelled: IntArray, earlier: IntArray | None) -> Any:
    """What a round has trained on, by the difference from the round before."""
    if earlier is None:
        return array_state(labelled)
    added, removed = np.setdiff1d(labelled, earlier), np.setdiff1d(earlier, labelled)
    return {"added": array_state(added), "removed": array_state(removed)}


def _labelled_from_state(state: Any, earlier: IntArray | None) -> IntArray:
    if not isinstance(state, dict) or earlier is None:  # also of versions that kept all points in every record
        return array_from_state(state)
    kept = np.setdiff1d(earlier, array_from_state(state["removed"]))
    return np.union1d(kept, array_from_state(state["added"])).astype(np.int64)
