"""What a report is about: a run, read from its folder, from a history, or from a history's JSON."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_diffal.exceptions import ConfigurationError, DiffalError, ResumeError
from lightning_diffal.history.folder import STATE, load_archive
from lightning_diffal.history.history import History, RoundRecord
from lightning_diffal.history.journal import FILENAME, query_from_event, read_events
from lightning_diffal.labels.class_names import same_names
from lightning_diffal.labels.plain import label_from_plain
from lightning_diffal.labels.targets import Label
from lightning_diffal.report.items import ItemThumb
from lightning_diffal.report.kept import read_kept
from lightning_diffal.samplers.base import Query
from lightning_diffal.utils.aliases import FloatArray, IntArray

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["RunView", "view_of"]

Event = dict[str, Any]


@dataclass(frozen=True)
class RunView:
    """Everything that a report tells of.

    Args:
        history: a record per round.
        name: of the run.
        sampler: what chose the points, in words.
        n_points: of the training data set.
        class_names: where there are names.
        ids: names of points, by position.
        labels: known labels, by position.
        arrived: the round for which each label arrived, by position; 0 for those of the start.
        pending: positions asked and not answered.
        skipped: positions that nobody could label.
        facts: settings, versions and seed, by name.
        items: how points look, by position.
        kept_points: `(n,)` positions of the points whose features were kept.
        kept_projection: `(n, d)` of them.
        kept_round: whose features they are.
    """

    history: History
    name: str = "run"
    sampler: str | None = None
    n_points: int | None = None
    class_names: Sequence[str] | None = None
    ids: Mapping[int, str] = field(default_factory=dict)
    labels: Mapping[int, Label] = field(default_factory=dict)
    arrived: Mapping[int, int] = field(default_factory=dict)
    pending: frozenset[int] = frozenset()
    skipped: frozenset[int] = frozenset()
    facts: Mapping[str, Any] = field(default_factory=dict)
    items: Mapping[int, ItemThumb] = field(default_factory=dict)
    kept_points: IntArray | None = None
    kept_projection: FloatArray | None = None
    kept_round: int = 0

    def class_counts(self, *, at_start: bool = False) -> dict[str, int]:
        """Known labels of each class, by name; of classes that have a name also where there is none.

        Args:
            at_start: only those that the run began with.
        """
        counts = {str(name): 0 for name in self.class_names or ()}
        for index in self.labels:
            if not at_start or self.arrived.get(index, 0) <= 0:
                for number in self.classes_of(index):
                    name = self.class_name(number)
                    counts[name] = counts.get(name, 0) + 1
        return counts if any(counts.values()) else {}

    def point(self, index: int) -> str:
        """A point's id, or its position."""
        return self.ids.get(index, str(index))

    def class_name(self, number: int) -> str:
        """A class's name, or its number."""
        names = self.class_names or ()
        return str(names[number]) if 0 <= number < len(names) else str(number)

    def label_name(self, label: Label) -> str:
        """A label as people say it."""
        if isinstance(label, int):
            return self.class_name(label)
        return " + ".join(self.class_name(c) for c, present in enumerate(label) if present) or "none of them"

    def classes_of(self, index: int) -> list[int]:
        """The class of a labelled point; several or none for multi-label targets, none where it is not known."""
        label = self.labels.get(index)
        if isinstance(label, tuple):
            return [c for c, present in enumerate(label) if present]
        return [] if label is None else [label]


def view_of(source: History | str | os.PathLike[str], data: ActiveDataModule | None = None) -> RunView:
    """A run from whatever tells of it.

    Args:
        source: a history, the folder of a run, or a file that `History.to_json` wrote.
        data: knows labels, ids and names of classes; a folder knows most of that itself.

    Raises:
        ConfigurationError: nothing there, or no run.
        ResumeError: a file of the run that cannot be read.
    """
    if isinstance(source, History):
        facts = {name: value for name, value in source.facts.items() if value is not None}
        sampler = None if "sampler" not in facts else str(facts["sampler"])
        view = _with_arrivals(RunView(source, name=str(facts.get("run", "run")), sampler=sampler, facts=facts))
    elif not isinstance(source, str | os.PathLike):
        raise ConfigurationError(
            "Expected argument `source` to be a History, the folder of a run or a JSON file of a history, "
            f"but got {source!r}."
        )
    else:
        view = _from_path(Path(source))
    return view if data is None else _with_data(view, data)


def _from_path(path: Path) -> RunView:
    if not path.exists():
        raise ConfigurationError(f"{path} does not exist: give the folder of a run (`run_dir`), or a history's JSON.")
    try:
        if path.is_dir():
            return _from_folder(path)
        return _with_arrivals(RunView(History.from_json(path), name=path.stem))
    except DiffalError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ResumeError(
            f"{path} is not a run that this version can read ({type(error).__name__}: {error})."
        ) from error


def _from_folder(path: Path) -> RunView:
    if not (path / FILENAME).exists():
        inside = sorted(child.parent.name for child in path.glob(f"*/{FILENAME}"))
        hint = f": it holds runs, so give one of them ({', '.join(inside[:3])})" if inside else ""
        raise ConfigurationError(f"{path} is not the folder of a run, it holds no {FILENAME}{hint}.")
    events, _ = read_events(path / FILENAME)  # without the line that a run writes just now
    header = events[0]
    state = _state(path / STATE)
    pool = header["data"]["pool"] if state is None else state["data"]["pool"]
    ids = {int(i): str(name) for i, name in (pool["ids"] or {}).items()}
    places = {name: i for i, name in ids.items()}
    for event in events[1:]:  # points that were asked since
        for index, name in zip(event.get("indices", ()), event.get("ids") or (), strict=False):
            ids.setdefault(places.setdefault(str(name), index), str(name))
    labels, arrived, skipped = _labels(events, pool, places)
    asked = {i for event in events if event["kind"] == "query" for i in _positions(event, places)}
    history = History() if state is None else History.from_state(state["history"])
    history = _with_queries(history, events, places) if len(history) else _history_of(events, places)
    kept = read_kept(path)
    if kept.facts.get("run"):
        history.facts = {"run": kept.facts["run"]}
    return RunView(
        facts=kept.facts,
        items=kept.items,
        kept_points=kept.points,
        kept_projection=kept.projection,
        kept_round=kept.round,
        history=history,
        name=str(header["run"]) if path.resolve().name == str(header["run"]) else path.resolve().name,
        sampler=None if state is None else str(state["settings"]["sampler"]),
        n_points=max(int(header["n_points"]), int(pool["n_points"])),
        class_names=_class_names(header, state),
        ids=ids,
        labels=labels,
        arrived=arrived,
        pending=frozenset(asked - arrived.keys() - skipped),
        skipped=frozenset(skipped),
    )


def _class_names(header: Mapping[str, Any], state: Mapping[str, Any] | None) -> Sequence[str] | None:
    """As the run began with them; a class that was added while people labelled has its name in the state only."""
    begun: Sequence[str] | None = header.get("class_names")
    latest: Sequence[str] | None = None if state is None else state["data"].get("class_names")
    return latest if begun is not None and latest is not None and same_names(begun, latest) else begun


def _state(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    contents = load_archive(path, "Restore it, or take it away.")
    try:
        kept: dict[str, Any] = contents["active_learning"]
    except (KeyError, TypeError, IndexError):
        raise ResumeError(f"{path} holds no state of a run: restore it, or take it away.") from None
    return kept


def _positions(event: Event, places: Mapping[str, int]) -> list[int]:
    """Where an event's points are now: with ids, the data set may have changed its order since."""
    names = event.get("ids") or [None] * len(event["indices"])
    return [places.get(str(name), int(i)) for i, name in zip(event["indices"], names, strict=True)]


def _labels(
    events: Iterable[Event], pool: Mapping[str, Any], places: Mapping[str, int]
) -> tuple[dict[int, Label], dict[int, int], set[int]]:
    """Labels, the rounds in which they arrived, and what was skipped: as kept, and as the journal goes on."""
    labels: dict[int, Label] = {}
    arrived: dict[int, int] = {}
    skipped = {int(i) for i in pool["skipped"]}
    for index, label, round_ in zip(pool["labelled"], pool["labels"], pool["rounds"], strict=True):
        arrived[int(index)] = int(round_)
        if label is not None:
            labels[int(index)] = label_from_plain(label)
    for event in events:
        if event["kind"] == "skip":
            skipped |= set(_positions(event, places))
        elif event["kind"] in ("answer", "correction"):
            for index, label in zip(_positions(event, places), event["labels"], strict=True):
                labels[index] = label_from_plain(label)
                if event["kind"] == "answer":
                    arrived[index] = int(event["round"])
    return labels, arrived, skipped - arrived.keys()


def _query_of(event: Event, places: Mapping[str, int]) -> Query:
    return dataclasses.replace(query_from_event(event), indices=_positions(event, places))  # type: ignore[arg-type]


def _with_queries(history: History, events: Iterable[Event], places: Mapping[str, int]) -> History:
    """The history as it was kept, with the query that was asked since."""
    last = history[-1]
    for event in events:
        if event["kind"] == "query" and event["round"] == last.round and last.query is None:
            history[-1] = dataclasses.replace(last, query=_query_of(event, places))
    return history


def _history_of(events: Sequence[Event], places: Mapping[str, int]) -> History:
    """What the journal alone tells: labels and queries, without metrics."""
    seed, pool = events[0]["seed"], events[0]["data"]["pool"]
    history, labelled, latest = History(), {int(i) for i in pool["labelled"]}, 0
    for event in events[1:]:
        if event["kind"] == "answer":
            labelled |= set(_positions(event, places))
            latest = int(event["round"])
        elif event["kind"] == "query":
            round_ = int(event["round"])
            history.append(RoundRecord(round_, seed + round_, sorted(labelled), query=_query_of(event, places)))  # type: ignore[arg-type]
    if not len(history) or latest > history[-1].round:
        history.append(RoundRecord(latest, seed + latest, sorted(labelled)))  # type: ignore[arg-type]
    return history


def _with_arrivals(view: RunView) -> RunView:
    """A history alone knows for which round each point was labelled."""
    arrived: dict[int, int] = {}
    for record in view.history:
        for index in record.labelled.tolist():
            arrived.setdefault(index, record.round)
    if view.history and view.history[0].round == 0:
        arrived.update(dict.fromkeys(view.history[0].labelled.tolist(), 0))
    asked = {i for record in view.history if record.query is not None for i in record.query.indices.tolist()}
    return dataclasses.replace(view, arrived=arrived, pending=frozenset(asked - arrived.keys()))


def _with_data(view: RunView, data: ActiveDataModule) -> RunView:
    pool = data.pool
    labelled = data.labelled_indices
    known = dict(zip(labelled.tolist(), map(label_from_plain, data.labels.tolist()), strict=True))
    skipped = frozenset(data.skipped_indices.tolist())
    return dataclasses.replace(
        view,
        n_points=len(pool),
        class_names=view.class_names if data.class_names is None else data.class_names,
        ids=view.ids if pool.ids is None else dict(enumerate(pool.ids)),
        labels={**view.labels, **known},
        arrived={**dict(zip(known, pool.rounds_of(labelled).tolist(), strict=True)), **view.arrived},
        pending=frozenset(data.pending_indices.tolist()),
        skipped=skipped,
    )
