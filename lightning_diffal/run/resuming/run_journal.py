"""The journal of a run, seen from any process: what happens is written down, and what has happened is replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning_diffal._lightning import rank_zero_warn
from lightning_diffal.exceptions import DiffalError, ResumeError
from lightning_diffal.history.journal import query_event, query_from_event
from lightning_diffal.labels.class_order import class_moves, moved_event
from lightning_diffal.labels.events import positions_of
from lightning_diffal.labels.replay import replay
from lightning_diffal.labels.targets import parse_label
from lightning_diffal.run.context import RunContext
from lightning_diffal.run.resuming.said_before import said_before
from lightning_diffal.samplers.base import Query
from lightning_diffal.utils.counts import several

__all__ = ["RunJournal"]


class RunJournal:
    """The first process reads and writes the run's journal, and all apply the same.

    Args:
        context: the run, whose `folder` is `None` on other processes, and where nothing is written.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context

    @property
    def is_behind(self) -> bool:
        """Whether the journal knows what comes next."""
        return self.context.ranks.decide(
            lambda: self.context.folder is not None and self.context.folder.journal.behind > 0
        )

    def replayed_query(self) -> Query | None:
        """What the journal says was asked next, if it knows; labels given before that are applied.

        Raises:
            ResumeError: the journal goes on in another round.
        """
        self.replay_labels()
        folder, state = self.context.folder, self.context.state

        def read() -> tuple[dict[str, Any], str] | None:
            event = None if folder is None else folder.journal.next_event(["query"])
            if folder is None or event is None:
                return None
            if event["round"] != state.round:
                raise ResumeError(
                    f"The journal goes on with a query of round {event['round']}, but the run is in round "
                    f"{state.round}: it is not the journal of this checkpoint."
                )
            return self._as_now(event), folder.journal.where()

        found = self.context.ranks.decide(read)
        if found is None:
            return None
        event, where = found
        query = query_from_event(event)
        self._note_names(event)
        names, pool = self.context.journal_ids, self.context.data.pool
        if names:
            named = {"indices": list(names), "ids": list(names.values())}
            now = dict(zip(names, positions_of(named, pool.ids), strict=True))
            query = query.moved(lambda index: now.get(index, -1))
        wrong = set(query.indices.tolist()) - set(pool.pool_indices.tolist())
        if wrong:
            raise ResumeError(
                f"{where} does not fit this run: it asks point {min(wrong)}, which is not in the pool. Give the data "
                "set and the checkpoint of this run."
            )
        return query

    def record(self, event: dict[str, Any]) -> None:
        """Write a line down, in the order of the classes that the folder began with."""
        folder, data = self.context.folder, self.context.data
        assert folder is not None, "it writes"
        moves = class_moves(data.ordered_names, folder.class_names)
        folder.journal.record(event if moves is None else moved_event(event, moves))

    def _as_now(self, event: dict[str, Any]) -> dict[str, Any]:
        """A line in the present order of the classes."""
        folder, data = self.context.folder, self.context.data
        moves = None if folder is None else class_moves(folder.class_names, data.ordered_names)
        return event if moves is None else moved_event(event, moves)

    def _note_names(self, event: dict[str, Any]) -> None:
        """Keep the ids of a line's points by where they stood then."""
        if event.get("ids") is not None:
            self.context.journal_ids.update(zip(event["indices"], event["ids"], strict=True))

    def write_down(self, query: Query) -> None:
        """Put a query into the journal, before it is asked."""
        if self.context.folder is not None:
            ids = self.context.data.pool.ids
            names = None if ids is None else [ids[i] for i in query.indices]
            self.record(query_event(query, self.context.state.round, names))

    def replay_labels(self) -> None:
        """Apply the labels, corrections and skips that the journal says came next, up to a query."""
        while self._replay_next():
            pass

    def replay_answers(self, is_enough: Callable[[], bool]) -> None:
        """Apply what the journal says came while answers were collected.

        What was labelled by hand after the next round had trained stays for then: a hook may do it once more.

        Args:
            is_enough: whether the next round can train.
        """
        number = self.context.state.round + 1
        while self._replay_next(number) or (not is_enough() and self._replay_next()):
            pass

    def _replay_next(self, round_: int | None = None) -> bool:
        """Apply the next line that is not a query, and of answers only those of this round; whether there was one."""
        folder = self.context.folder

        def read() -> tuple[dict[str, Any], str] | None:
            event = None if folder is None else folder.journal.next_event(["answer", "correction", "skip"], round_)
            return None if folder is None or event is None else (self._as_now(event), folder.journal.where())

        found = self.context.ranks.decide(read)
        if found is None:
            return False
        event, where = found
        self._note_names(event)
        data = self.context.data
        event = self._without_classes_beyond(event, where)
        try:
            for label in event.get("labels", ()):
                parse_label(label, data.num_classes)
            replay(data.pool, event)
        except DiffalError as error:
            raise ResumeError(f"{where} does not fit this run: {error}") from error
        return True

    def _without_classes_beyond(self, event: dict[str, Any], where: str) -> dict[str, Any]:
        """A line without labels that the model has no outputs for, which earlier versions took: they are asked again.

        Every fit of such a run would fail; so it is the next answer that counts.
        """
        num_classes, labels = self.context.data.num_classes, event.get("labels", ())
        if num_classes is None:
            return event
        beyond = [i for i, label in enumerate(labels) if isinstance(label, int) and label >= num_classes]
        if not beyond:
            return event
        named = event.get("ids") or event["indices"]
        rank_zero_warn(
            f"{where} gives point {named[beyond[0]]!r} class {labels[beyond[0]]}, but there are {num_classes} classes, "
            f"0 to {num_classes - 1} ({len(beyond)} such labels): they do not count, and are asked for again."
        )
        kept = [i for i in range(len(labels)) if i not in set(beyond)]
        lists = {name: [event[name][i] for i in kept] for name in ("indices", "ids", "labels") if event.get(name)}
        return {**event, **lists}

    def take_in_missed(self) -> None:
        """Label what a script had labelled before it went on with this run, which does not know of it.

        Not before the run is where its journal ends: until then everything happens as it did.
        """
        pool = self.context.data.pool
        if self.is_behind:
            return
        missed = self.context.ranks.decide(lambda: pool.missed)
        changes = self.context.ranks.decide(
            lambda: said_before(pool, self.context.folder, self.context.data.ordered_names)
        )
        pool.missed, pool.given_before, pool.corrected_before, pool.skipped_before = {}, {}, {}, set()
        known = set(pool.labelled_indices.tolist())
        new = {index: label for index, label in missed.items() if index not in known}
        if new:
            self.context.monitor.status.say(
                f"{several(len(new), 'label')} given before this fit: they join those of the run."
            )
            pool.label(list(new), list(new.values()), round_=0)
        if changes.corrections or changes.skips:
            self.context.monitor.status.say(
                f"Before this fit {several(len(changes.corrections), 'label')} corrected, "
                f"{several(len(changes.skips), 'point')} skipped: that counts."
            )
            pool.correct(list(changes.corrections), list(changes.corrections.values()))
            pool.skip(changes.skips)
        if changes.contradictions:
            rank_zero_warn(
                "What was said of labels before this fit contradicts what the run has learned since, which stays: "
                f"{'; '.join(changes.contradictions)}. Correct them where the answers are given, or with "
                "`data.correct` in a hook of the fit."
            )
